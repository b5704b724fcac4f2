package test

import (
	"net/http"
	"testing"
	"time"

	"vault-plugin-secrets-mcp/test/harness"
)

func TestRotatedTokenOverlapsItsPredecessor(t *testing.T) {
	s := newStage(t, harness.GatewayOptions{})
	first := s.client("cursor", nil)
	s.works(t, first)

	data := s.Write("mcp/rotate-client/cursor", harness.Map{"grace_period": "4s"})
	second := s.Token(data)
	if second == first {
		t.Fatal("the token is the same")
	}
	end := graceEnd(t, data)
	s.works(t, first)
	s.works(t, second)

	s.acceptedUntil(t, first, end)
	s.works(t, second)
	s.forget()
	wantRefusal(t, s.add(first), http.StatusUnauthorized)
	s.untouched(t)
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
	return when(t, first["expires_at"])
}

func TestRotationsEachKeepTheirOwnEnd(t *testing.T) {
	s := newStage(t, harness.GatewayOptions{})
	first := s.client("cursor", nil)
	data := s.Write("mcp/rotate-client/cursor", harness.Map{"grace_period": "3s"})
	second, end := s.Token(data), graceEnd(t, data)
	third := s.Token(s.Write("mcp/rotate-client/cursor", harness.Map{"grace_period": "1h"}))

	s.acceptedUntil(t, first, end)
	s.works(t, second)
	s.works(t, third)

	last := s.Token(s.Write("mcp/rotate-client/cursor", harness.Map{"grace_period": 0}))
	s.refusedSoon(t, second)
	s.refusedSoon(t, third)
	s.works(t, last)
}

func TestRotationRepeatedUnderItsIDReplacesTheLostTokenAlone(t *testing.T) {
	s := newStage(t, harness.GatewayOptions{})
	first := s.client("cursor", nil)
	data := s.Write("mcp/rotate-client/cursor", harness.Map{"grace_period": "1h", "rotation_id": "deploy-7"})
	lost, end := s.Token(data), graceEnd(t, data)
	s.works(t, lost)

	data = s.Write("mcp/rotate-client/cursor", harness.Map{"grace_period": "2h", "rotation_id": "deploy-7"})
	again := s.Token(data)
	if got := graceEnd(t, data); !got.Equal(end) {
		t.Errorf("the first token's end moved from %s to %s", end, got)
	}
	s.refusedSoon(t, lost)
	s.works(t, first)
	s.works(t, again)
}
