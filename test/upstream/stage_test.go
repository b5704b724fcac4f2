package upstream

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/bootstrap/provision"
	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/upstream/bed"
	"vault-plugin-secrets-mcp/test/upstream/servers"
)

// The registered servers.
const (
	web    = "web"    // streamable HTTP: a certificate, a one-time password, a secret of the client's
	old    = "old"    // HTTP+SSE: a certificate
	child  = "child"  // stdio: a certificate, in files
	notes  = "notes"  // streamable HTTP, a client of Vault: {{vault.token}}
	orders = "orders" // stdio: a database role
)

// surroundings are a Vault that leases, the servers that it leases for, and a gateway.
type surroundings struct {
	*harness.Harness
	t       *testing.T
	gateway *harness.Gateway
	// program is the test's, where every account may run it.
	program string
	// The servers on HTTP, and the doors before them.
	upstreams map[string]*harness.Upstream
	doors     map[string]*servers.Door
	pg        *bed.PostgreSQL // nil without a database
}

// settings change the defaults of newSurroundings.
type settings struct {
	vault       []harness.Option
	certificate string // a certificate's life; 5 minutes where empty
	block       string // lines for upstream_credentials
	database    bool   // PostgreSQL, and the server orders
	roleTTL     string // of a database role; 5 minutes where empty
	roleMaxTTL  string // likewise; an hour where empty
	// gateway has the gateway's other options.
	gateway harness.GatewayOptions
	// noGateway leaves out the gateway.
	noGateway bool
}

func newSurroundings(t *testing.T, s settings) *surroundings {
	t.Helper()
	if s.database {
		bed.Required(t)
	}
	h := harness.New(t, s.vault...)
	w := &surroundings{Harness: h, t: t, program: program(t), upstreams: map[string]*harness.Upstream{}, doors: map[string]*servers.Door{
		web: servers.HTTP(), old: servers.SSE(), notes: servers.Vault(h.Vault.Address()),
	}}
	bed.SetUp(t, h, or(s.certificate, "5m"))
	for name, door := range w.doors {
		w.upstreams[name] = h.StartUpstream(door)
	}
	if s.database {
		w.pg = bed.StartPostgreSQL(t, h)
		bed.SetUpDatabase(t, h, w.pg, or(s.roleTTL, "5m"), or(s.roleMaxTTL, "1h"))
	}
	w.register()
	if !s.noGateway {
		w.gateway = w.startGateway(s)
	}
	return w
}

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

// startGateway starts a gateway that leases.
func (w *surroundings) startGateway(s settings) *harness.Gateway {
	w.t.Helper()
	options := s.gateway
	options.Top += bed.Block(s.block)
	blocks := map[string]string{"stdio": w.stdio()}
	for name, lines := range options.Blocks {
		blocks[name] += lines
	}
	options.Blocks = blocks
	return w.StartGateway(options)
}

// stdio are the lines of the gateway's block stdio. As root, it gives each child an account
// of its own, which no other gateway on the machine uses: its numbers come from a port.
func (w *surroundings) stdio() string {
	w.t.Helper()
	const children = 256
	lines := fmt.Sprintf("allowed_commands = [%q]\nmax_children = %d\n", w.program, children)
	if os.Geteuid() == 0 {
		_, port, err := net.SplitHostPort(harness.FreeAddress(w.t))
		require.NoError(w.t, err)
		n, err := strconv.Atoi(port)
		require.NoError(w.t, err)
		lines += fmt.Sprintf("uid_range = \"%d-%d\"\n", firstAccount+n*children, firstAccount+(n+1)*children-1)
	}
	return lines
}

// firstAccount is beyond the accounts of people.
const firstAccount = 1_000_000

// certificate is the credential of most servers: a certificate for the client's alias.
var certificate = harness.Map{"path": "pki/issue/mcp", "method": "write", "data": harness.Map{"common_name": "{{client.alias}}"}}

