package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/docrun"
	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/stage"
)

// helped sends the headers that mcp-headers.sh prints for a token's file, asked
// again for each request, and remembers the result.
type helped struct {
	h    *harness.Harness
	file string

	mu     sync.Mutex
	tokens map[string]bool
	failed []string
}

func (c *helped) RoundTrip(r *http.Request) (*http.Response, error) {
	out, err := exec.CommandContext(r.Context(), filepath.Join(stage.AgentFiles, "mcp-headers.sh"), c.file).Output()
	if err != nil {
		return nil, err
	}
	var header map[string]string
	if err := json.Unmarshal(out, &header); err != nil {
		return nil, err
	}
	token := strings.TrimPrefix(header["Authorization"], "Bearer ")
	c.h.Secret(token)
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", header["Authorization"])
	// A 503 does not count: each new token's first request asks Vault, which may be slow.
	response, err := (&harness.Patient{Next: http.DefaultTransport}).RoundTrip(r)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tokens[token] = true
	if err == nil && response.StatusCode >= 400 && response.StatusCode != http.StatusMethodNotAllowed {
		c.failed = append(c.failed, fmt.Sprintf("%s: %s", r.Method, response.Status))
	}
	return response, err
}

// seen is how many tokens were used so far.
func (c *helped) seen() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.tokens)
}

// failures are the answers that were not a success.
func (c *helped) failures() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.failed)
}

// renewals counts the leases' renewals in Vault's audit log.
func renewals(t *testing.T, h *harness.Harness) int {
	t.Helper()
	log, err := os.ReadFile(filepath.Join(h.Dir, "vault-audit.log"))
	require.NoError(t, err)
	n := 0
	for line := range bytes.Lines(log) {
		if bytes.Contains(line, []byte(`"type":"request"`)) && bytes.Contains(line, []byte(`"path":"sys/leases/renew"`)) {
			n++
		}
	}
	return n
}

func TestAClientBesideVaultAgentOutlivesItsTokensWithoutAFailedRequest(t *testing.T) {
	s := stage.New(t, harness.GatewayOptions{})
	s.Client("cursor", harness.Map{"token_ttl": "5s", "token_max_ttl": "9s"})
	agent := stage.StartAgent(t, s.Harness, "token-file.hcl", "cursor", "")
	agent.Await(t, s.Harness, "token")

	transport := &helped{h: s.Harness, file: agent.Path("token"), tokens: map[string]bool{}}
	session, err := mcp.NewClient(&mcp.Implementation{Name: "editor", Version: "1"}, nil).Connect(t.Context(), &mcp.StreamableClientTransport{
		Endpoint: s.Gateway.ServerURL(stage.Calculator), HTTPClient: &http.Client{Transport: transport}, MaxRetries: -1,
	}, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = session.Close() })

	calls, deadline := 0, time.Now().Add(3*time.Minute)
	for transport.seen() < 6 || renewals(t, s.Harness) < 5 {
		require.True(t, time.Now().Before(deadline), "%d tokens, %d renewals in 3 minutes", transport.seen(), renewals(t, s.Harness))
		result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "add", Arguments: map[string]any{"a": 40, "b": 2}})
		require.NoError(t, err, "after %d calls, %d tokens", calls, transport.seen())
		require.False(t, result.IsError)
		calls++
	}
	require.Empty(t, transport.failures())
	t.Logf("%d calls under %d tokens, %d renewals", calls, transport.seen(), renewals(t, s.Harness))

	// The lease is revoked: the client's token is not valid any more.
	held, err := os.ReadFile(agent.Path("token"))
	require.NoError(t, err)
	agent.Process.Stop(5 * time.Second)
	s.Write("sys/leases/revoke-prefix/mcp/creds/cursor", nil)
	s.RefusedSoon(t, string(held))
}

func TestVaultAgentRunsAProgramWithTheTokenInItsEnvironment(t *testing.T) {
	s := stage.New(t, harness.GatewayOptions{})
	s.Client("job", harness.Map{"token_ttl": "10m"})
	job := filepath.Join(t.TempDir(), "job.sh")
	require.NoError(t, os.WriteFile(job, []byte("#!/bin/sh\nprintf %s \"$MCP_TOKEN\" >\"$JOB_OUT.part\" && mv \"$JOB_OUT.part\" \"$JOB_OUT\"\nexec tail -f /dev/null\n"), 0o700))
	agent := stage.StartAgent(t, s.Harness, "exec.hcl", "job", job)
	token := agent.Await(t, s.Harness, "job")
	s.Secret(token)
	s.Works(t, token)
	require.NoFileExists(t, agent.Path("secret_id"), "the Agent left the wrapped secret id behind")
}

