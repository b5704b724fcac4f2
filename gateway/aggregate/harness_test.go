package aggregate

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/gatewaytest"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/grants/grantstest"
	"vault-plugin-secrets-mcp/gateway/internal/scripted"
	"vault-plugin-secrets-mcp/gateway/mcp"
	"vault-plugin-secrets-mcp/gateway/pins"
	"vault-plugin-secrets-mcp/gateway/seal"
)

// alice may reach everything, bob the server "calc" alone.
const (
	alice = "alice-token-0123456789"
	bob   = "bob-token-0123456789"
)

func TestMain(m *testing.M) {
	scripted.Main()
	os.Exit(m.Run())
}

// stage serves requests as the gateway does: through the middleware, this package and the
// servers' own endpoints. Vault is a stand-in.
type stage struct {
	t       testing.TB
	vault   *grantstest.Vault
	handler *Handler
	url     string
	audit   string
	memory  *access.Memory
	log     *gatewaytest.Log
}

// publicURL is how the gateway is reached by those who sign in.
const publicURL = "https://mcp.example.com"

// noPages stand for the handler of sign-in.
type noPages struct{ http.Handler }

func (noPages) Serves(string) bool { return false }

// unlimited is more memory than any test takes.
var unlimited = config.Limits{MaxBuffered: 1 << 40, MaxBufferedPerClient: 1 << 40}

// newStage registers servers: names and URLs.
func newStage(t testing.TB, servers map[string]string) *stage {
	t.Helper()
	s := &stage{t: t, vault: grantstest.New(t), audit: filepath.Join(t.TempDir(), "audit.log"), log: &gatewaytest.Log{}}
	s.memory = access.NewMemory(unlimited)
	for name, at := range servers {
		s.vault.AddServer(name, at)
	}
	s.vault.AddToken(alice, "alice", nil)
	s.vault.AddToken(bob, "bob", grantstest.Data{"allowed_servers": []string{"calc"}})
	audit, err := access.OpenAuditLog(config.Audit{File: s.audit}, hclog.NewNullLogger())
	require.NoError(t, err)
	program, err := os.Executable()
	require.NoError(t, err)
	settings := &config.Config{
		Limits: config.Limits{MaxBody: 1 << 20, MaxList: 4 << 20, MaxStreamAge: time.Hour, KeepAlive: time.Hour},
		Stdio: &config.Stdio{
			AllowedCommands: []string{program}, IdleTimeout: time.Minute, StopTimeout: 5 * time.Second,
			MaxChildren: 10, MaxChildrenPerClient: 10,
		},
	}
	b := s.vault.Broker(grants.Options{Cold: access.NewColdLimiter(grantstest.Unlimited)})
	s.vault.Await("the session keys", func() bool { return b.SessionKeys() != nil })
	log := hclog.New(&hclog.LoggerOptions{Output: s.log, Level: hclog.Debug})
	keeper := pins.New(pins.Options{Registry: b.Server, Log: log}) // it does not run, so nothing is reported
	next := mcp.New(mcp.Options{Registry: b, Config: settings, Pins: keeper, Log: log})
	s.handler = New(Options{Registry: b, Config: settings, Version: "test", Next: next, Log: log, Sealer: seal.New(b.SessionKeys), Pins: keeper})
	s.handler.listWait = 30 * time.Second // also on a busy machine; there is no longer wait for the first server
	public, err := url.Parse(publicURL)
	require.NoError(t, err)
	gate := access.New(access.Options{
		Broker: b, Audit: audit, Listener: config.Listener{Address: "127.0.0.1:0", PublicURL: public}, Limits: settings.Limits,
		Next: next, Aggregate: s.handler, Memory: s.memory, SignIn: noPages{},
	})
	listener := httptest.NewServer(gate)
	s.url = listener.URL + "/mcp"
	t.Cleanup(func() {
		listener.CloseClientConnections()
		listener.Close()
		s.handler.Close()
		next.Close()
		gate.Close()
		audit.Close()
		if t.Failed() {
			t.Log(s.log.String())
		}
	})
	return s
}

// got is a whole answer.
type got struct {
	status int
	header http.Header
	body   string
}

// message is the JSON-RPC message of an answer: of JSON, or of a stream.
func (g got) message() string {
	for line := range strings.SplitSeq(g.body, "\n") {
		if data, ok := strings.CutPrefix(line, "data: "); ok && strings.Contains(data, `"id"`) && !strings.Contains(data, `"method"`) {
			return data
		}
	}
	return strings.TrimSpace(g.body)
}

