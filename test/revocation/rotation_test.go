package revocation

import (
	"net/http"
	"testing"
	"time"

	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/stage"
)

func TestRotatedTokenOverlapsItsPredecessor(t *testing.T) {
	s := stage.New(t, harness.GatewayOptions{})
	first := s.Client("cursor", nil)
	s.Works(t, first)

	data := s.Write("mcp/rotate-client/cursor", harness.Map{"grace_period": "4s"})
	second := s.Token(data)
	if second == first {
		t.Fatal("the token is the same")
	}
	end := graceEnd(t, data)
	s.Works(t, first)
	s.Works(t, second)

	s.AcceptedUntil(t, first, end)
	s.Works(t, second)
	s.Forget()
	stage.WantRefusal(t, s.Add(first), http.StatusUnauthorized)
	s.Untouched(t)
}

// graceEnd returns when the newest predecessor of a rotated token ends.
func graceEnd(t *testing.T, data harness.Map) (end time.Time) {
	t.Helper()
	list, ok := data["predecessors"].([]any)
	if !ok || len(list) == 0 {
		t.Fatalf("the answer names no predecessor: %v", data["predecessors"])
	}
	first, ok := list[0].(harness.Map)
	if !ok {
		t.Fatalf("a predecessor is %v", list[0])
	}
	return stage.Time(t, first["expires_at"])
}
