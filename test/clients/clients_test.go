package clients

import (
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/mcpclient"
)

// client is an MCP client.
type client struct {
	// open has the client connect.
	open func(*testing.T, mcpclient.Place) (mcpclient.Session, error)
	// unknown and forbidden are its messages about a token that is not valid, and about a
	// server that it may not reach.
	unknown, forbidden string
	// unavailable is its message about a tool of such a server at /mcp. It is "" where the
	// client calls no tool that was not listed.
	unavailable string
}

// hi is the answer of server-everything's tool echo to "hi".
const hi = "Echo: hi"

// noSignIn is the gateway's answer at the URL at which clients without a valid token
// would register themselves.
const noSignIn = "There is no sign-in at this gateway"

func (s *stage) clients() map[string]client {
	const (
		notValid = "The access token is not valid."
		mayNot   = "This client may not reach this server."
		noTool   = "This tool is not available to this client."
	)
	return map[string]client{
		"the Go SDK":                            {s.openSDK, "Unauthorized", "Forbidden", noTool},
		"mcp-remote with the token as a header": {s.openRemote, noSignIn, mayNot, noTool},
		"mcp-remote with the token in a file":   {s.openRemoteWithFile, noSignIn, mayNot, noTool},
		"the inspector":                         {s.openInspector, notValid, mayNot, "not found on server"},
		"mcporter":                              {s.openMcporter, "Authorization required", "403", noTool},
		"Claude Code":                           {s.openClaude, "Server rejected the configured Authorization header (HTTP 401)", mayNot, ""},
		"Codex":                                 {s.openCodex, "MCP server is not logged in. Run `codex mcp login", "403", noTool},
	}
}

func TestClients(t *testing.T) {
	s := newStage(t)
	url := s.startEverything(t, "streamableHttp") + "/mcp"
	s.Write("mcp/servers/everything", harness.Map{"transport": "http", "url": url})
	token := s.CreateClient("editor", harness.Map{"allowed_servers": "everything"})
	revoked := s.CreateClient("former", harness.Map{"allowed_servers": "everything"})
	s.Write("mcp/revoke-client/former", nil)
	s.introduce(t, token, "everything")
	one, all := s.gateway.ServerURL("everything"), s.gateway.URL+"/mcp"

	for name, client := range s.clients() {
		t.Run(name+" lists the tools of a server and calls one", func(t *testing.T) {
			tools := client.use(t, mcpclient.Place{URL: one, Token: token, Tool: "echo"})
			require.Subset(t, tools, []string{"echo", "get-sum"})
		})
		t.Run(name+" lists the tools of all servers and calls one", func(t *testing.T) {
			tools := client.use(t, mcpclient.Place{URL: all, Token: token, Tool: "everything__echo"})
			require.Subset(t, tools, []string{"everything__echo", "everything__get-sum"})
			for _, tool := range tools {
				require.Contains(t, tool, "everything__", "no other server's")
			}
		})
		t.Run(name+" is refused with a revoked token", func(t *testing.T) {
			require.ErrorContains(t, client.try(t, mcpclient.Place{URL: one, Token: revoked, Tool: "echo"}), client.unknown)
			require.ErrorContains(t, client.try(t, mcpclient.Place{URL: all, Token: revoked, Tool: "everything__echo"}), client.unknown)
		})
		t.Run(name+" is refused at a server that it may not reach", func(t *testing.T) {
			require.ErrorContains(t, client.try(t, mcpclient.Place{URL: s.gateway.ServerURL("off"), Token: token, Tool: "add"}), client.forbidden)
			if client.unavailable != "" {
				require.ErrorContains(t, client.try(t, mcpclient.Place{URL: all, Token: token, Tool: "off__add"}), client.unavailable)
			}
		})
	}
	// Servers know sessions alone here, and yet /mcp serves clients that know none.
	for name, open := range map[string]func(*testing.T, mcpclient.Place) (mcpclient.Session, error){
		"the inspector": s.openInspectorWithoutSessions, "mcp-remote": s.openRemoteWithoutSessions,
	} {
		t.Run(name+" without sessions lists the tools of all servers and calls one", func(t *testing.T) {
			before := len(s.gateway.Audit())
			tools := client{open: open}.use(t, mcpclient.Place{URL: all, Token: token, Tool: "everything__echo"})
			require.Subset(t, tools, []string{"everything__echo", "everything__get-sum"})
			for _, line := range s.gateway.Audit()[before:] {
				// Those with a server are the gateway's own, in sessions of its own.
				require.False(t, line["server"] == nil && line["method"] == "initialize", line)
			}
		})
	}
	require.Zero(t, s.off.Count(), "the server that nobody may reach was reached")
}

// use has the client call the tool, and returns the names of all that it knows.
func (c client) use(t *testing.T, at mcpclient.Place) []string {
	t.Helper()
	session, err := c.open(t, at)
	require.NoError(t, err)
	tools, err := session.Tools()
	require.NoError(t, err)
	answer, err := session.Call()
	require.NoError(t, err)
	require.Contains(t, answer, hi)
	return tools
}

// try returns the error of a call.
func (c client) try(t *testing.T, at mcpclient.Place) error {
	t.Helper()
	session, err := c.open(t, at)
	if err == nil {
		_, err = session.Call()
	}
	return err
}

func (s *stage) openSDK(t *testing.T, at mcpclient.Place) (mcpclient.Session, error) {
	t.Helper()
	opened, err := s.In(t).TryConnect(at.URL, at.Token, harness.ConnectOptions{})
	return mcpclient.NewSDKSession(t, opened, at.Tool), err
}

func (s *stage) openInspector(t *testing.T, at mcpclient.Place) (mcpclient.Session, error) {
	t.Helper()
	return s.Inspect(t, at, mcpclient.WithSessions), nil
}

func (s *stage) openInspectorWithoutSessions(t *testing.T, at mcpclient.Place) (mcpclient.Session, error) {
	t.Helper()
	return s.Inspect(t, at, mcpclient.WithoutSessions), nil
}

func (s *stage) openMcporter(t *testing.T, at mcpclient.Place) (mcpclient.Session, error) {
	t.Helper()
	return s.Mcporter(t, at), nil
}

func (s *stage) openClaude(t *testing.T, at mcpclient.Place) (mcpclient.Session, error) {
	t.Helper()
	return s.OpenClaude(t, mcpclient.Claude, at)
}