// do sends a request. Pairs are headers, and ":method", ":token", ":path".
func (s *stage) do(body string, pairs ...string) (*http.Response, error) {
	return s.doWith(context.Background(), body, pairs...)
}

// doWith is do for a client that may go.
func (s *stage) doWith(ctx context.Context, body string, pairs ...string) (*http.Response, error) {
	if body == "" {
		return s.doFrom(ctx, nil, pairs...)
	}
	return s.doFrom(ctx, strings.NewReader(body), pairs...)
}

// doFrom is doWith for a body that comes in its time; nil: there is none.
func (s *stage) doFrom(ctx context.Context, reader io.Reader, pairs ...string) (*http.Response, error) {
	method, token, target := http.MethodPost, alice, s.url
	header := http.Header{"Accept": {"application/json, text/event-stream"}, "Content-Type": {"application/json"}}
	for i := 0; i < len(pairs); i += 2 {
		switch key, value := pairs[i], pairs[i+1]; key {
		case ":method":
			method = value
		case ":token":
			token = value
		case ":path":
			target = strings.TrimSuffix(s.url, "/mcp") + value
		default:
			header.Set(key, value)
		}
	}
	r, err := http.NewRequestWithContext(ctx, method, target, reader)
	if err != nil {
		return nil, err
	}
	r.Header = header
	r.Header.Set("Authorization", "Bearer "+token)
	return http.DefaultTransport.RoundTrip(r)
}

func (s *stage) ask(body string, pairs ...string) got {
	s.t.Helper()
	r, err := s.do(body, pairs...)
	require.NoError(s.t, err)
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	require.NoError(s.t, err)
	return got{status: r.StatusCode, header: r.Header, body: string(text)}
}

// stateless is a request without a session, with the headers that it must have. params has
// no _meta.
func stateless(id, method, params string) (body string, pairs []string) {
	if params != "" {
		params += ","
	}
	body = fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":%q,"params":{%s"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28",`+
		`"io.modelcontextprotocol/clientInfo":{"name":"t","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}}}`, id, method, params)
	pairs = []string{"Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", method}
	var p struct{ Params struct{ Name, URI string } }
	_ = json.Unmarshal([]byte(body), &p)
	if name := p.Params.Name + p.Params.URI; name != "" {
		pairs = append(pairs, "Mcp-Name", name)
	}
	return body, pairs
}

// asks sends a request without a session.
func (s *stage) asks(id, method, params string, more ...string) got {
	s.t.Helper()
	body, pairs := stateless(id, method, params)
	return s.ask(body, append(pairs, more...)...)
}

const initOnce = `{"jsonrpc":"2.0","id":"start","method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`

// open starts a session, and returns the headers of its requests.
func (s *stage) open(token string) []string {
	s.t.Helper()
	g := s.ask(initOnce, ":token", token)
	require.Equal(s.t, http.StatusOK, g.status, g.body)
	id := g.header.Get("Mcp-Session-Id")
	require.NotEmpty(s.t, id)
	pairs := []string{":token", token, "Mcp-Session-Id", id, "Mcp-Protocol-Version", "2025-11-25"}
	require.Equal(s.t, http.StatusAccepted, s.ask(`{"jsonrpc":"2.0","method":"notifications/initialized"}`, pairs...).status)
	return pairs
}

// toolsIn returns the names in an answer to tools/list.
func toolsIn(t testing.TB, message string) []string {
	t.Helper()
	var m struct {
		Result struct{ Tools []struct{ Name string } }
	}
	require.NoError(t, json.Unmarshal([]byte(message), &m), message)
	names := []string{}
	for _, tool := range m.Result.Tools {
		names = append(names, tool.Name)
	}
	return names
}

// auditLines returns the audit log's lines as "type server method reason".
func (s *stage) auditLines() []string {
	s.t.Helper()
	text, err := os.ReadFile(s.audit)
	require.NoError(s.t, err)
	var all []string
	for line := range strings.SplitSeq(strings.TrimSpace(string(text)), "\n") {
		var l struct{ Type, Server, Method, Decision, Reason, Tool string }
		require.NoError(s.t, json.Unmarshal([]byte(line), &l), line)
		all = append(all, strings.Join(strings.Fields(strings.Join([]string{l.Type, l.Server, l.Method, l.Tool, l.Reason}, " ")), " "))
	}
	return all
}