// register registers all servers.
func (w *surroundings) register() {
	w.t.Helper()
	w.Write("mcp/servers/"+web, harness.Map{
		"transport": "http", "url": w.upstreams[web].URL,
		"credentials": harness.Map{
			"cert": certificate, "gh": "kv/data/mcp/{{client.alias}}/github",
			"otp": harness.Map{"path": "ssh/creds/otp", "method": "write", "data": harness.Map{"ip": "127.0.0.1"}},
		},
		"headers": harness.Map{
			"X-Serial": "{{cert.serial_number}}", "X-Password": "{{otp.key}}", "Authorization": "Bearer {{gh.data.token}}",
			"X-Basic": "Basic {{otp.username|basic:otp.key}}", "X-Static": "the same for all",
		},
	})
	w.Write("mcp/servers/"+old, harness.Map{
		"transport": "sse", "url": w.upstreams[old].URL, "credentials": harness.Map{"cert": certificate},
		"headers": harness.Map{"X-Serial": "{{cert.serial_number}}"},
	})
	w.Write("mcp/servers/"+child, harness.Map{
		"transport": "stdio", "command": w.program, "credentials": harness.Map{"cert": certificate},
		"env": harness.Map{
			servers.Variable: servers.Stdio, "LEASED_SERIAL": "{{cert.serial_number}}",
			"LEASED_FILE_CERT": "{{file.cert.pem}}", "LEASED_FILE_KEY": "{{file.key.pem}}",
		},
		"files": harness.Map{"cert.pem": "{{cert.certificate}}\n", "key.pem": "{{cert.private_key}}\n"},
	})
	w.Write("mcp/servers/"+notes, harness.Map{
		"transport": "http", "url": w.upstreams[notes].URL, "vault_policies": bed.ServerPolicy,
		"headers": harness.Map{"X-Vault-Token": "{{vault.token}}"},
	})
	if w.pg != nil {
		w.Write("mcp/servers/"+orders, harness.Map{
			"transport": "stdio", "command": w.program, "credentials": harness.Map{"db": "database/creds/" + bed.DatabaseRole},
			"env": harness.Map{
				servers.Variable: servers.Database, "PGUSER": "{{db.username}}",
				servers.URLVariable: "postgres://{{db.username|urlencode}}:{{db.password|urlencode}}@" + w.pg.Address + "/" + bed.Database + "?sslmode=disable",
			},
		})
	}
}

// client creates a client of all servers, with a secret at GitHub and a note of its own.
func (w *surroundings) client(name string, more harness.Map) (token string) {
	w.t.Helper()
	github := "github-token-of-" + name
	w.Leased(github)
	w.Write("kv/data/mcp/mcp:"+name+"/github", harness.Map{"data": harness.Map{"token": github}})
	w.Write("kv/data/notes/mcp:"+name, harness.Map{"data": harness.Map{"text": "a note of " + name}})
	data := harness.Map{"allowed_servers": "*"}
	for key, value := range more {
		data[key] = value
	}
	return w.CreateClient(name, data)
}

// connect opens a session with a server.
func (w *surroundings) connect(server, token string) *mcp.ClientSession {
	w.t.Helper()
	session, err := w.tryConnect(server, token)
	require.NoError(w.t, err)
	return session
}

// tryConnect opens a session without a stream of its own.
func (w *surroundings) tryConnect(server, token string) (*mcp.ClientSession, error) {
	w.t.Helper()
	return w.open(server, token, false)
}

// open opens a session, with a stream of its own if it listens. It ends with that.
func (w *surroundings) open(server, token string, listens bool) (*mcp.ClientSession, error) {
	w.t.Helper()
	transport := &http.Transport{}
	w.t.Cleanup(transport.CloseIdleConnections)
	client := mcp.NewClient(&mcp.Implementation{Name: "upstream", Version: "1"}, nil)
	b := &bearer{token: token, next: transport}
	session, err := client.Connect(w.t.Context(), &mcp.StreamableClientTransport{
		Endpoint: w.gateway.ServerURL(server), DisableStandaloneSSE: !listens, MaxRetries: -1,
		HTTPClient: &http.Client{Transport: b},
	}, &mcp.ClientSessionOptions{ProtocolVersion: harness.SessionEra})
	if err == nil {
		b.known.Store(true)
		w.t.Cleanup(func() { _ = session.Close() })
	}
	return session, err
}

// bearer adds a token to each request. While the gateway does not know the token, it is
// patient; after that a request that fails has failed.
type bearer struct {
	token string
	known atomic.Bool
	next  http.RoundTripper
}

func (b *bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.token)
	if b.known.Load() {
		return b.next.RoundTrip(r)
	}
	return (&harness.Patient{Next: b.next}).RoundTrip(r)
}

