package test

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

// The servers of a stage.
const (
	calculator = "calculator" // what the stage's clients may reach
	forbidden  = "forbidden"  // what none of them may
	absent     = "absent"     // what nobody has registered
)

// stage is one gateway before two upstreams, both of them the demo calculator:
// one that clients may reach, and one that they may not.
type stage struct {
	*harness.Harness
	gateway            *harness.Gateway
	allowed, forbidden *harness.Upstream

	t        *testing.T
	at       endpoint          // at which the gateway is asked
	sessions map[string]string // with the endpoint of all servers, by token
	created  map[string]bool   // clients, by name
}

func newStage(t *testing.T, opts harness.GatewayOptions) *stage {
	t.Helper()
	h := harness.New(t)
	s := &stage{Harness: h, t: t, allowed: h.StartUpstream(nil), forbidden: h.StartUpstream(nil), created: map[string]bool{}}
	h.Write("mcp/servers/"+calculator, harness.Map{"transport": "http", "url": s.allowed.URL})
	h.Write("mcp/servers/"+forbidden, harness.Map{"transport": "http", "url": s.forbidden.URL})
	s.gateway = h.StartGateway(opts)
	return s
}

// in returns the stage for a subtest.
func (s *stage) in(t *testing.T) *stage {
	t.Helper()
	view := *s
	view.Harness, view.t = s.Harness.In(t), t
	return &view
}

// client creates a client of the calculator and returns its token.
func (s *stage) client(name string, more harness.Map) string {
	s.created[name] = true
	data := harness.Map{"allowed_servers": calculator}
	for key, value := range more {
		data[key] = value
	}
	return s.CreateClient(name, data)
}

// add calls the calculator's tool through the gateway, in one POST.
func (s *stage) add(token string) harness.Response {
	return s.Call(s.url(calculator), token, s.at.tool(calculator, "add"), `{"a":40,"b":2}`)
}

// errCut is the end of a connection in the middle of a request, which is how a
// gateway ends one whose token was just revoked.
var errCut = errors.New("the connection was cut")

// errUndecided is the 503 of a gateway that could not ask Vault in time.
var errUndecided = errors.New("the gateway could not ask Vault")

// trial is what tryAdd asks, and nothing else does.
const trial = `{"a":2,"b":40}`

// tryAdd is add for a token that may end meanwhile: it returns the status. A
// request of its that was cut may still be on its way to the server when a later
// one is answered, so untouched and received do not count them.
func (s *stage) tryAdd(t *testing.T, token string) (int, error) {
	t.Helper()
	tool := s.at.tool(calculator, "add")
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url(calculator),
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

// isTrial reports whether tryAdd sent the request.
func isTrial(r *harness.Request) bool { return bytes.Contains(r.Body, []byte(trial)) }

// works fails the test unless a token opens the calculator.
func (s *stage) works(t *testing.T, token string) {
	t.Helper()
	if r := s.add(token); r.Status != http.StatusOK || !strings.Contains(r.Body, "42") {
		t.Fatalf("the call is answered %d %s", r.Status, r.Body)
	}
}

// untouched fails the test if an upstream was asked anything since forget. At
// the endpoint of all servers, what the gateway asks for itself is not counted.
func (s *stage) untouched(t *testing.T) {
	t.Helper()
	for name, upstream := range map[string]*harness.Upstream{calculator: s.allowed, forbidden: s.forbidden} {
		for _, r := range upstream.Requests() {
			if upstream == s.allowed && (s.isOwn(&r) || isTrial(&r)) {
				continue
			}
			t.Errorf("the server %s was sent %s %s %q", name, r.Method, r.Path, r.Body)
		}
	}
}

// forget has the upstreams forget what they were asked.
func (s *stage) forget() {
	s.allowed.Forget()
	s.forbidden.Forget()
}

// wantRefusal fails the test unless the answer is a refusal with the given
// status, in the gateway's own form and with the id of the request.
func wantRefusal(t *testing.T, r harness.Response, status int) {
	t.Helper()
	if r.Status != status {
		t.Errorf("answered %d, want %d: %s", r.Status, status, r.Body)
	}
	if !strings.Contains(r.Body, `"request_id":"`) {
		t.Errorf("the refusal names no request id: %s", r.Body)
	}
}

// when reads a time of the engine's API.
func when(t *testing.T, text any) time.Time {
	t.Helper()
	s, ok := text.(string)
	if !ok {
		t.Fatalf("%v is no time", text)
	}
	at, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		t.Fatal(err)
	}
	return at
}