// fake is a server that records what it was sent.
type fake struct {
	*httptest.Server
	mu       sync.Mutex
	requests []*http.Request
	bodies   []string
}

// newFake starts a server that handle answers for.
func newFake(t testing.TB, handle func(w http.ResponseWriter, r *http.Request, method, body string)) *fake {
	t.Helper()
	f := &fake{}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		f.mu.Lock()
		f.requests, f.bodies = append(f.requests, r), append(f.bodies, string(body))
		f.mu.Unlock()
		var m struct{ Method string }
		_ = json.Unmarshal(body, &m)
		handle(w, r, m.Method, string(body))
	}))
	t.Cleanup(func() {
		f.CloseClientConnections()
		f.Close()
	})
	return f
}

// sent returns the bodies of the requests of that method.
func (f *fake) sent(method string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []string
	for _, body := range f.bodies {
		if strings.Contains(body, `"method":"`+method+`"`) {
			all = append(all, body)
		}
	}
	return all
}

// hasGot reports whether it was sent that body.
func (f *fake) hasGot(body string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Contains(f.bodies, body)
}

func (f *fake) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.bodies)
}

// header returns the header of the last request of that method.
func (f *fake) header(method string) http.Header {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := len(f.bodies) - 1; i >= 0; i-- {
		if strings.Contains(f.bodies[i], `"method":"`+method+`"`) {
			return f.requests[i].Header
		}
	}
	return nil
}

// reply answers a request with a result.
func reply(w http.ResponseWriter, body, result string) {
	var m struct{ ID json.RawMessage }
	_ = json.Unmarshal([]byte(body), &m)
	w.Header().Set("Content-Type", "application/json")
	_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":%s}`, m.ID, result)
}

// replyError answers a request with an error.
func replyError(w http.ResponseWriter, body string, status, code int) {
	var m struct{ ID json.RawMessage }
	_ = json.Unmarshal([]byte(body), &m)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"error":{"code":%d,"message":"no"}}`, m.ID, code)
}

// modern is a server without sessions, with one tool, that answers calls with
// the given result.
func modern(t testing.TB, tool, result string) *fake {
	t.Helper()
	return newFake(t, func(w http.ResponseWriter, _ *http.Request, method, body string) {
		switch method {
		case "server/discover":
			reply(w, body, `{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{},"resources":{"subscribe":true},"prompts":{}},"resultType":"complete"}`)
		case "tools/list":
			reply(w, body, `{"tools":[{"name":"`+tool+`","inputSchema":{"type":"object"},"x":12345678901234567890}],"ttlMs":5000,"cacheScope":"public","resultType":"complete"}`)
		case "tools/call", "prompts/get", "resources/read", "completion/complete":
			reply(w, body, result)
		default:
			replyError(w, body, http.StatusNotFound, -32601)
		}
	})
}

// sessionServer is a real server with sessions.
func sessionServer(t testing.TB, name string, setup func(*sdk.Server)) *httptest.Server {
	t.Helper()
	server := sdk.NewServer(&sdk.Implementation{Name: name, Version: "1"}, &sdk.ServerOptions{
		Instructions:       "use " + name,
		SubscribeHandler:   func(context.Context, *sdk.SubscribeRequest) error { return nil },
		UnsubscribeHandler: func(context.Context, *sdk.UnsubscribeRequest) error { return nil },
	})
	addEcho(server)
	if setup != nil {
		setup(server)
	}
	listener := httptest.NewServer(sdk.NewStreamableHTTPHandler(func(*http.Request) *sdk.Server { return server }, nil))
	t.Cleanup(func() {
		listener.CloseClientConnections()
		listener.Close()
	})
	return listener
}

// serve serves with a handler until the test ends, and returns the URL.
func serve(t testing.TB, handler http.Handler) string {
	t.Helper()
	listener := httptest.NewServer(handler)
	t.Cleanup(func() {
		listener.CloseClientConnections()
		listener.Close()
	})
	return listener.URL
}

type echoInput struct {
	Text string `json:"text"`
}

func addEcho(server *sdk.Server) {
	sdk.AddTool(server, &sdk.Tool{Name: "echo"}, func(_ context.Context, _ *sdk.CallToolRequest, in echoInput) (*sdk.CallToolResult, any, error) {
		return &sdk.CallToolResult{Content: []sdk.Content{&sdk.TextContent{Text: in.Text}}}, nil, nil
	})
}
