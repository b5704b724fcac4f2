package aggregate

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/bootstrap/demo"
	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/stage"
)

// moodyServer is a calculator that can be killed, and made to answer late or
// not at all.
type moodyServer struct {
	address string
	handler http.Handler

	mu     sync.Mutex
	server *http.Server  // nil: nobody listens
	held   chan struct{} // answers wait until it is closed; nil: they do not
	delay  time.Duration
}

func newMoodyServer(t *testing.T) *moodyServer {
	t.Helper()
	m := &moodyServer{address: harness.FreeAddress(t), handler: demo.Handler(demo.Calculator())}
	t.Cleanup(m.kill)
	t.Cleanup(m.letGo)
	return m
}

func (m *moodyServer) url() string { return "http://" + m.address + demo.Path }

func (m *moodyServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	held, delay := m.held, m.delay
	m.mu.Unlock()
	if held != nil {
		select {
		case <-held:
		case <-r.Context().Done():
			return
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), delay)
	defer cancel()
	<-ctx.Done()
	m.handler.ServeHTTP(w, r)
}

func (m *moodyServer) start(t *testing.T) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", m.address)
	require.NoError(t, err)
	server := &http.Server{Handler: m, ReadHeaderTimeout: time.Minute}
	m.mu.Lock()
	m.server = server
	m.mu.Unlock()
	go func() { _ = server.Serve(listener) }()
}

func (m *moodyServer) kill() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.server != nil {
		_ = m.server.Close()
		m.server = nil
	}
}

// hang has the server answer nothing until letGo.
func (m *moodyServer) hang() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held = make(chan struct{})
}

func (m *moodyServer) letGo() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.held != nil {
		close(m.held)
		m.held = nil
	}
}

func (m *moodyServer) slowDown(by time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.delay = by
}

// budget is how long a list waits for its slowest server.
const budget = 2 * time.Second

// serversIn returns the servers whose tools are listed, all of them.
func serversIn(t *testing.T, session *mcp.ClientSession) []string {
	t.Helper()
	asked := time.Now()
	listing, err := session.ListTools(t.Context(), nil)
	require.NoError(t, err)
	require.Less(t, time.Since(asked), budget+3*time.Second, "the list waits for a server for too long")
	counts := map[string]int{}
	for _, tool := range listing.Tools {
		server, _, _ := strings.Cut(tool.Name, "__")
		counts[server]++
	}
	names := []string{}
	for name, n := range counts {
		require.Equal(t, 4, n, name)
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// moods is a gateway before a server that is well, one that is dead and one that
// hangs from the start, and one that is slow.
func moods(t *testing.T) (h *harness.Harness, gateway *harness.Gateway, token string, dead, hung *moodyServer) {
	t.Helper()
	h = harness.New(t)
	dead, hung = newMoodyServer(t), newMoodyServer(t)
	slow := newMoodyServer(t)
	hung.start(t)
	hung.hang()
	slow.start(t)
	slow.slowDown(150 * time.Millisecond)
	for name, url := range map[string]string{
		"well": h.StartUpstream(nil).URL, "slow": slow.url(), "dead": dead.url(), "hung": hung.url(),
	} {
		h.Write("mcp/servers/"+name, harness.Map{"transport": "http", "url": url})
	}
	token = h.CreateClient("cursor", harness.Map{"allowed_servers": "*"})
	return h, h.StartGateway(harness.GatewayOptions{}), token, dead, hung
}

func TestAServerThatIsDeadOrHangsCostsItsOwnEntriesAndComesBack(t *testing.T) {
	for _, era := range []string{harness.SessionEra, harness.StatelessEra} {
		t.Run(era, func(t *testing.T) {
			t.Parallel() // most of it is waiting
			h, gateway, token, dead, hung := moods(t)
			session := stage.Connect(t, h, gateway.URL+"/mcp", token, era)
			// The slow one, too, is waited for no longer than a list has time.
			h.Eventually("the servers that answer to be listed", func() error {
				if got := serversIn(t, session); !slices.Equal(got, []string{"slow", "well"}) {
					return fmt.Errorf("the list has %v", got)
				}
				return nil
			})
			for _, server := range []string{"slow", "well"} {
				require.Equal(t, "42", stage.CallTool(t, session, server+"__multiply", harness.Map{"a": 6, "b": 7}))
			}
			wantUnreachable(t, session, "dead__add")

			// One list waits for it again, after a while: not every list.
			h.Eventually("a list that does not wait for the server that hangs", func() error {
				asked := time.Now()
				require.Equal(t, []string{"slow", "well"}, serversIn(t, session))
				if took := time.Since(asked); took >= budget {
					return fmt.Errorf("it took %s", took)
				}
				return nil
			})
			wantAbsence(t, h, gateway, "dead", "hung")

			dead.start(t)
			hung.letGo()
			h.Eventually("both servers to be back", func() error {
				if got := serversIn(t, session); len(got) < 4 {
					return fmt.Errorf("the list has %v", got)
				}
				return nil
			})
			for _, server := range []string{"dead", "hung"} {
				require.Equal(t, "42", stage.CallTool(t, session, server+"__multiply", harness.Map{"a": 6, "b": 7}))
			}

			// From now on there is a last good list.
			dead.kill()
			hung.hang()
			require.Equal(t, []string{"dead", "hung", "slow", "well"}, serversIn(t, session))
			wantUnreachable(t, session, "dead__add")
		})
	}
}

// wantUnreachable fails the test unless a call is answered with an error that does not
// end the session.
func wantUnreachable(t *testing.T, session *mcp.ClientSession, tool string) {
	t.Helper()
	_, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: tool, Arguments: harness.Map{"a": 1, "b": 1}})
	require.ErrorContains(t, err, "The server cannot be reached.")
	require.Equal(t, "42", stage.CallTool(t, session, "well__multiply", harness.Map{"a": 6, "b": 7}))
}

