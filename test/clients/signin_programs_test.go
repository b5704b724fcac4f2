package clients

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/mcpclient"
)

// goSDK is the Go SDK's client.
func (p *person) goSDK() func() (string, error) {
	answers := make(chan *auth.AuthorizationResult)
	p.back = func(address string) error {
		at, err := url.Parse(address)
		if err == nil {
			answers <- &auth.AuthorizationResult{Code: at.Query().Get("code"), State: at.Query().Get("state"), Iss: at.Query().Get("iss")}
		}
		return err
	}
	handler, err := auth.NewAuthorizationCodeHandler(&auth.AuthorizationCodeHandlerConfig{
		DynamicClientRegistrationConfig: &auth.DynamicClientRegistrationConfig{Metadata: &oauthex.ClientRegistrationMetadata{
			ClientName: "Go SDK", RedirectURIs: []string{"http://localhost:8090/callback"}, TokenEndpointAuthMethod: "none",
			GrantTypes: []string{"authorization_code", "refresh_token"},
		}},
		RequestRefreshToken: true,
		AuthorizationCodeFetcher: func(_ context.Context, args *auth.AuthorizationArgs) (*auth.AuthorizationResult, error) {
			p.opened <- args.URL
			return <-answers, nil
		},
	})
	require.NoError(p.t, err)
	var session *mcp.ClientSession
	return func() (string, error) {
		if session == nil {
			session, err = mcpclient.Connect(p.t, &mcp.StreamableClientTransport{Endpoint: p.url, OAuthHandler: handler, MaxRetries: -1}, nil)
			if err != nil {
				return "", err
			}
		}
		return mcpclient.CallTool(p.t, session, "echo", harness.Map{"message": "hi"})
	}
}

// typeScriptSDK is an application on the TypeScript SDK: see signin.cjs.
func (p *person) typeScriptSDK() func() (string, error) {
	script, err := filepath.Abs("signin.cjs")
	require.NoError(p.t, err)
	cmd := p.Command(p.t, p.Modules.Node, script, p.Modules.Dir, p.url)
	in, err := cmd.StdinPipe()
	require.NoError(p.t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(p.t, err)
	var problems bytes.Buffer
	cmd.Stderr = &problems
	require.NoError(p.t, cmd.Start())
	p.t.Cleanup(func() { _ = cmd.Cancel(); _ = cmd.Wait() })
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	tell := func(command string) (answer struct{ Open, Answer, Error string }, err error) {
		if _, err := io.WriteString(in, command+"\n"); err != nil {
			return answer, err
		}
		if !lines.Scan() {
			return answer, errors.New("it has ended: " + problems.String())
		}
		return answer, json.Unmarshal(lines.Bytes(), &answer)
	}
	returned := make(chan string)
	p.back = func(address string) error { returned <- address; return nil }
	return func() (string, error) {
		for {
			got, err := tell("call")
			if err != nil || got.Open == "" {
				return got.Answer, errors.Join(err, failed(got.Error))
			}
			p.opened <- got.Open
			got, err = tell("back " + <-returned)
			if err != nil || got.Error != "" {
				return "", errors.Join(err, failed(got.Error))
			}
		}
	}
}

func failed(text string) error {
	if text == "" {
		return nil
	}
	return errors.New(text)
}

// remote is mcp-remote, which brings a client on stdio to the server. It signs in while it
// connects, so each call is a connection of its own.
func (p *person) remote() func() (string, error) {
	home := p.t.TempDir()
	environment := p.noBrowser(home)
	return func() (string, error) {
		cmd := p.Program(p.t, "mcp-remote", mcpclient.RemoteArgs(p.url)...)
		cmd.Dir, cmd.Env = home, environment
		says := p.screen()
		cmd.Stderr = says
		session, err := mcpclient.Connect(p.t, &mcp.CommandTransport{Command: cmd}, nil)
		if err != nil {
			return "", fmt.Errorf("%w\n%s", err, says)
		}
		defer session.Close()
		return mcpclient.CallTool(p.t, session, "echo", harness.Map{"message": "hi"})
	}
}

// inspector is the inspector's CLI.
func (p *person) inspector() func() (string, error) {
	home := p.t.TempDir()
	environment := append(p.noBrowser(home), "MCP_AUTO_OPEN_ENABLED=true", "MCP_INSPECTOR_SECRET_STORE=file")
	callback := "http://" + harness.FreeAddress(p.t) + "/oauth/callback"
	return func() (string, error) {
		cmd := p.Program(p.t, "mcp-inspector", "--cli", p.url, "--transport", "http", "--protocol-era", mcpclient.WithSessions,
			"--callback-url", callback, "--method", "tools/call", "--tool-name", "echo", "--tool-arg", "message=hi")
		cmd.Dir, cmd.Env = home, environment
		return p.printed(cmd)
	}
}

// claudeCode is Claude Code's CLI, with a scripted model.
func (p *person) claudeCode() func() (string, error) {
	home := p.t.TempDir()
	_, err := mcpclient.Output(p.Claude(p.t, mcpclient.Claude, home, mcpclient.NewModel(p.t), "", "mcp", "add", "--scope", "user", "--transport", "http", "it", p.url))
	require.NoError(p.t, err)
	return func() (string, error) {
		model := mcpclient.NewModel(p.t, mcpclient.Step{Tool: "mcp__it__echo", Arguments: harness.Map{"message": "hi"}})
		ask := func() error {
			_, err := mcpclient.Output(p.Claude(p.t, mcpclient.Claude, home, model, "", "-p", "Say hi.", "--allowedTools", model.Tools()))
			return err
		}
		if err := ask(); err != nil || model.Answered() != "" {
			return model.Answered(), err
		}
		// A model is offered no tools of a server to which nobody is signed in.
		if err := p.claudeLogin(p.Claude(p.t, mcpclient.Claude, home, model, "", "mcp", "login", "it", "--no-browser")); err != nil {
			return "", err
		}
		err := ask()
		return model.Answered(), err
	}
}

// claudeLogin runs a program that wants a terminal, where the person types the address to
// which the browser has come back.
func (p *person) claudeLogin(login *exec.Cmd) error {
	var line strings.Builder
	for _, word := range login.Args {
		line.WriteString(" '" + word + "'")
	}
	cmd := p.Command(p.t, "script", "--quiet", "--return", "--flush", "--command", "stty -echo cols 5000;"+line.String(), "/dev/null")
	cmd.Dir, cmd.Env = login.Dir, login.Env
	says := p.screen()
	cmd.Stdout, cmd.Stderr = says, says
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	p.back = func(address string) error {
		_, err := io.WriteString(in, address+"\r")
		return err
	}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%w\n%s", err, says)
	}
	return nil
}

