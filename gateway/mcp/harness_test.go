package mcp

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/policy"
	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/gatewaytest"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

// registry is a Registry under a test's control.
type registry struct {
	mu      sync.Mutex
	servers map[string]*grants.Server
	keys    *grants.SessionKeys
	refresh func() (*grants.SessionKeys, error) // nil: there are no others
	watch   func(grants.End)
}

func (r *registry) Server(name string) *grants.Server {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.servers[name]
}

func (r *registry) SessionKeys() *grants.SessionKeys {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.keys
}

func (r *registry) RefreshSessionKeys(context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refresh == nil {
		return nil
	}
	keys, err := r.refresh()
	if err == nil {
		r.keys = keys
	}
	return err
}

func (r *registry) OnEnd(f func(grants.End)) { r.watch = f }

func (r *registry) Live(grants.Principal) bool { return true }

func (r *registry) put(server *grants.Server) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.servers[server.Name] = server
}

// sink collects audit lines.
type sink struct {
	mu       sync.Mutex
	lines    []string // "decision allowed", "refused reason", "outcome status"
	outcomes []access.Outcome
	refusals []access.Refusal
	tools    []string
	items    []string
	broken   error
}

func (s *sink) Decision(r *access.Request, d access.Decision) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return s.broken
	}
	s.lines = append(s.lines, "decision "+d.Reason)
	s.tools = append(s.tools, r.Tool)
	s.items = append(s.items, "tool="+r.Tool, "prompt="+r.Prompt, "resource="+r.ResourceURI)
	return nil
}

func (s *sink) Refused(_ *access.Request, f *access.Refusal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, "refused "+f.Reason)
	s.refusals = append(s.refusals, *f)
}

func (s *sink) Outcome(_ *access.Request, o access.Outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, "outcome")
	s.outcomes = append(s.outcomes, o)
}

// named is what the allowed requests have named.
func (s *sink) named() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.items...)
}

func (s *sink) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.lines...)
}

// lastReason is that of the last refusal.
func (s *sink) lastReason() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refusals[len(s.refusals)-1].Reason
}

// gateway is a handler behind a stand-in for the access middleware, on a
// listener of its own. Its client asks for the server "up", as alice.
type gateway struct {
	*Handler
	gatewaytest.Client
	registry *registry
	sink     *sink

	mu     sync.Mutex
	grants map[string]*grants.Grant // by token, which is the client's name
	cuts   map[string]context.CancelCauseFunc
}

func testConfig() *config.Config {
	return &config.Config{
		Limits: config.Limits{
			MaxBody: 1 << 20, MaxList: 1 << 20, MaxStreamAge: time.Hour, KeepAlive: time.Hour,
		},
	}
}

// grant makes a grant as the engine's answer would.
func grant(t testing.TB, client string, allowedTools, deniedTools []string) *grants.Grant {
	t.Helper()
	return grantWith(t, client, policy.Lists{AllowedTools: allowedTools, DeniedTools: deniedTools})
}

// grantWith is a grant for all servers, with rules about items.
func grantWith(t testing.TB, client string, lists policy.Lists) *grants.Grant {
	t.Helper()
	lists.AllowedServers = []string{"*"}
	g, err := grants.NewGrant(&vaultclient.Lookup{
		Active: true, Client: client, ClientID: "id-of-" + client, Accessor: "accessor-of-" + client,
		Rights: []policy.Rights{{Lists: lists}},
	}, time.Now())
	require.NoError(t, err)
	return g
}

func newGateway(t testing.TB, c *config.Config, servers ...*grants.Server) *gateway {
	t.Helper()
	g := &gateway{
		registry: &registry{
			servers: map[string]*grants.Server{},
			keys:    &grants.SessionKeys{Current: 1, Keys: map[int][32]byte{1: {1}}, MountID: "mount"},
		},
		sink:   &sink{},
		grants: map[string]*grants.Grant{"alice": grant(t, "alice", nil, nil), "bob": grant(t, "bob", nil, nil)},
		cuts:   map[string]context.CancelCauseFunc{},
	}
	for _, server := range servers {
		g.registry.put(server)
	}
	g.Handler = New(Options{Registry: g.registry, Config: c, Log: hclog.New(&hclog.LoggerOptions{Output: testWriter{t}})})
	t.Cleanup(g.Close)
	listener := httptest.NewServer(http.HandlerFunc(g.admit))
	t.Cleanup(listener.Close)
	g.Client = gatewaytest.Client{URL: listener.URL + "/servers/up/mcp", Token: "alice"}
	return g
}

// admit is what the access middleware does, without the checks: the bearer
// token is the client's name.
func (g *gateway) admit(w http.ResponseWriter, r *http.Request) {
	client := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	name := strings.Split(r.URL.Path, "/")[2]
	request := &access.Request{
		ID: "request-1", Start: time.Now(), Source: netip.MustParseAddr("127.0.0.1"),
		Server: g.registry.Server(name),
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	g.mu.Lock()
	request.Grant = g.grants[client]
	g.cuts[client] = cancel
	g.mu.Unlock()
	g.ServeHTTP(w, r.WithContext(access.NewContext(ctx, request, g.sink)))
}

// cut ends the client's last request as a revocation does.
func (g *gateway) cut(client string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.cuts[client](grants.ErrInactive)
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// registration is how an upstream is registered.
func registration(up *gatewaytest.Upstream) *grants.Server {
	return &grants.Server{Name: "up", ID: "registration-1", Transport: grants.TransportHTTP, URL: up.URL + "/mcp?key=secret"}
}

const (
	ping      = gatewaytest.Ping
	pong      = gatewaytest.Pong
	initOnce  = gatewaytest.Initialize
	callEcho  = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"}}`
	callOther = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get-env"}}`
	listTools = `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`
)
