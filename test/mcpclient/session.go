package mcpclient

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// Place is a client's configuration, and the tool that it calls there.
type Place struct{ URL, Token, Tool string }

// Session is a client that has connected, or connects for each command.
type Session interface {
	// Tools are the names of the tools that the client knows.
	Tools() ([]string, error)
	// Call calls the place's tool, which echoes "hi".
	Call() (string, error)
}

// hi are the arguments of such a call.
func hi() map[string]any { return map[string]any{"message": "hi"} }

// SDKSession is a session of the Go SDK's client.
type SDKSession struct {
	t *testing.T
	*mcp.ClientSession
	tool string
}

// NewSDKSession is a session with its tool.
func NewSDKSession(t *testing.T, session *mcp.ClientSession, tool string) SDKSession {
	t.Helper()
	return SDKSession{t, session, tool}
}

// Tools implements [Session].
func (s SDKSession) Tools() ([]string, error) {
	var names []string
	for tool, err := range s.ClientSession.Tools(s.t.Context(), nil) {
		if err != nil {
			return nil, err
		}
		names = append(names, tool.Name)
	}
	return names, nil
}

// Call implements [Session].
func (s SDKSession) Call() (string, error) { return CallTool(s.t, s.ClientSession, s.tool, hi()) }

// CallTool calls a tool and returns the text of its answer.
func CallTool(t *testing.T, session *mcp.ClientSession, tool string, arguments any) (string, error) {
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

// Connect opens a session of the Go SDK's client.
func Connect(t *testing.T, transport mcp.Transport, options *mcp.ClientOptions) (*mcp.ClientSession, error) {
	t.Helper()
	client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, options)
	session, err := client.Connect(t.Context(), transport, nil)
	if err == nil {
		t.Cleanup(func() { _ = session.Close() })
	}
	return session, err
}

// commandSession is a program that runs one command at a time, and prints JSON.
type commandSession struct {
	run           func(args ...string) (string, error)
	listing, tool []string // its arguments to list tools, and to call the tool
}

func (s commandSession) Tools() ([]string, error) {
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

func (s commandSession) Call() (string, error) { return s.run(s.tool...) }

// The eras of the protocol, as the inspector calls them.
const (
	WithSessions    = "legacy"
	WithoutSessions = "modern"
)

// Inspect runs the inspector's CLI.
func (k *Kit) Inspect(t *testing.T, at Place, era string) Session {
	t.Helper()
	return commandSession{
		run: func(args ...string) (string, error) {
			return Output(k.Program(t, "mcp-inspector", append([]string{
				"--cli", at.URL, "--transport", "http", "--protocol-era", era,
				"--header", "Authorization: Bearer " + at.Token, "--stored-auth-only",
			}, args...)...))
		},
		listing: []string{"--method", "tools/list"},
		tool:    []string{"--method", "tools/call", "--tool-name", at.Tool, "--tool-arg", "message=hi"},
	}
}

// Mcporter runs mcporter's CLI.
func (k *Kit) Mcporter(t *testing.T, at Place) Session {
	t.Helper()
	return commandSession{
		run: func(args ...string) (string, error) {
			return Output(k.Program(t, "mcporter", append(args,
				"--http-url", at.URL, "--allow-http", "--header", "Authorization=Bearer "+at.Token, "--no-oauth")...))
		},
		listing: []string{"list", "--json"},
		tool:    []string{"call", at.Tool, "message=hi", "--output", "json"},
	}
}

// RemoteArgs are mcp-remote's for a URL.
func RemoteArgs(url string, more ...string) []string {
	return append([]string{url, "--allow-http", "--transport", "http-only"}, more...)
}

// Remote is a client on stdio that mcp-remote connects, which has env in its
// environment.
func (k *Kit) Remote(t *testing.T, tool string, args []string, env ...string) (Session, error) {
	t.Helper()
	cmd := k.Program(t, "mcp-remote", args...)
	cmd.Env = append(cmd.Env, env...)
	var says bytes.Buffer
	cmd.Stderr = &says
	opened, err := Connect(t, &mcp.CommandTransport{Command: cmd}, nil)
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, says.String())
	}
	return SDKSession{t, opened, tool}, nil
}
