package clients

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
)

// place is what a client is configured with.
type place struct{ url, token string }

// client is an MCP client.
type client struct {
	// open has the client connect.
	open func(*testing.T, place) (session, error)
	// unknown and forbidden are what it says about a token that is not valid, and
	// about a server that it may not reach.
	unknown, forbidden string
}

// session is a client that has connected, or is going to for each command.
type session interface {
	// tools are the names of the tools that the client knows.
	tools() ([]string, error)
	// echo has the tool of this name say "hi".
	echo() (string, error)
}

// hi is what server-everything's tool echo answers to "hi".
const hi = "Echo: hi"

func (s *stage) clients() map[string]client {
	const (
		noSignIn = "There is no sign-in at this gateway"
		notValid = "The access token is not valid."
		mayNot   = "This client may not reach this server."
	)
	return map[string]client{
		"the Go SDK":                            {s.openSDK, "Unauthorized", "Forbidden"},
		"mcp-remote with the token as a header": {s.openRemote, noSignIn, mayNot},
		"mcp-remote with the token in a file":   {s.openRemoteWithFile, noSignIn, mayNot},
		"the inspector":                         {s.openInspector, notValid, mayNot},
		"mcporter":                              {s.openMcporter, "401", "403"},
		"Claude Code":                           {s.openClaude, notValid, mayNot},
		"Codex":                                 {s.openCodex, "is not logged in", "403"},
	}
}

func TestClients(t *testing.T) {
	s := newStage(t)
	url := s.startEverything(t, "streamableHttp") + "/mcp"
	s.Write("mcp/servers/everything", harness.Map{"transport": "http", "url": url})
	on := place{s.gateway.ServerURL("everything"), s.CreateClient("editor", harness.Map{"allowed_servers": "everything"})}
	off := place{s.gateway.ServerURL("off"), on.token}
	revoked := place{on.url, s.CreateClient("former", harness.Map{"allowed_servers": "everything"})}
	s.Write("mcp/revoke-client/former", nil)

	for name, client := range s.clients() {
		t.Run(name+" lists tools and calls one", func(t *testing.T) {
			session, err := client.open(t, on)
			require.NoError(t, err)
			tools, err := session.tools()
			require.NoError(t, err)
			require.Subset(t, tools, []string{"echo", "get-sum"})
			answer, err := session.echo()
			require.NoError(t, err)
			require.Contains(t, answer, hi)
		})
		t.Run(name+" is refused with a revoked token", func(t *testing.T) {
			require.ErrorContains(t, client.try(t, revoked), client.unknown)
		})
		t.Run(name+" is refused at a server that it may not reach", func(t *testing.T) {
			require.ErrorContains(t, client.try(t, off), client.forbidden)
		})
	}
	require.Zero(t, s.off.Count(), "the server that nobody may reach was reached")
}

// try returns what is in the way of a call.
func (c client) try(t *testing.T, at place) error {
	t.Helper()
	session, err := c.open(t, at)
	if err == nil {
		_, err = session.echo()
	}
	return err
}

// sdkSession is a session of the Go SDK's client.
type sdkSession struct {
	t *testing.T
	*mcp.ClientSession
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

func (s sdkSession) echo() (string, error) { return s.call("echo", harness.Map{"message": "hi"}) }

// call calls a tool and returns the text that it answers.
func (s sdkSession) call(tool string, arguments any) (string, error) {
	result, err := s.CallTool(s.t.Context(), &mcp.CallToolParams{Name: tool, Arguments: arguments})
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
	return sdkSession{t, opened}, err
}

// commandSession is a program that does one thing a time, and prints it as JSON.
type commandSession struct {
	run        func(args ...string) (string, error)
	list, call []string // its arguments to list tools, and to call echo
}

func (s commandSession) tools() ([]string, error) {
	text, err := s.run(s.list...)
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

func (s commandSession) echo() (string, error) { return s.run(s.call...) }

func (s *stage) openInspector(t *testing.T, at place) (session, error) {
	t.Helper()
	return commandSession{
		run: func(args ...string) (string, error) {
			return output(s.program(t, "mcp-inspector", append([]string{
				"--cli", at.url, "--transport", "http", "--header", "Authorization: Bearer " + at.token, "--stored-auth-only",
			}, args...)...))
		},
		list: []string{"--method", "tools/list"},
		call: []string{"--method", "tools/call", "--tool-name", "echo", "--tool-arg", "message=hi"},
	}, nil
}

func (s *stage) openMcporter(t *testing.T, at place) (session, error) {
	t.Helper()
	return commandSession{
		run: func(args ...string) (string, error) {
			return output(s.program(t, "mcporter", append(args,
				"--http-url", at.url, "--allow-http", "--header", "Authorization=Bearer "+at.token, "--no-oauth")...))
		},
		list: []string{"list", "--json"},
		call: []string{"call", "echo", "message=hi", "--output", "json"},
	}, nil
}
