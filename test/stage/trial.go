package stage

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-mcp/test/harness"
)

// errCut is the end of a connection in the middle of a request: a gateway cuts a request
// so when its token is revoked.
var errCut = errors.New("the connection was cut")

// errUndecided is the 503 of a gateway that could not ask Vault in time.
var errUndecided = errors.New("the gateway could not ask Vault")

// trial is the argument of TryAdd's calls, and of no others.
const trial = `{"a":2,"b":40}`

// TryAdd is Add for a token that may end meanwhile: it returns the status. A cut request
// may still be on its way to the server when a later one is answered, so Untouched and
// Received do not count these.
func (s *Stage) TryAdd(t *testing.T, token string) (int, error) {
	t.Helper()
	tool := s.At.Tool(Calculator, "add")
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL(Calculator),
		strings.NewReader(harness.CallBody(tool, trial)))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"Authorization": "Bearer " + token, "Content-Type": "application/json", "Accept": "application/json, text/event-stream",
		"Mcp-Protocol-Version": harness.StatelessEra, "Mcp-Method": "tools/call", "Mcp-Name": tool,
	} {
		request.Header.Set(name, value)
	}
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	if err != nil {
		return 0, errCut
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return 0, errCut
	}
	return response.StatusCode, nil
}

// isTrial reports whether TryAdd sent the request.
func isTrial(r *harness.Request) bool { return bytes.Contains(r.Body, []byte(trial)) }

// RefusedSoon waits until an accepted token is refused. A gateway learns of a revocation
// within a second. The benchmarks measure the time.
func (s *Stage) RefusedSoon(t *testing.T, token string) {
	t.Helper()
	s.Within(10*time.Second, "the token is refused", func() error {
		switch status, err := s.TryAdd(t, token); {
		case err != nil:
			return err
		case status == http.StatusUnauthorized:
			return nil
		case status == http.StatusOK:
			return errors.New("it is accepted")
		case status == http.StatusServiceUnavailable:
			return errUndecided
		default:
			t.Fatalf("answered %d", status)
			return nil
		}
	})
}

// lookupBound bounds the time of a lookup: see docs/reliability.md.
const lookupBound = time.Second

// AcceptedUntil fails the test unless the token is accepted until its end, and
// refused from then on.
func (s *Stage) AcceptedUntil(t *testing.T, token string, end time.Time) {
	t.Helper()
	s.Works(t, token)
	s.Eventually("the token expires", func() error {
		asked := time.Now()
		status, err := s.TryAdd(t, token)
		switch answered := time.Now(); {
		case err != nil:
			return err
		case status == http.StatusOK && asked.After(end):
			t.Fatalf("accepted %s after its end", asked.Sub(end))
		case status == http.StatusUnauthorized && answered.Before(end.Add(-lookupBound)):
			// A gateway counts from the start of its lookup, so it may be early by a
			// lookup's time.
			t.Fatalf("refused %s before its end", end.Sub(answered))
		case status == http.StatusUnauthorized:
			return nil
		case status == http.StatusServiceUnavailable:
			return errUndecided
		case status != http.StatusOK:
			t.Fatalf("answered %d", status)
		}
		return errors.New("it is accepted")
	})
}
