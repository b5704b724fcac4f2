package bed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"vault-plugin-secrets-mcp/test/harness"
)

// The identities of a bed, and its servers.
const (
	Engineering = "engineering" // may reach both servers
	Oncall      = "oncall"      // may reach the calculator
	Hidden      = "hidden"      // exists, and is not for sign-in

	Calculator = "calculator" // over HTTP
	Notes      = "notes"      // on stdio: a child that remembers
)

// The applications in the gateway's file, by their ids. Both redirect to the loopback.
const (
	Editor    = "editor"
	Assistant = "assistant"
)

// LoginName is the login of people in the gateway's file.
const LoginName = "employees"

// Options change a bed.
type Options struct {
	// Nodes of Vault; 0: one in dev mode.
	Nodes int
	// Gateways is how many stand behind the public URL; 0: one.
	Gateways int
	// TLS makes the public URL https, as behind a proxy that ends TLS.
	TLS bool
	// SignIn is added to the block sign_in of the gateways' file.
	SignIn string
	// SessionMax, PersonPolicies: of that block; "": 12h, and the defaults.
	SessionMax, PersonPolicies string
	// Blocks and Top are added to the gateways' file, as in [harness.GatewayOptions].
	Blocks map[string]string
	Top    string
	// Env is added to the gateways' environment.
	Env []string
	// Vault is the URL of a front before Vault that the gateways use; nil: none. It gets
	// Vault's own URL.
	Vault func(address string) string
	// Role is added to the role of people's login.
	Role harness.Map
}

// Bed is a stage for sign-in.
type Bed struct {
	*harness.Harness
	// Door is the public URL.
	Door *Door
	// Gateways stand behind it.
	Gateways []*harness.Gateway
	// Gateway is the first of them.
	Gateway *harness.Gateway
	// Calculator is the server over HTTP.
	Calculator *harness.Upstream
	// Company has the people.
	Company *Company

	t *testing.T
}

// New starts a bed.
func New(t *testing.T, opts Options) *Bed {
	t.Helper()
	var of []harness.Option
	if opts.Nodes > 0 {
		of = append(of, harness.WithCluster(opts.Nodes))
	}
	h := harness.New(t, of...)
	b := &Bed{Harness: h, t: t, Door: newDoor(t, opts.TLS)}
	// Registered here, it runs when the gateways have ended.
	t.Cleanup(func() { b.searchLogs(t) })
	b.Company = newCompany(t, h, b.Door.URL, opts.Role)
	b.Calculator = h.StartUpstream(nil)
	b.register()
	gateway := harness.GatewayOptions{Blocks: b.blocks(opts), Top: opts.Top, Env: opts.Env}
	if opts.Vault != nil {
		gateway.Vault = opts.Vault(h.Vault.Address())
	}
	for range max(1, opts.Gateways) {
		b.Gateways = append(b.Gateways, h.StartGateway(gateway))
	}
	b.Gateway = b.Gateways[0]
	t.Cleanup(func() { b.keepMetrics(t) })
	b.Door.open(t, b.Gateways)
	return b
}

// In returns the bed for a subtest.
func (b *Bed) In(t *testing.T) *Bed {
	t.Helper()
	view := *b
	view.Harness, view.t = b.Harness.In(t), t
	return &view
}

// register writes servers and identities.
func (b *Bed) register() {
	b.t.Helper()
	b.Write("mcp/servers/"+Calculator, harness.Map{"transport": "http", "url": b.Calculator.URL})
	b.Write("mcp/servers/"+Notes, harness.Map{
		"transport": "stdio", "command": b.Programs.Bootstrap, "args": []string{"demo", "notes"},
	})
	b.Write("mcp/config", harness.Map{"sign_in_logins": harness.Map{LoginName: b.Company.Accessor}})
	for name, data := range map[string]harness.Map{
		Engineering: {"allowed_servers": Calculator + "," + Notes, "sign_in": true},
		Oncall:      {"allowed_servers": Calculator, "sign_in": true},
		Hidden:      {"allowed_servers": Calculator},
	} {
		b.CreateClient(name, data)
	}
}