// wantAbsence fails the test unless the gateway says which servers are absent
// from its lists, in its log and in its metrics.
func wantAbsence(t *testing.T, h *harness.Harness, gateway *harness.Gateway, servers ...string) {
	t.Helper()
	metrics := gateway.Metrics()
	logs, err := filepath.Glob(filepath.Join(h.Dir, "gateway-*.log"))
	require.NoError(t, err)
	var lines []string
	for _, path := range logs {
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		lines = append(lines, strings.Split(string(content), "\n")...)
	}
	for _, server := range servers {
		require.Regexp(t, `mcp_gateway_list_absences_total\{[^}]*server="`+server+`"`, metrics)
		require.True(t, slices.ContainsFunc(lines, func(line string) bool {
			return strings.Contains(line, "absent from the lists") && strings.Contains(line, server)
		}), "the log does not say that %s is absent", server)
	}
}

func TestAServerThatBreaksOffCostsItsOwnEntries(t *testing.T) {
	h := harness.New(t)
	broken := map[string]http.HandlerFunc{
		"aborts": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"fails": func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "<h1>no</h1>", http.StatusInternalServerError)
		},
		"redirects": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) },
		"refuses":   func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "who are you?", http.StatusUnauthorized) },
		"is-a-page": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>hello</html>")) },
		"babbles": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"add"`))
		},
		"never-ends": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		},
	}
	for name, handler := range broken {
		h.Write("mcp/servers/"+name, harness.Map{"transport": "http", "url": h.StartUpstream(handler).URL})
	}
	h.Write("mcp/servers/well", harness.Map{"transport": "http", "url": h.StartUpstream(nil).URL})
	token := h.CreateClient("cursor", harness.Map{"allowed_servers": "*"})
	gateway := h.StartGateway(harness.GatewayOptions{})
	for _, era := range []string{harness.SessionEra, harness.StatelessEra} {
		t.Run(era, func(t *testing.T) {
			session := stage.Connect(t, h, gateway.URL+"/mcp", token, era)
			require.Equal(t, []string{"well"}, serversIn(t, session))
			for name := range broken {
				if name == "never-ends" {
					continue // a call may take its time
				}
				_, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: name + "__add", Arguments: harness.Map{"a": 1, "b": 1}})
				require.Error(t, err, name)
				require.NotContains(t, err.Error(), "<h1>", name)
			}
			require.Equal(t, "42", stage.CallTool(t, session, "well__multiply", harness.Map{"a": 6, "b": 7}))
		})
	}
}
