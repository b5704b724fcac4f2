package clients

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/bootstrap/demo"
	"vault-plugin-secrets-mcp/bootstrap/demo/idp"
	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/mcpclient"
	"vault-plugin-secrets-mcp/test/npm"
	"vault-plugin-secrets-mcp/test/signin/bed"
)

// accessLife is how long access tokens live here, so that clients have to refresh soon.
const accessLife = 4 * time.Second

// company is where people sign in with clients that register themselves.
type company struct {
	*bed.Bed
	*offline
	*mcpclient.Kit
	url string // of the server that echoes
}

func newCompany(t *testing.T) *company {
	t.Helper()
	modules := npm.Install(t)
	c := &company{Bed: bed.New(t, bed.Options{SignIn: "dynamic_registration = true\n"}), offline: newOffline(t)}
	c.Kit = &mcpclient.Kit{Modules: modules, Environment: c.environment, Patience: 2 * mcpclient.Patience}
	server := mcp.NewServer(&mcp.Implementation{Name: "echo", Version: "1"}, nil)
	type message struct {
		Message string `json:"message"`
	}
	mcp.AddTool(server, &mcp.Tool{Name: "echo"}, func(_ context.Context, _ *mcp.CallToolRequest, in message) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "Echo: " + in.Message}}}, nil, nil
	})
	upstream := c.StartUpstream(demo.Handler(server))
	c.Write("mcp/servers/echo", harness.Map{"transport": "http", "url": upstream.URL})
	c.Write("mcp/clients/"+bed.Engineering, harness.Map{"allowed_servers": "echo", "token_max_ttl": accessLife.String()})
	c.url = c.ServerURL("echo")
	return c
}

// person is somebody who uses one client.
type person struct {
	*company
	t       *testing.T
	name    string
	browser *bed.Browser
	// opened are the addresses that the client wants opened, and back takes the address to
	// which the browser has come back for it.
	opened chan string
	back   func(address string) error
}

// join is a new person of the company.
func (c *company) join(t *testing.T, name string) *person {
	t.Helper()
	view := *c
	view.Bed = c.Bed.In(t)
	require.NoError(t, view.Company.Add(idp.Person{Name: name, Password: bed.Password, Groups: []string{bed.Engineering}}))
	p := &person{company: &view, t: t, name: name, browser: view.Browser(name), opened: make(chan string, 1)}
	p.back = p.follow
	return p
}

// follow has the browser open the address at which a client waits on the loopback. Some of
// them are not there yet: a person is not that fast.
func (p *person) follow(address string) error {
	p.Eventually("the client takes its answer", func() error {
		request, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, address, http.NoBody)
		if err != nil {
			return err
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		_, _ = io.Copy(io.Discard, answer.Body)
		return answer.Body.Close()
	})
	return nil
}

// do does something with the client, and signs in whenever it asks for that. It returns how
// often that was.
func (p *person) do(work func() error) (signedIn int, err error) {
	p.t.Helper()
	done := make(chan error, 1)
	go func() { done <- work() }()
	for {
		select {
		case err := <-done:
			return signedIn, err
		case address := <-p.opened:
			signedIn++
			landed := bed.Approve(p.browser.Open(address), bed.Engineering)
			require.Zero(p.t, landed.Status, landed.Text())
			require.Empty(p.t, landed.URL.Query().Get("error"), landed.URL)
			p.Secret(landed.URL.Query().Get("code"))
			if err := p.back(landed.URL.String()); err != nil {
				return signedIn, err
			}
		}
	}
}

// events are the audit lines of the person's sign-ins, of one kind.
func (p *person) events(kind string) (lines []harness.Map) {
	for _, line := range p.Gateway.Audit() {
		if line["type"] == "sign-in" && line["event"] == kind && line["person"] == p.name {
			lines = append(lines, line)
		}
	}
	return lines
}

// asks is what programs print for people whose browser they cannot open.
var asks = regexp.MustCompile(`http://[\w.:]+/sign-in/authorize\?[\w.%&=+-]+`)

// screen is where a program prints. It has opened what the program asks to be opened.
type screen struct {
	opened chan<- string

	mu   sync.Mutex
	text bytes.Buffer
	seen map[string]bool
}

func (p *person) screen() *screen { return &screen{opened: p.opened, seen: map[string]bool{}} }

func (s *screen) Write(part []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text.Write(part)
	for _, at := range asks.FindAllIndex(s.text.Bytes(), -1) {
		address := string(s.text.Bytes()[at[0]:at[1]])
		if at[1] < s.text.Len() && !s.seen[address] { // it is complete: something follows
			s.seen[address] = true
			s.opened <- address
		}
	}
	return len(part), nil
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// noBrowser is a desktop on which no program can open one.
func (p *person) noBrowser(home string) []string {
	p.t.Helper()
	dir := p.t.TempDir()
	require.NoError(p.t, os.WriteFile(filepath.Join(dir, "xdg-open"), []byte("#!/bin/sh\nexit 1\n"), 0o700))
	return append(p.Environment(home), "PATH="+dir+":"+os.Getenv("PATH"), "BROWSER="+filepath.Join(dir, "xdg-open"))
}

// TestClientsSignIn: each of them signs its person in, calls, refreshes at least twice, is
// revoked, and signs in again. The audit log has all of it.
func TestClientsSignIn(t *testing.T) {
	c := newCompany(t)
	for name, open := range map[string]func(*person) func() (string, error){
		"go-sdk": (*person).goSDK, "typescript-sdk": (*person).typeScriptSDK, "mcp-remote": (*person).remote,
		"inspector": (*person).inspector, "claude-code": (*person).claudeCode, "codex": (*person).codex,
		"mcporter": (*person).mcporter,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := c.join(t, name)
			call := open(p)
			try := func() int {
				t.Helper()
				n, err := p.do(func() error {
					answer, err := call()
					if err == nil && !strings.Contains(answer, hi) {
						err = fmt.Errorf("the answer is %q", answer)
					}
					return err
				})
				require.NoError(t, err)
				return n
			}
			require.Equal(t, 1, try(), "the first call signs in")
			p.Eventually("it has refreshed twice", func() error {
				require.Zero(t, try(), "nobody has to sign in again")
				if n := len(p.events("refreshed")); n < 2 {
					return fmt.Errorf("it has refreshed %d times", n)
				}
				return nil
			})
			first := p.events("token")
			require.Len(t, first, 1)
			id := first[0]["sign_in"]
			p.Write("auth/token/revoke-accessor", harness.Map{"accessor": id})
			p.Within(10*time.Second, "it signs in again", func() error {
				if n := try(); n != 1 {
					return fmt.Errorf("it has signed in %d times", n)
				}
				return nil
			})
			require.Zero(t, try())
			again := p.events("token")
			require.Len(t, again, 2)
			require.NotEqual(t, id, again[1]["sign_in"])
			calls := 0
			for _, line := range p.Gateway.Audit() {
				if line["tool"] == "echo" && line["person"] == name {
					calls++
				}
			}
			require.GreaterOrEqual(t, calls, 5)
		})
	}
}

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
