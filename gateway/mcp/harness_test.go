package mcp

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/config"
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

func (s *sink) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.lines...)
}

// gateway is a handler behind a stand-in for the access middleware, on a
// listener of its own.
type gateway struct {
	*Handler
	registry *registry
	sink     *sink
	url      string // of the server "up"

	mu     sync.Mutex
	grants map[string]*grants.Grant // by client, the test's token
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
	g, err := grants.NewGrant(&vaultclient.Lookup{
		Active: true, Client: client, ClientID: "id-of-" + client, Accessor: "accessor-of-" + client,
		AllowedServers: []string{"*"}, AllowedTools: allowedTools, DeniedTools: deniedTools,
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
	g.url = listener.URL + "/servers/up/mcp"
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

// answer is a whole answer of the gateway.
type answer struct {
	status int
	header http.Header
	body   string
}

// ask sends a request as a client, by default a POST of alice.
func (g *gateway) ask(t testing.TB, body string, pairs ...string) answer {
	t.Helper()
	r, err := g.do(body, pairs...)
	require.NoError(t, err)
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	return answer{status: r.StatusCode, header: r.Header, body: string(text)}
}

// do starts a request. Pairs are headers, and ":method", ":client", ":server".
func (g *gateway) do(body string, pairs ...string) (*http.Response, error) {
	method, client, url := http.MethodPost, "alice", g.url
	header := http.Header{"Accept": {"application/json, text/event-stream"}, "Content-Type": {"application/json"}}
	for i := 0; i < len(pairs); i += 2 {
		switch key, value := pairs[i], pairs[i+1]; key {
		case ":method":
			method = value
		case ":client":
			client = value
		case ":server":
			url = strings.Replace(url, "/up/", "/"+value+"/", 1)
		default:
			if value == "" {
				header.Del(key)
			} else {
				header.Add(key, value)
			}
		}
	}
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	r, err := http.NewRequest(method, url, reader)
	if err != nil {
		return nil, err
	}
	r.Header = header
	r.Header.Set("Authorization", "Bearer "+client)
	return http.DefaultTransport.RoundTrip(r)
}

// upstreamFake is an upstream that records what it was sent.
type upstreamFake struct {
	*httptest.Server
	mu       sync.Mutex
	requests []*http.Request
	bodies   []string
}

func newUpstreamFake(t testing.TB, handle http.HandlerFunc) *upstreamFake {
	t.Helper()
	u := &upstreamFake{}
	u.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Error(err)
		}
		u.mu.Lock()
		u.requests = append(u.requests, r)
		u.bodies = append(u.bodies, string(body))
		u.mu.Unlock()
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		handle(w, r)
	}))
	t.Cleanup(u.Close)
	return u
}

func (u *upstreamFake) count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.requests)
}

func (u *upstreamFake) last() (*http.Request, string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.requests[len(u.requests)-1], u.bodies[len(u.bodies)-1]
}

func (u *upstreamFake) server() *grants.Server {
	return &grants.Server{Name: "up", ID: "registration-1", Transport: grants.TransportHTTP, URL: u.URL + "/mcp?key=secret"}
}

const (
	ping      = `{"jsonrpc":"2.0","id":1,"method":"ping"}`
	pong      = `{"jsonrpc":"2.0","id":1,"result":{}}`
	callEcho  = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"}}`
	callOther = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get-env"}}`
	listTools = `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`
	initOnce  = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`
)

// reply answers with JSON.
func reply(w http.ResponseWriter, body string) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, body)
}

// eventually waits until the condition holds.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, 10*time.Second, time.Millisecond, what)
}
