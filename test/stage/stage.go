// Package stage sets up the usual start of a black-box test: one gateway before two
// upstreams, and clients that use it. It also has their actions, and checks of the
// results.
package stage

import (
	"net/http"
	"strings"
	"testing"

	"vault-plugin-secrets-mcp/test/harness"
)

// The servers of a stage.
const (
	Calculator = "calculator" // the stage's clients may reach it
	Forbidden  = "forbidden"  // none of them may
	Absent     = "absent"     // not registered
)

// Stage is one gateway before two upstreams, both of them the demo calculator:
// one that clients may reach, and one that they may not.
type Stage struct {
	*harness.Harness
	Gateway            *harness.Gateway
	Allowed, Forbidden *harness.Upstream
	// At is the endpoint that clients use.
	At Endpoint
	// T is the stage's test or subtest.
	T *testing.T

	sessions map[string]string // with the endpoint of all servers, by token
	created  map[string]bool   // clients, by name
}

// New starts a stage, with a Vault and a gateway of its own.
func New(t *testing.T, opts harness.GatewayOptions) *Stage {
	t.Helper()
	h := harness.New(t)
	s := &Stage{Harness: h, T: t, Allowed: h.StartUpstream(nil), Forbidden: h.StartUpstream(nil), created: map[string]bool{}}
	h.Write("mcp/servers/"+Calculator, harness.Map{"transport": "http", "url": s.Allowed.URL})
	h.Write("mcp/servers/"+Forbidden, harness.Map{"transport": "http", "url": s.Forbidden.URL})
	s.Gateway = h.StartGateway(opts)
	return s
}

// In returns the stage for a subtest.
func (s *Stage) In(t *testing.T) *Stage {
	t.Helper()
	view := *s
	view.Harness, view.T = s.Harness.In(t), t
	return &view
}

// Client creates a client of the calculator and returns its token.
func (s *Stage) Client(name string, more harness.Map) string {
	s.created[name] = true
	data := harness.Map{"allowed_servers": Calculator}
	for key, value := range more {
		data[key] = value
	}
	return s.CreateClient(name, data)
}

// Add calls the calculator's tool through the gateway, in one POST.
func (s *Stage) Add(token string) harness.Response {
	return s.Call(s.URL(Calculator), token, s.At.Tool(Calculator, "add"), `{"a":40,"b":2}`)
}

// Works fails the test unless a token can call the calculator.
func (s *Stage) Works(t *testing.T, token string) {
	t.Helper()
	if r := s.Add(token); r.Status != http.StatusOK || !strings.Contains(r.Body, "42") {
		t.Fatalf("the answer to the call is %d %s", r.Status, r.Body)
	}
}

// Untouched fails the test if an upstream got a request since Forget. At the endpoint of
// all servers, it does not count the gateway's own requests.
func (s *Stage) Untouched(t *testing.T) {
	t.Helper()
	for name, upstream := range map[string]*harness.Upstream{Calculator: s.Allowed, Forbidden: s.Forbidden} {
		for _, r := range upstream.Requests() {
			if upstream == s.Allowed && (s.isOwn(&r) || isTrial(&r)) {
				continue
			}
			t.Errorf("the server %s has got %s %s %q", name, r.Method, r.Path, r.Body)
		}
	}
}

// Forget drops the upstreams' recorded requests.
func (s *Stage) Forget() {
	s.Allowed.Forget()
	s.Forbidden.Forget()
}
