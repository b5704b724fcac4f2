package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/grants/grantstest"
)

const goodToken = "good-token-0123456789"

// stage is a whole gateway in this process, before a Vault and a server that
// are doubles.
type stage struct {
	t        *testing.T
	dir      string
	vault    *grantstest.Vault
	upstream *httptest.Server
	serve    http.HandlerFunc // the upstream's answer, if not the usual one
	log      lockedBuffer

	gateway *gateway
	stop    context.CancelFunc
	ended   chan error
}

// lockedBuffer is a buffer that may be read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{t: t, dir: t.TempDir(), vault: grantstest.New(t)}
	s.upstream = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.serve != nil {
			s.serve(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":{}}`)
	}))
	t.Cleanup(s.upstream.Close)
	s.vault.AddServer("files", s.upstream.URL)
	s.vault.AddToken(goodToken, "cursor", grantstest.Data{"allowed_servers": []string{"files"}})
	return s
}

// settings parses a file with these lines and the common ones.
func (s *stage) settings(more string) *config.Config {
	s.t.Helper()
	c, err := s.parse(more)
	require.NoError(s.t, err)
	return c
}

func (s *stage) parse(more string) (*config.Config, error) {
	s.t.Helper()
	login := s.vault.Settings().Auth
	file := fmt.Sprintf(`
vault {
  address = %q
  auth "approle" {
    role_id        = %q
    secret_id_file = %q
  }
}
admin { address = "127.0.0.1:0" }
audit { file = %q }
`, s.vault.URL, login.RoleID, login.SecretIDFile, filepath.Join(s.dir, "audit.log")) + more
	return config.Parse([]byte(file), "gateway.hcl", func(name string) string {
		return map[string]string{config.EnvListen: "127.0.0.1:0"}[name]
	})
}

// start runs the gateway until stop, or the test's end.
func (s *stage) start(more string) {
	s.t.Helper()
	var err error
	s.gateway, err = newGateway(s.settings(more), hclog.New(&hclog.LoggerOptions{Output: &s.log, Level: hclog.Debug}))
	require.NoError(s.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	s.stop, s.ended = cancel, make(chan error, 1)
	go func() { s.ended <- s.gateway.run(ctx) }()
	s.t.Cleanup(func() {
		cancel()
		if s.ended != nil {
			require.NoError(s.t, <-s.ended)
		}
	})
}

func (s *stage) ready() {
	s.t.Helper()
	s.vault.Await("the gateway to be ready", func() bool { return s.admin("/readyz") == http.StatusOK })
}

func (s *stage) admin(path string) int {
	s.t.Helper()
	response, err := http.Get("http://" + s.gateway.adminListener.Addr().String() + path)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	return response.StatusCode
}

// metric returns the line of one that has no labels.
func (s *stage) metric(name string) string {
	s.t.Helper()
	response, err := http.Get("http://" + s.gateway.adminListener.Addr().String() + "/metrics")
	require.NoError(s.t, err)
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	require.NoError(s.t, err)
	for line := range strings.Lines(string(content)) {
		if value, ok := strings.CutPrefix(line, "mcp_gateway_"+name+" "); ok {
			return strings.TrimSuffix(value, "\n")
		}
	}
	s.t.Fatalf("there is no metric %s", name)
	return ""
}

func (s *stage) url(scheme string) string {
	return scheme + "://" + s.gateway.mainListener.Addr().String() + "/servers/files/mcp"
}

const ping = `{"jsonrpc":"2.0","id":1,"method":"ping"}`

func (s *stage) post(client *http.Client, url string) (int, error) {
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, url, strings.NewReader(ping))
	require.NoError(s.t, err)
	request.Header.Set("Authorization", "Bearer "+goodToken)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json, text/event-stream")
	response, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return response.StatusCode, err
}

func (s *stage) works(client *http.Client, url string) {
	s.t.Helper()
	status, err := s.post(client, url)
	require.NoError(s.t, err)
	require.Equal(s.t, http.StatusOK, status)
}
