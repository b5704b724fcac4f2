package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/gatewaytest"
	"vault-plugin-secrets-mcp/gateway/grants/grantstest"
)

const goodToken = "good-token-0123456789"

// stage is a whole gateway in this process, before a Vault and a server that
// are doubles.
type stage struct {
	t        *testing.T
	dir      string
	vault    *grantstest.Vault
	upstream *gatewaytest.Upstream
	serve    http.HandlerFunc // the upstream's answer
	log      gatewaytest.Log

	gateway *gateway
	stop    context.CancelFunc
	ended   chan error
}

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{t: t, dir: t.TempDir(), vault: grantstest.New(t), serve: gatewaytest.Pongs}
	s.upstream = gatewaytest.NewUpstream(t, func(w http.ResponseWriter, r *http.Request) { s.serve(w, r) })
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
		s.awaitEnd()
	})
}

// awaitEnd waits until the gateway has ended, in good order.
func (s *stage) awaitEnd() {
	s.t.Helper()
	if s.ended != nil {
		require.NoError(s.t, <-s.ended)
		s.ended = nil
	}
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

func (s *stage) post(client *http.Client, url string) (int, error) {
	response, err := gatewaytest.Client{URL: url, Token: goodToken, Transport: client.Transport}.Do(s.t.Context(), gatewaytest.Ping)
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