// TestVaultAgentIsRestarted: the shipped configuration logs in again, and so gets a
// token in place of one that was revoked; with an argument in the template, which makes
// the read a write, it gets one of that life.
func TestVaultAgentIsRestarted(t *testing.T) {
	s := stage.New(t, harness.GatewayOptions{})
	s.Client("cursor", harness.Map{"token_ttl": "1h"})
	agent := stage.StartAgent(t, s.Harness, "token-file.hcl", "cursor", "")
	first := agent.Await(t, s.Harness, "token")
	s.Secret(first)
	s.Works(t, first)
	s.Write("sys/leases/revoke-prefix/mcp/creds/cursor", nil)
	s.RefusedSoon(t, first)

	agent.Process.Stop(5 * time.Second)
	agent.Write(t, "token.ctmpl", `{{ with secret (printf "mcp/creds/%s" (env "MCP_CLIENT")) "ttl=5m" }}{{ .Data.token }}{{ end }}`)
	agent.Run(t)
	var second string
	s.Eventually("the Agent to get another token", func() error {
		if second = agent.Await(t, s.Harness, "token"); second == first {
			return errors.New("it is the first one")
		}
		return nil
	})
	s.Secret(second)
	s.Works(t, second)
	expires, err := time.Parse(time.RFC3339Nano, s.Write("mcp/lookup", harness.Map{"token": second})["expires_at"].(string))
	require.NoError(t, err)
	require.LessOrEqual(t, time.Until(expires), 5*time.Minute)
}

func TestVaultAgentRendersAClientsConfiguration(t *testing.T) {
	s := stage.New(t, harness.GatewayOptions{})
	s.Client("desktop", harness.Map{"token_ttl": "10m"})
	agent := stage.StartAgent(t, s.Harness, "client-config.hcl", "desktop", "")
	var config struct {
		Servers map[string]struct {
			Type, URL string
			Headers   map[string]string
		} `json:"mcpServers"`
	}
	require.NoError(t, json.Unmarshal([]byte(agent.Await(t, s.Harness, "mcp.json")), &config))
	require.Equal(t, "http", config.Servers["mcp"].Type)
	require.Equal(t, "http://127.0.0.1:1/mcp", config.Servers["mcp"].URL)
	token := strings.TrimPrefix(config.Servers["mcp"].Headers["Authorization"], "Bearer ")
	s.Secret(token)
	s.Works(t, token)
	info, err := os.Stat(agent.Path("mcp.json"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
}

func TestAWrappedTokenIsUnwrappedOnce(t *testing.T) {
	s := stage.New(t, harness.GatewayOptions{})
	s.Client("cursor", nil)
	vault := s.Vault.Client()
	vault.SetWrappingLookupFunc(func(string, string) string { return "1m" })
	wrapped, err := vault.Logical().ReadWithContext(t.Context(), "mcp/creds/cursor")
	require.NoError(t, err)
	require.Nil(t, wrapped.Data)
	open := func() (*api.Secret, error) {
		return s.Vault.ClientWithToken(wrapped.WrapInfo.Token).Logical().UnwrapWithContext(t.Context(), "")
	}
	secret, err := open()
	require.NoError(t, err)
	token := s.Token(secret.Data)
	s.Secret(token)
	s.Works(t, token)
	_, err = open()
	require.Error(t, err, "it was unwrapped twice")
}

func TestTheHeadersHelperSaysWhatIsMissing(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	for path, want := range map[string]string{filepath.Join(dir, "gone"): "does Vault Agent run", empty: "holds no token"} {
		out, err := exec.CommandContext(t.Context(), filepath.Join(stage.AgentFiles, "mcp-headers.sh"), path).CombinedOutput()
		require.Error(t, err)
		require.Contains(t, string(out), want)
	}
}

// TestDocsAgent runs the commands of docs/agent.md, after mcp-bootstrap apply has
// done its part. An Agent runs while they take everything back, and is out then.
func TestDocsAgent(t *testing.T) {
	s := stage.New(t, harness.GatewayOptions{})
	stage.ClientLogin(t, s.Harness, "cursor-local", nil)
	commands := docrun.Read(t, "agent.md").Commands()
	back := slices.IndexFunc(commands, func(c docrun.Command) bool { return strings.Contains(c.Text, "lease revoke") })
	require.Positive(t, back)
	run := func(commands []docrun.Command) {
		docrun.WantOutputs(t, commands, docrun.RunShell(t, s.Harness, commands, nil))
	}
	run(commands[:back])
	agent := stage.StartAgent(t, s.Harness, "token-file.hcl", "cursor-local", "")
	token := agent.Await(t, s.Harness, "token")
	s.Secret(token)
	s.Works(t, token)
	require.NotEmpty(t, loginsOf(t, s.Harness, "cursor-local"))

	run(commands[back:])
	s.RefusedSoon(t, token)
	require.Empty(t, loginsOf(t, s.Harness, "cursor-local"), "the Agent's own token is still good")
	_, err := s.TryWrite("auth/approle/login", harness.Map{"role_id": agent.Read(t, "role_id"), "secret_id": agent.Read(t, "secret_id")})
	require.Error(t, err, "the Agent may log in again")
	_, err = s.Vault.Client().Logical().ReadWithContext(t.Context(), "mcp/creds/cursor-local")
	require.Error(t, err, "the client gets tokens, whoever asks")
}

// loginsOf are the accessors of the Vault tokens that a role has.
func loginsOf(t *testing.T, h *harness.Harness, role string) []string {
	t.Helper()
	var found []string
	for _, accessor := range h.List("auth/token/accessors") {
		held, err := h.TryWrite("auth/token/lookup-accessor", harness.Map{"accessor": accessor})
		if err != nil {
			continue // it has ended meanwhile
		}
		if meta, _ := held["meta"].(map[string]any); meta["role_name"] == role {
			found = append(found, accessor)
		}
	}
	return found
}
