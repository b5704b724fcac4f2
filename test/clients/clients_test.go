package clients

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
)

// place is what a client is configured with, and the tool that it calls there.
type place struct{ url, token, tool string }

// client is an MCP client.
type client struct {
	// open has the client connect.
	open func(*testing.T, place) (session, error)
	// unknown and forbidden are what it says about a token that is not valid, and
	// about a server that it may not reach.
	unknown, forbidden string
	// unavailable is what it says about a tool of such a server, where all servers
	// are one. It is "" where the client calls no tool that was not listed.
	unavailable string
}

// session is a client that has connected, or is going to for each command.
type session interface {
	// tools are the names of the tools that the client knows.
	tools() ([]string, error)
	// call calls the place's tool, and has it say "hi".
	call() (string, error)
}

// hi is what server-everything's tool echo answers to "hi".
const hi = "Echo: hi"

// noSignIn is what the gateway answers where clients without a valid token would
// register themselves.
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
			tools := client.use(t, place{one, token, "echo"})
			require.Subset(t, tools, []string{"echo", "get-sum"})
		})
		t.Run(name+" lists the tools of all servers and calls one", func(t *testing.T) {
			tools := client.use(t, place{all, token, "everything__echo"})
			require.Subset(t, tools, []string{"everything__echo", "everything__get-sum"})
			for _, tool := range tools {
				require.Contains(t, tool, "everything__", "no other server's")
			}
		})
		t.Run(name+" is refused with a revoked token", func(t *testing.T) {
			require.ErrorContains(t, client.try(t, place{one, revoked, "echo"}), client.unknown)
			require.ErrorContains(t, client.try(t, place{all, revoked, "everything__echo"}), client.unknown)
		})
		t.Run(name+" is refused at a server that it may not reach", func(t *testing.T) {
			require.ErrorContains(t, client.try(t, place{s.gateway.ServerURL("off"), token, "add"}), client.forbidden)
			if client.unavailable != "" {
				require.ErrorContains(t, client.try(t, place{all, token, "off__add"}), client.unavailable)
			}
		})
	}
	// Servers know sessions alone here, and yet /mcp serves clients that know none.
	for name, open := range map[string]func(*testing.T, place) (session, error){
		"the inspector": s.openInspectorWithoutSessions, "mcp-remote": s.openRemoteWithoutSessions,
	} {
		t.Run(name+" without sessions lists the tools of all servers and calls one", func(t *testing.T) {
			before := len(s.gateway.Audit())
			tools := client{open: open}.use(t, place{all, token, "everything__echo"})
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
func (c client) use(t *testing.T, at place) []string {
	t.Helper()
	session, err := c.open(t, at)
	require.NoError(t, err)
	tools, err := session.tools()
	require.NoError(t, err)
	answer, err := session.call()
	require.NoError(t, err)
	require.Contains(t, answer, hi)
	return tools
}

// try returns what is in the way of a call.
func (c client) try(t *testing.T, at place) error {
	t.Helper()
	session, err := c.open(t, at)
	if err == nil {
		_, err = session.call()
	}
	return err
}

// sdkSession is a session of the Go SDK's client.
type sdkSession struct {
	t *testing.T
	*mcp.ClientSession
	tool string
}

func (s sdkSession) tools() ([]string, error) {
	var names []string
	for tool, err := range s.Tools(s.t.Context(), nil) {
		if err != nil {
			return nil, err
		}
		names = append(names, tool.Name)
	}
	return names, nil
}

func (s sdkSession) call() (string, error) {
	return callTool(s.t, s.ClientSession, s.tool, harness.Map{"message": "hi"})
}

// callTool calls a tool and returns the text that it answers.
func callTool(t *testing.T, session *mcp.ClientSession, tool string, arguments any) (string, error) {
	t.Helper()
	result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: tool, Arguments: arguments})
	if err != nil {
		return "", err
	}
	var text string
	for _, content := range result.Content {
		if part, ok := content.(*mcp.TextContent); ok {
			text += part.Text
		}
	}
	return text, nil
}

func (s *stage) openSDK(t *testing.T, at place) (session, error) {
	t.Helper()
	opened, err := s.In(t).TryConnect(at.url, at.token, harness.ConnectOptions{})
	return sdkSession{t, opened, at.tool}, err
}

// commandSession is a program that does one thing a time, and prints it as JSON.
type commandSession struct {
	run           func(args ...string) (string, error)
	listing, tool []string // its arguments to list tools, and to call the tool
}

func (s commandSession) tools() ([]string, error) {
	text, err := s.run(s.listing...)
	if err != nil {
		return nil, err
	}
	var answer struct{ Tools []struct{ Name string } }
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, text)
	}
	var names []string
	for _, tool := range answer.Tools {
		names = append(names, tool.Name)
	}
	return names, nil
}

func (s commandSession) call() (string, error) { return s.run(s.tool...) }

func (s *stage) openInspector(t *testing.T, at place) (session, error) {
	t.Helper()
	return s.inspect(t, at, "legacy")
}

func (s *stage) openInspectorWithoutSessions(t *testing.T, at place) (session, error) {
	t.Helper()
	return s.inspect(t, at, "modern")
}

// inspect runs the inspector's CLI, which calls the eras of the protocol so.
func (s *stage) inspect(t *testing.T, at place, era string) (session, error) {
	t.Helper()
	return commandSession{
		run: func(args ...string) (string, error) {
			return output(s.program(t, "mcp-inspector", append([]string{
				"--cli", at.url, "--transport", "http", "--protocol-era", era,
				"--header", "Authorization: Bearer " + at.token, "--stored-auth-only",
			}, args...)...))
		},
		listing: []string{"--method", "tools/list"},
		tool:    []string{"--method", "tools/call", "--tool-name", at.tool, "--tool-arg", "message=hi"},
	}, nil
}

func (s *stage) openMcporter(t *testing.T, at place) (session, error) {
	t.Helper()
	return commandSession{
		run: func(args ...string) (string, error) {
			return output(s.program(t, "mcporter", append(args,
				"--http-url", at.url, "--allow-http", "--header", "Authorization=Bearer "+at.token, "--no-oauth")...))
		},
		listing: []string{"list", "--json"},
		tool:    []string{"call", at.tool, "message=hi", "--output", "json"},
	}, nil
}
