package access

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/grants/grantstest"
	"vault-plugin-secrets-mcp/gateway/http1"
)

// Tokens of the tests. The custom form will do.
const (
	goodToken  = "good-token-0123456789"
	otherToken = "other-token-0123456789"
	badToken   = "bad-token-0123456789"
)

// stage is a gate behind a real socket, before a handler that records its requests.
type stage struct {
	t       testing.TB
	vault   *grantstest.Vault
	gate    *Gate
	server  *served
	audit   string
	log     *AuditLog
	mu      sync.Mutex
	reached []*Request
	handle  http.HandlerFunc
}

// newStage has the gateway's own server.
func newStage(t testing.TB, change func(*Options)) *stage {
	t.Helper()
	return newStageOn(t, false, nil, change)
}

// onBothServers runs a test with the gateway's own server, and with http.Server.
func onBothServers(t *testing.T, test func(t *testing.T, netHTTP bool)) {
	t.Helper()
	for name, netHTTP := range map[string]bool{"http1": false, "net/http": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, netHTTP)
		})
	}
}

// newStageOn is newStage with a choice of the server, and with connections that are bounded.
func newStageOn(t testing.TB, netHTTP bool, connections *Connections, change func(*Options)) *stage {
	t.Helper()
	s := &stage{t: t, vault: grantstest.New(t), audit: filepath.Join(t.TempDir(), "audit.log")}
	s.vault.AddServer("files", "http://127.0.0.1:9/mcp")
	s.vault.AddServer("github", "http://127.0.0.1:9/mcp")
	s.vault.AddToken(goodToken, "cursor", grantstest.Data{"allowed_servers": []string{"files"}})
	auditLog, err := OpenAuditLog(config.Audit{File: s.audit}, hclog.NewNullLogger())
	require.NoError(t, err)
	s.log = auditLog
	options := Options{
		Broker:   s.vault.Broker(grants.Options{Cold: NewColdLimiter(grantstest.Unlimited)}),
		Audit:    auditLog,
		Listener: config.Listener{Address: "127.0.0.1:8080"},
		Limits:   config.Limits{MaxBody: 1000},
		Next:     http.HandlerFunc(s.next),
	}
	if change != nil {
		change(&options)
	}
	s.gate = New(options)
	s.server = serve(t, s.gate, netHTTP, connections)
	t.Cleanup(func() {
		_ = s.server.Close()
		s.gate.Close()
		auditLog.Close()
	})
	return s
}

// served is a server of the gateway's, at its address.
type served struct {
	address string
	server  interface {
		Serve(listener net.Listener) error
		Close() error
	}
}

func serve(t testing.TB, gate http.Handler, netHTTP bool, connections *Connections) *served {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &served{address: listener.Addr().String()}
	if connections == nil {
		connections = testConnections(0)
	} else {
		listener = smallBuffers{listener}
	}
	listener = connections.Pace(listener)
	logger := log.New(io.Discard, "", 0)
	if netHTTP {
		listener = connections.Watch(listener)
		s.server = &http.Server{Handler: gate, ConnContext: ConnContext, ErrorLog: logger, ReadHeaderTimeout: time.Minute}
	} else {
		s.server = &http1.Server{Handler: gate, ConnContext: ConnContext, ErrorLog: logger, MaxHeaderBytes: 32 << 10}
	}
	go func() { _ = s.server.Serve(listener) }()
	return s
}

// Close ends the server with its connections.
func (s *served) Close() error { return s.server.Close() }

func (s *stage) next(w http.ResponseWriter, r *http.Request) {
	req := FromContext(r.Context())
	s.mu.Lock()
	s.reached = append(s.reached, req)
	handle := s.handle
	s.mu.Unlock()
	if handle != nil {
		handle(w, r)
		return
	}
	content, err := io.ReadAll(r.Body)
	if err != nil {
		Refuse(w, r, BodyRefusal(err))
		return
	}
	req.Method = "tools/call"
	if err := req.Decide(Decision{Allow: true, Reason: ReasonAllowed}); err != nil {
		Refuse(w, r, AuditRefusal())
		return
	}
	_, _ = w.Write(content)
	req.Outcome(http.StatusOK, int64(len(content)), nil)
}

func (s *stage) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.reached)
}

// raw sends bytes as they are and returns the first answer.
func (s *stage) raw(request string) (*http.Response, string) {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.server.address)
	require.NoError(s.t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, request)
	require.NoError(s.t, err)
	method, _, _ := strings.Cut(request, " ")
	return s.answerTo(method, bufio.NewReader(conn))
}

func (s *stage) answer(from *bufio.Reader) (*http.Response, string) {
	s.t.Helper()
	return s.answerTo(http.MethodPost, from)
}

func (s *stage) answerTo(method string, from *bufio.Reader) (*http.Response, string) {
	s.t.Helper()
	response, err := http.ReadResponse(from, &http.Request{Method: method})
	require.NoError(s.t, err)
	content, err := io.ReadAll(response.Body)
	require.NoError(s.t, err)
	require.NoError(s.t, response.Body.Close())
	return response, string(content)
}

// post is a good request with more header lines.
func post(path, token, body string, lines ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "POST %s HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nContent-Type: application/json\r\n", path)
	if token != "" {
		fmt.Fprintf(&b, "Authorization: Bearer %s\r\n", token)
	}
	for _, line := range lines {
		b.WriteString(line + "\r\n")
	}
	if !strings.Contains(b.String(), "Transfer-Encoding") {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
	}
	return b.String() + "\r\n" + body
}

// target is a good request to another target.
func target(target string) string { return post(target, goodToken, "x") }

// lines waits until the audit log has n lines, and returns them.
func (s *stage) lines(n int) []map[string]any {
	s.t.Helper()
	var lines []map[string]any
	s.vault.Await(fmt.Sprintf("%d audit lines", n), func() bool {
		content, err := os.ReadFile(s.audit)
		require.NoError(s.t, err)
		lines = nil
		for line := range bytes.Lines(content) {
			var entry map[string]any
			require.NoError(s.t, json.Unmarshal(line, &entry), string(line))
			lines = append(lines, entry)
		}
		return len(lines) >= n
	})
	return lines
}

// text is the whole audit log, written to its end.
func (s *stage) text() string {
	s.gate.Close()
	s.log.Close()
	content, err := os.ReadFile(s.audit)
	require.NoError(s.t, err)
	return string(content)
}
