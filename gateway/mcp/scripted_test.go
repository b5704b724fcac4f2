package mcp

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/internal/scripted"
)

func TestMain(m *testing.M) {
	scripted.Main()
	os.Exit(m.Run())
}

func self(t testing.TB) string {
	t.Helper()
	path, err := os.Executable()
	require.NoError(t, err)
	return path
}

// stdioConfig allows the test's own program, which is the scripted server.
func stdioConfig(t testing.TB) *config.Config {
	t.Helper()
	c := testConfig()
	c.Stdio = &config.Stdio{
		AllowedCommands: []string{self(t)}, IdleTimeout: time.Minute, StopTimeout: 5 * time.Second,
		MaxChildren: 10, MaxChildrenPerClient: 3,
	}
	return c
}

func scriptedServer(t testing.TB, mode string) *grants.Server {
	t.Helper()
	return &grants.Server{
		Name: "up", ID: "registration-1", Transport: grants.TransportStdio, Command: self(t),
		Env: map[string]string{scripted.Variable: mode},
	}
}

// open starts a session as the client, and returns the headers of its requests.
func (g *gateway) open(t testing.TB, client string) []string {
	t.Helper()
	got := g.Ask(t, initOnce, ":token", client)
	require.Equal(t, http.StatusOK, got.Status, got.Body)
	require.Contains(t, got.Body, `"serverInfo"`)
	session := got.Header.Get("Mcp-Session-Id")
	require.NotEmpty(t, session)
	return []string{":token", client, "Mcp-Session-Id", session, "MCP-Protocol-Version", "2025-11-25"}
}

func tool(id, name string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":"tools/call","params":{"name":%q}}`, id, name)
}

func textOf(t testing.TB, body string) string {
	t.Helper()
	var m struct {
		Result struct{ Content []struct{ Text string } }
	}
	require.NoError(t, json.Unmarshal([]byte(body), &m), body)
	require.Len(t, m.Result.Content, 1, body)
	return m.Result.Content[0].Text
}

// events reads the data of n events.
func events(t testing.TB, r io.Reader, n int) []string {
	t.Helper()
	var data []string
	lines := bufio.NewScanner(r)
	for len(data) < n && lines.Scan() {
		if text, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			data = append(data, text)
		}
	}
	require.Len(t, data, n, lines.Err())
	return data
}
