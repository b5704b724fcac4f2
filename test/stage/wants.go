package stage

import (
	"errors"
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-mcp/test/harness"
)

// InForce bounds the time until a change has reached every gateway: the promised second,
// and another one for the machine, which runs all of them, Vault and other tests. The
// benchmarks measure the real time.
const InForce = 2 * time.Second

// ToolCalls counts the tool calls that a server has seen.
func ToolCalls(upstream *harness.Upstream) (n int) {
	for _, r := range upstream.Requests() {
		if strings.Contains(string(r.Body), `"tools/call"`) {
			n++
		}
	}
	return n
}

// AwaitRefusal returns the nth audit line about a client that was refused a server. A
// gateway writes refusals soon after their answers, not before.
func AwaitRefusal(h *harness.Harness, gateway *harness.Gateway, client, server string, n int) (line harness.Map) {
	h.Eventually("the audit line of the refusal", func() error {
		seen := 0
		for _, line = range gateway.Audit() {
			if line["client"] == client && line["server"] == server && line["decision"] == "deny" {
				if seen++; seen == n {
					return nil
				}
			}
		}
		return errors.New("none yet")
	})
	return line
}

// WithoutID removes the request's id from a refusal.
func WithoutID(body string) string {
	before, after, _ := strings.Cut(body, `"request_id":"`)
	_, after, _ = strings.Cut(after, `"`)
	return before + after
}

// WantRefusal fails the test unless the answer is a refusal with the given
// status, in the gateway's own form and with the id of the request.
func WantRefusal(t *testing.T, r harness.Response, status int) {
	t.Helper()
	if r.Status != status {
		t.Errorf("answered %d, want %d: %s", r.Status, status, r.Body)
	}
	if !strings.Contains(r.Body, `"request_id":"`) {
		t.Errorf("the refusal names no request id: %s", r.Body)
	}
}

// Time reads a time of the engine's API.
func Time(t *testing.T, text any) time.Time {
	t.Helper()
	s, ok := text.(string)
	if !ok {
		t.Fatalf("%v is not a time", text)
	}
	at, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		t.Fatal(err)
	}
	return at
}
