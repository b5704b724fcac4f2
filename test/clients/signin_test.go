package clients

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
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
	upstream := c.StartUpstream(withoutStreams(server))
	c.Write("mcp/servers/echo", harness.Map{"transport": "http", "url": upstream.URL})
	c.Write("mcp/clients/"+bed.Engineering, harness.Map{"allowed_servers": "echo", "token_max_ttl": accessLife.String()})
	c.url = c.ServerURL("echo")
	return c
}

// withoutStreams serves a server whose answers are JSON. The TypeScript SDK closes the connection
// on which it has read an answer as a stream, and Node sometimes sends the next request there,
// which is then lost. Here it is about tokens.
func withoutStreams(server *mcp.Server) http.Handler {
	get := func(*http.Request) *mcp.Server { return server }
	sessions := mcp.NewStreamableHTTPHandler(get, &mcp.StreamableHTTPOptions{JSONResponse: true})
	others := demo.Handler(server)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Mcp-Protocol-Version") == harness.StatelessEra {
			others.ServeHTTP(w, r)
			return
		}
		sessions.ServeHTTP(w, r)
	})
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

// asks is the line that programs print if they cannot open a browser.
var asks = regexp.MustCompile(`http://[\w.:]+/sign-in/authorize\?[\w.%&=+-]+`)

// screen takes a program's output, and opens the URLs that the program asks people to
// open.
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
