// Package harness runs the system for black-box tests: a real Vault with the
// real plugin, real gateways, and real MCP servers and clients, all on the
// loopback with ports that the kernel chose.
//
//	h := harness.New(t)
//	calculator := h.StartUpstream(nil)
//	h.Write("mcp/servers/calculator", harness.Map{"transport": "http", "url": calculator.URL})
//	token := h.CreateClient("cursor", harness.Map{"allowed_servers": "calculator"})
//	gateway := h.StartGateway(harness.GatewayOptions{})
//	session := h.Connect(gateway.ServerURL("calculator"), token)
//
// When the test ends, the harness stops everything that it has started, and searches every
// log for tokens, races and panics. So every black-box test checks these without a line
// about them.
//
// The programs are those in $TEST_PROGRAMS, and Vault is $TEST_VAULT; `make test` sets
// both. Without them, the harness calls make to build them. OpenBao in place of Vault is
// recognized by its version.
package harness

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"vault-plugin-secrets-mcp/bootstrap/policies"
	"vault-plugin-secrets-mcp/bootstrap/process"
	"vault-plugin-secrets-mcp/bootstrap/provision"
)

// Mount is where the engine is mounted.
const Mount = "mcp"

// patience bounds every wait for something that should happen at once. It is long
// because test machines are slow now and then.
const patience = 60 * time.Second

// Map is the data of a write to Vault.
type Map = map[string]any

// Harness is a Vault with the engine mounted, and the programs that tests start beside it.
type Harness struct {
	// Vault is one server in dev mode, or a cluster.
	Vault *Vault
	// Dir is the test's folder. It has the logs, one for each process.
	Dir string
	// Programs are the three programs under test.
	Programs Programs

	t testing.TB
	*state
}

// state is shared by a harness and its copies for subtests.
type state struct {
	group   process.Group
	secrets secrets // in no log, and at no upstream
	leased  secrets // in no log

	mu        sync.Mutex
	counts    map[string]int
	upstreams []*Upstream
	login     *provision.AppRole
}

// Option is an option of New.
type Option func(*options)

type options struct {
	nodes  int     // 0: dev mode
	places []Place // of the nodes; none: the loopback
	lines  string  // added to the file of a Vault in dev mode
	empty  bool    // nothing is registered or mounted
	quick  bool    // raft has its usual timeouts at places, too
}

// WithLines adds lines to the file of a Vault in dev mode: another listener, with TLS
// or at a socket, beside the plain one that the harness itself uses.
func WithLines(lines string) Option { return func(o *options) { o.lines = lines } }

// WithCluster runs Vault on integrated storage, with so many nodes, instead of
// in dev mode: for tests that kill it and expect it to remember.
func WithCluster(nodes int) Option { return func(o *options) { o.nodes = nodes } }

// WithoutEngine leaves Vault empty: the engine's program is in the plugin folder, and is
// not registered.
func WithoutEngine() Option { return func(o *options) { o.empty = true } }

// New starts Vault, and registers and mounts the engine. When the test ends, it stops and
// checks everything.
func New(t testing.TB, opts ...Option) *Harness {
	t.Helper()
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	h := &Harness{t: t, Dir: folder(t), Programs: FindPrograms(t), state: &state{counts: map[string]int{}}}
	h.leaveOut()
	t.Cleanup(h.checkLogs)
	t.Cleanup(func() { h.group.Stop(10*time.Second, nil) })

	var err error
	if o.nodes == 0 {
		h.Vault, err = startDev(t.Context(), h, o.lines)
	} else {
		h.Vault, err = startCluster(t.Context(), h, &o)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := h.audit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if o.empty {
		return h
	}
	if o.nodes > 1 { // on a busy machine, another one may come to lead meanwhile
		h.Eventually("the engine is mounted", func() error { return h.prepare(t.Context()) })
	} else if err := h.prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	return h
}

// In returns the harness for a subtest. A failure then fails the subtest, and the gateways
// and upstreams that it starts end with it.
func (h *Harness) In(t testing.TB) *Harness {
	t.Helper()
	view := *h
	view.t = t
	view.leaveOut()
	return &view
}

// prepare sets the broker up in an empty Vault.
func (h *Harness) prepare(ctx context.Context) error {
	client := h.Vault.Client()
	if err := provision.Register(ctx, client, filepath.Join(h.Vault.plugins, provision.PluginName)); err != nil {
		return err
	}
	if err := provision.Mount(ctx, client, Mount); err != nil {
		return err
	}
	return provision.Policy(ctx, client, policies.GatewayName, policies.Gateway)
}

// folder makes the test's folder. With TEST_KEEP set it stays, for its logs.
func folder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "mcp-test-") //nolint:usetesting // it outlives a test that fails
	if err != nil {
		t.Fatal(err)
	}
	// Vault refuses a plugin folder behind a symbolic link.
	dir, err = filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() || os.Getenv("TEST_KEEP") != "" {
			t.Logf("logs are kept in %s", dir)
			return
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// count numbers things of one kind: the first gateway, the second…
func (h *Harness) count(kind string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.counts[kind]++
	return h.counts[kind]
}

// Secret declares a text a secret, which no log may have. Tokens that Write and Read
// return, and tokens in a write, are secrets already.
func (h *Harness) Secret(text string) { h.secrets.add(text) }