// codex is Codex, as editors drive it. It is started for each call, and signs in by a command
// of its own.
func (p *person) codex() func() (string, error) {
	s := &stage{Harness: p.Harness, offline: p.offline, Kit: p.Kit}
	home := s.codexHome(p.t, fmt.Sprintf("mcp_oauth_credentials_store = \"file\"\n[mcp_servers.it]\nurl = %q\n", p.url))
	call := func() (string, error) {
		c, err := s.startCodex(p.t, home, "", "it")
		if err != nil {
			return "", err
		}
		return c.callTool("echo", harness.Map{"message": "hi"})
	}
	return func() (string, error) {
		answer, err := call()
		if err == nil {
			return answer, nil
		}
		login := s.codex(p.t, home, "", "mcp", "login", "it")
		login.Env = append(login.Env, p.noBrowser(home)...)
		says := p.screen()
		login.Stdout, login.Stderr = says, says
		if failed := login.Run(); failed != nil {
			return "", fmt.Errorf("%w, and then %w\n%s", err, failed, says)
		}
		return call()
	}
}

// mcporter is mcporter's CLI.
func (p *person) mcporter() func() (string, error) {
	home := p.t.TempDir()
	environment := p.noBrowser(home)
	config := filepath.Join(home, "mcporter.json")
	content, err := json.Marshal(harness.Map{"mcpServers": harness.Map{"it": harness.Map{"url": p.url, "auth": "oauth"}}})
	require.NoError(p.t, err)
	require.NoError(p.t, os.WriteFile(config, content, 0o600))
	return func() (string, error) {
		cmd := p.Program(p.t, "mcporter", "--config", config, "call", "it.echo", "message=hi", "--output", "json")
		cmd.Dir, cmd.Env = home, environment
		return p.printed(cmd)
	}
}

// printed runs a program that prints the URL to open, and returns the rest of its output.
func (p *person) printed(cmd *exec.Cmd) (string, error) {
	says := p.screen()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = io.MultiWriter(&out, says), says
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, says)
	}
	return out.String(), nil
}
