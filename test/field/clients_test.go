package field

import (
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/mcpclient"
)

// claudeWorks: Claude Code lists tools, calls one, and one that streams its progress;
// and after its token was revoked in the middle of its work, it calls none.
func (c *company) claudeWorks(t *testing.T, client string, release mcpclient.Release, url string, to target) {
	t.Helper()
	token := c.CreateClient(client, harness.Map{"allowed_servers": to.name})
	c.introduce(t, token, to.name)
	say := mcpclient.Step{Tool: "mcp__it__" + to.echo, Arguments: harness.Map{"message": "hi"}}
	last := say
	last.Before = func() { c.revoked(t, client, url, token) }
	m := mcpclient.NewModel(t, say, mcpclient.Step{
		Tool: "mcp__it__" + to.long, Arguments: harness.Map{"duration": 2, "steps": 4},
	}, last)
	_, err := mcpclient.Output(c.kit().Claude(t, release, mcpclient.ClaudeHome(t, url), m, token, "-p", "Say hi.", "--allowedTools", m.Tools()))
	require.NoError(t, err)
	require.Subset(t, m.ToolsOf("it"), []string{to.echo, to.long})
	answers := m.Answers()
	require.Len(t, answers, 3)
	require.Contains(t, answers[0], "Echo: hi")
	require.Contains(t, answers[1], "completed")
	require.NotContains(t, answers[2], "Echo")
}

// kit runs clients from npm in the office: they trust the company's authority, and
// there is nowhere else to go.
func (c *company) kit() *mcpclient.Kit {
	return &mcpclient.Kit{Modules: c.modules, Patience: 2 * patience, Environment: func(home string) []string {
		return append(mcpclient.Quiet(), "PATH="+strings.Join([]string{"/usr/local/bin", "/usr/bin", "/bin"}, ":"),
			"HOME="+home, "NODE_EXTRA_CA_CERTS="+c.Trusted())
	}}
}

// revoked revokes a client, and waits until its token is refused.
func (c *company) revoked(t *testing.T, client, url, token string) {
	t.Helper()
	c.Write("mcp/revoke-client/"+client, nil)
	c.refused(t, url, token)
}

// commandWorks is the same of a client that connects for each command.
func (c *company) commandWorks(t *testing.T, client, url string, to target, open func(*testing.T, mcpclient.Place) mcpclient.Session) {
	t.Helper()
	token := c.CreateClient(client, harness.Map{"allowed_servers": to.name})
	c.introduce(t, token, to.name)
	s := open(t, mcpclient.Place{URL: url, Token: token, Tool: to.echo})
	tools, err := s.Tools()
	require.NoError(t, err)
	require.Subset(t, tools, []string{to.echo, to.long})
	answer, err := s.Call()
	require.NoError(t, err)
	require.Contains(t, answer, "Echo: hi")
	c.revoked(t, client, url, token)
	answer, err = s.Call()
	require.NotContains(t, answer, "Echo: hi")
	require.Error(t, err)
}

// remoteWorks is the same of a client on stdio that mcp-remote connects, with a stream
// that its revocation ends.
func (c *company) remoteWorks(t *testing.T, client, url string, to target) {
	t.Helper()
	token := c.CreateClient(client, harness.Map{"allowed_servers": to.name})
	c.introduce(t, token, to.name)
	opened, err := c.kit().Remote(t, to.echo, mcpclient.RemoteArgs(url, "--header", "Authorization: Bearer "+token))
	require.NoError(t, err)
	s := opened.(mcpclient.SDKSession)
	tools, err := s.Tools()
	require.NoError(t, err)
	require.Subset(t, tools, []string{to.echo, to.long})
	answer, err := s.Call()
	require.NoError(t, err)
	require.Contains(t, answer, "Echo: hi")
	_, err = s.CallTool(t.Context(), &mcp.CallToolParams{Name: to.long, Arguments: harness.Map{"duration": 2, "steps": 4}})
	require.NoError(t, err)
	c.revoked(t, client, url, token)
	_, err = s.Call()
	require.Error(t, err)
}
