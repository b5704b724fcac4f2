package stage

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/bootstrap/process"
	"vault-plugin-secrets-mcp/test/harness"
)

// AgentFiles is where Vault Agent's configurations lie.
var AgentFiles = filepath.Join("..", "..", "bootstrap", "agent")

// Agent is a Vault Agent with a login of its own.
type Agent struct {
	dir     string // in place of /etc/mcp-client and /run/mcp-client
	Process *process.Process

	group *process.Group
	spec  process.Spec
}

// StartAgent runs the Agent with one of the configurations as they are shipped, but
// for the paths, the client's name and the program that exec.hcl runs.
func StartAgent(t *testing.T, h *harness.Harness, config, client, job string) *Agent {
	t.Helper()
	a := &Agent{dir: t.TempDir()}
	login := ClientLogin(t, h, client, harness.Map{"token_period": "1h"})
	a.Write(t, "role_id", login.RoleID)
	secretID := login.SecretID
	if config == "exec.hcl" {
		secretID = wrappedSecretID(t, h, client)
	}
	a.Write(t, "secret_id", secretID)
	for _, name := range []string{"token.ctmpl", "mcp.json.ctmpl"} {
		content, err := os.ReadFile(filepath.Join(AgentFiles, name))
		require.NoError(t, err)
		a.Write(t, name, string(content))
	}
	content, err := os.ReadFile(filepath.Join(AgentFiles, config))
	require.NoError(t, err)
	a.Write(t, config, strings.NewReplacer(
		"/etc/mcp-client", a.dir, "/run/mcp-client", a.dir, "/usr/local/bin/the-job", job,
		"role/agent-ci/", "role/"+client+"/",
	).Replace(string(content)))

	a.group = &process.Group{}
	a.spec = process.Spec{
		Name: "Vault Agent",
		Path: h.Programs.Vault,
		Args: []string{"agent", "-config=" + filepath.Join(a.dir, config)},
		Env: []string{
			"VAULT_ADDR=" + h.Vault.Address(), "MCP_CLIENT=" + client,
			"MCP_URL=http://127.0.0.1:1/mcp", "JOB_OUT=" + a.Path("job"),
		},
		Log: filepath.Join(h.Dir, "agent-"+client+".log"),
	}
	a.Run(t)
	t.Cleanup(func() { a.group.Stop(5*time.Second, nil) })
	return a
}

// Run starts the Agent once more.
func (a *Agent) Run(t *testing.T) {
	t.Helper()
	var err error
	a.Process, err = a.group.Start(a.spec)
	require.NoError(t, err)
}

// Path is a file of the Agent's.
func (a *Agent) Path(name string) string { return filepath.Join(a.dir, name) }

// Write writes a file of the Agent's.
func (a *Agent) Write(t *testing.T, name, content string) {
	t.Helper()
	require.NoError(t, os.WriteFile(a.Path(name), []byte(content), 0o600))
}

// Await waits until the Agent, or a program that it runs, has written a file.
func (a *Agent) Await(t *testing.T, h *harness.Harness, name string) string {
	t.Helper()
	var content []byte
	h.Eventually("the Agent has written "+name, func() (err error) {
		content, err = os.ReadFile(a.Path(name))
		if err == nil && len(content) == 0 {
			err = fmt.Errorf("%s is empty", name)
		}
		return err
	})
	return string(content)
}

// wrappedSecretID is a token that unwraps to a secret id, once.
func wrappedSecretID(t *testing.T, h *harness.Harness, role string) string {
	t.Helper()
	vault := h.Vault.Client()
	vault.SetWrappingLookupFunc(func(string, string) string { return "1m" })
	secret, err := vault.Logical().WriteWithContext(t.Context(), "auth/approle/role/"+role+"/secret-id", nil)
	require.NoError(t, err)
	require.Nil(t, secret.Data, "the secret id was not wrapped")
	return secret.WrapInfo.Token
}

// Read reads a file of the Agent's.
func (a *Agent) Read(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(a.Path(name))
	require.NoError(t, err)
	return string(content)
}