// blocks are those of a gateway's file.
func (b *Bed) blocks(opts Options) map[string]string {
	var signIn strings.Builder
	if opts.SessionMax != "" {
		fmt.Fprintf(&signIn, "session_max = %q\n", opts.SessionMax)
	}
	if opts.PersonPolicies != "" {
		fmt.Fprintf(&signIn, "person_policies = [%s]\n", opts.PersonPolicies)
	}
	fmt.Fprintf(&signIn, "login %q {\n  mount = %q\n  role  = %q\n  title = \"Example Inc.\"\n}\n", LoginName, Mount, Role)
	for id, name := range map[string]string{Editor: "Example Editor", Assistant: "Example Assistant"} {
		fmt.Fprintf(&signIn, "application %q {\n  name = %q\n  redirect_uris = [%q]\n}\n", id, name, redirect)
	}
	blocks := map[string]string{
		"listener": fmt.Sprintf("public_url = %q\ntrusted_proxies = [\"127.0.0.1\"]\n", b.Door.URL),
		"stdio":    fmt.Sprintf("allowed_commands = [%q]\n", b.Programs.Bootstrap),
		"sign_in":  signIn.String() + opts.SignIn,
	}
	for name, lines := range opts.Blocks {
		blocks[name] += lines
	}
	return blocks
}

// ServerURL is the resource of one server.
func (b *Bed) ServerURL(server string) string {
	return b.Door.URL + "/sign-in/servers/" + server + "/mcp"
}

// AllURL is the resource of all servers as one.
func (b *Bed) AllURL() string { return b.Door.URL + "/sign-in/mcp" }

// OfClients is the URL at which clients of the engine reach the same servers as at that
// resource.
func (b *Bed) OfClients(resource string) string {
	return strings.Replace(resource, "/sign-in/", "/", 1)
}

// vaultToken is the form of a service, batch or recovery token of Vault's, and of a
// wrapping token.
var vaultToken = regexp.MustCompile(`hv[sbr]\.[A-Za-z0-9_-]{20,}`)

// searchLogs fails the test where a log of a gateway has a token of Vault's, for a person's
// token is a secret that no test ever holds, or a code of the company's.
func (b *Bed) searchLogs(t *testing.T) {
	t.Helper()
	for _, path := range b.Logs() {
		if !strings.HasPrefix(filepath.Base(path), "gateway") {
			continue
		}
		content, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
		}
		if vaultToken.Match(content) {
			t.Errorf("a token of Vault's is in %s", path)
		}
		if b.Company.gave(content) {
			t.Errorf("a code of the identity provider is in %s", path)
		}
	}
}

// keepMetrics puts the metrics of each gateway that runs beside the logs, which the harness
// searches for secrets.
func (b *Bed) keepMetrics(t *testing.T) {
	t.Helper()
	for i, g := range b.Gateways {
		if !g.Process.Running() {
			continue
		}
		// The test's own context has ended.
		request, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodGet, g.Admin+"/metrics", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Error(err)
			continue
		}
		content, err := io.ReadAll(answer.Body)
		err = errors.Join(err, answer.Body.Close(), os.WriteFile(filepath.Join(b.Dir, fmt.Sprintf("gateway-%d-metrics.log", i+1)), content, 0o600))
		if err != nil {
			t.Error(err)
		}
	}
}

// Reload puts other lines in every gateway's file, and starts the gateways again with it.
func (b *Bed) Reload(from, to string) {
	b.t.Helper()
	for _, g := range b.Gateways {
		content, err := os.ReadFile(g.Config)
		if err != nil {
			b.t.Fatal(err)
		}
		if !bytes.Contains(content, []byte(from)) {
			b.t.Fatalf("the file has no %q", from)
		}
		g.Configure(strings.ReplaceAll(string(content), from, to))
		g.Restart()
	}
}

// Certificate is the authority of the public URL in PEM; nil without TLS.
func (b *Bed) Certificate() []byte {
	if b.Door.authority == nil {
		return nil
	}
	return b.Door.authority.PEM
}

// client is an HTTP client that trusts the public URL, keeps no connection, and follows no
// redirect.
func (b *Bed) client() *http.Client { return b.Door.client() }