// ask calls a tool, and returns its answer.
func ask[T any](t *testing.T, session *mcp.ClientSession, tool string, arguments any) T {
	t.Helper()
	answer, err := tryAsk[T](t, session, tool, arguments)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

func tryAsk[T any](t *testing.T, session *mcp.ClientSession, tool string, arguments any) (answer T, err error) {
	t.Helper()
	result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: tool, Arguments: arguments})
	if err != nil {
		return answer, err
	}
	content, err := json.Marshal(result.StructuredContent)
	if err != nil {
		return answer, err
	}
	if result.IsError {
		text, _ := json.Marshal(result.Content)
		return answer, fmt.Errorf("%s: %s", tool, text)
	}
	return answer, json.Unmarshal(content, &answer)
}

// look asks a server for its credentials, and declares them leased.
func (w *surroundings) look(session *mcp.ClientSession) servers.Sight {
	w.t.Helper()
	seen := ask[servers.Sight](w.t, session, "look", harness.Map{})
	w.declare(&seen)
	return seen
}

// declare adds values that must not be in any log. Serial numbers are public.
func (w *surroundings) declare(seen *servers.Sight) {
	for _, name := range []string{"X-Password", "Authorization", "X-Vault-Token"} {
		w.Leased(strings.TrimPrefix(seen.Header.Get(name), "Bearer "))
	}
	for name, content := range seen.Files {
		if name == "LEASED_FILE_KEY" {
			lines := strings.Split(content, "\n")
			w.Leased(lines[1]) // the first is the same for all keys
		}
	}
	if _, rest, found := strings.Cut(seen.Env[servers.URLVariable], ":"); found {
		password, _, _ := strings.Cut(strings.TrimPrefix(rest, "//"), "@")
		_, password, _ = strings.Cut(password, ":")
		w.Leased(password)
	}
}

// owner is the client for whom the certificate in a sight was issued.
func (w *surroundings) owner(seen *servers.Sight) string {
	w.t.Helper()
	serial := seen.Header.Get("X-Serial")
	if serial == "" {
		serial = seen.Env["LEASED_SERIAL"]
	}
	name, _, err := bed.Certificate(w.t.Context(), w.Harness, serial)
	require.NoError(w.t, err)
	if content, ok := seen.Files["LEASED_FILE_CERT"]; ok {
		inFile, err := bed.CommonName(content)
		require.NoError(w.t, err)
		require.Equal(w.t, name, inFile, "one set of values comes from two certificates")
	}
	return strings.TrimPrefix(name, "mcp:")
}

// tokens are the child tokens of a client that live.
func (w *surroundings) tokens(client string) []bed.Child {
	w.t.Helper()
	entity := bed.Entity(w.t, w.Harness, "mcp:"+client)
	var own []bed.Child
	for _, c := range bed.Children(w.t, w.Harness) {
		if c.Entity == entity {
			own = append(own, c)
		}
	}
	return own
}

// condition is something that a test waits for; nil: it holds.
type condition func() error

// all waits until every condition holds, for at most bound, and returns after how long each
// of them did, as text.
func (w *surroundings) all(bound time.Duration, conditions map[string]condition) string {
	w.t.Helper()
	began := time.Now()
	var took []string
	w.Within(bound, "all of it has ended", func() error {
		var missing error
		for name, check := range conditions {
			err := check()
			if err != nil {
				missing = errors.Join(missing, fmt.Errorf("%s: %w", name, err))
				continue
			}
			took = append(took, fmt.Sprintf("%s %d ms", name, time.Since(began).Milliseconds()))
			delete(conditions, name)
		}
		return missing
	})
	if total := time.Since(began); total > bound {
		w.t.Errorf("it took %s: %s", total, strings.Join(took, ", "))
	}
	return strings.Join(took, ", ")
}

// ended is nil once no process of that id is there.
func ended(pid int) error {
	if _, err := os.Stat("/proc/" + strconv.Itoa(pid)); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return errors.New("it runs")
}

// none is nil where a list is empty.
func none[T any](list []T) error {
	if len(list) > 0 {
		return fmt.Errorf("there are %v", list)
	}
	return nil
}

// refused is nil once a token is refused with 401.
func (w *surroundings) refused(server, token string) error {
	w.t.Helper()
	answer := w.DoOnce(http.MethodGet, w.gateway.ServerURL(server), token, http.Header{"Accept": {"text/event-stream"}}, "")
	if answer.Status != http.StatusUnauthorized {
		return fmt.Errorf("answered %d", answer.Status)
	}
	return nil
}

// program copies the test's program to where every account may run it.
func program(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	dir, err := os.MkdirTemp("", "upstream") //nolint:usetesting // whose folder other accounts cannot enter
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	path := filepath.Join(dir, "server")
	require.NoError(t, provision.CopyProgram(self, path, 0o755))
	return path
}
