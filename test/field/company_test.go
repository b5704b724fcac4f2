package field

import (
	"context"
	"crypto/ecdsa"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/bootstrap/process"
	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/network"
	"vault-plugin-secrets-mcp/test/npm"
	"vault-plugin-secrets-mcp/test/upstream/bed"
)

// patience bounds every wait for an event that should happen soon.
const patience = 90 * time.Second

// The addresses of the gateways, as clients know them.
const (
	atNginx   = "https://mcp.corp.test"
	atSlash   = "https://slash.corp.test" // nginx too
	atHAProxy = "https://haproxy.corp.test"

	// With the files that the project has for both.
	atOurNginx   = "https://our-nginx.corp.test"
	atOurHAProxy = "https://our-haproxy.corp.test"
)

// company is all of it, built once for all tests.
type company struct {
	*harness.Harness
	*network.Network
	modules  npm.Modules
	gateways []*harness.Gateway
	jobKey   *ecdsa.PrivateKey // of the issuer of jobs that sign in
	// everything is server-everything, and partner another one, which is reached by
	// the forward proxy alone.
	everything, partner *program
	known               map[string]*acquaintance // of the rows that begin late
}

func newCompany(t *testing.T) *company {
	t.Helper()
	started := time.Now()
	modules := npm.InstallFrom(t, "test/clients")
	vaults := []string{"vault-1", "vault-2", "vault-3"}
	gateways := []string{"gateway-1", "gateway-2"}
	n := network.New(t, append(append([]string{"nginx", "haproxy", "our-nginx", "our-haproxy", "servers", "proxy", "partner"}, gateways...), vaults...),
		network.Alias{Name: "mcp", Leads: "nginx", Serve: []string{"nginx"}}, network.Alias{Name: "slash", Leads: "nginx", Serve: []string{"nginx"}},
		network.Alias{Name: "vault", Leads: "haproxy", Serve: vaults}, network.Alias{Name: "gateway", Leads: "gateway-1", Serve: gateways},
		network.Alias{Name: "our-nginx", Leads: "our-nginx", Serve: gateways}, network.Alias{Name: "our-haproxy", Leads: "our-haproxy", Serve: gateways},
	)
	// All of the test's own clients trust the company's authority, and its programs
	// are told to where they take the setting.
	t.Setenv("SSL_CERT_FILE", n.Trusted())
	var places []harness.Place
	for _, name := range vaults {
		places = append(places, n.Machines[name].Place)
	}
	c := &company{Network: n, modules: modules, Harness: harness.New(t, harness.WithPlaces(places...))}
	c.everything, c.partner = c.startServer(t, "servers", 3001), c.startServer(t, "partner", 80)
	c.startProxies(t)
	bed.SetUp(t, c.Harness, "1h")
	c.jobKey = c.signIn(t)
	for _, name := range gateways {
		c.gateways = append(c.gateways, c.startGateway(t, name))
	}
	c.startOurProxies(t)
	c.awaitBalancer(t)
	t.Logf("the company works after %s", time.Since(started).Round(time.Second))
	return c
}

// in returns the company for a subtest.
func (c *company) in(t *testing.T) *company {
	t.Helper()
	view := *c
	view.Harness = c.Harness.In(t)
	return &view
}

// startGateway starts a gateway on its machine.
func (c *company) startGateway(t *testing.T, name string) *harness.Gateway {
	t.Helper()
	m := c.Machines[name]
	// Nothing that the gateway sends to the partner gets there but by the proxy. It
	// is not told of it: its packets are led there, as those of a machine are that
	// may not reach the Internet by itself.
	m.NFT(t, fmt.Sprintf("table ip led { chain out { type nat hook output priority -100; ip daddr %s tcp dport 80 dnat to %s:8888; }; }",
		c.Machines["partner"].Address, c.Machines["proxy"].Address))
	c.Cut(t, c.From(name, "partner"))
	return c.StartGateway(harness.GatewayOptions{
		Place: &m.Place, Vault: "https://vault.corp.test:8200",
		// It trusts the authority by its file, not by the test's environment.
		Env: []string{"SSL_CERT_FILE="},
		Top: bed.Block("") + signInBlock(),
		Blocks: map[string]string{
			"vault": fmt.Sprintf("ca_cert_file = %q\n", c.Trusted()),
			// This test is about network paths: a machine that is too busy to run Vault for half
			// a minute is not their failure.
			"grants": "max_stale = \"5m\"\n",
			"listener": fmt.Sprintf("public_url = %q\nallowed_hosts = [%q, %q, %q, %q]\ntrusted_proxies = [%q, %q, %q, %q]\ndrain_delay = \"3s\"\n", atNginx,
				"slash"+network.Domain, "haproxy"+network.Domain, "our-nginx"+network.Domain, "our-haproxy"+network.Domain,
				c.Machines["nginx"].Address, c.Machines["haproxy"].Address, c.Machines["our-nginx"].Address, c.Machines["our-haproxy"].Address),
			// The isolation of children is tested in test/isolation, and not every kernel has
			// it.
			"stdio": fmt.Sprintf("allowed_commands = [%q, %q]\nisolation = \"off\"\nhome_dir = %q\n", c.slow(t), itself(t), c.home(t, name)),
		},
	})
}

// home is where a gateway has its children's homes.
func (c *company) home(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(c.Dir, name+"-homes")
	require.NoError(t, os.Mkdir(path, 0o700))
	return path
}

// slow is a program that takes half a minute to become server-everything.
func (c *company) slow(t *testing.T) string {
	t.Helper()
	path := filepath.Join(c.Dir, "slow-server")
	script := fmt.Sprintf("#!/bin/sh\nsleep 30\nexec %q %q stdio\n", c.modules.Node, c.modules.Program("mcp-server-everything"))
	require.NoError(t, os.WriteFile(path, []byte(script), 0o755))
	return path
}

// program is one that may end and be started again.
type program struct {
	*process.Process
	url   string
	start func(*testing.T) *process.Process
}

// again starts the program after it has ended.
func (p *program) again(t *testing.T) {
	t.Helper()
	p.Process = p.start(t)
}

// startServer starts server-everything on a machine.
func (c *company) startServer(t *testing.T, machine string, port int) *program {
	t.Helper()
	m := c.Machines[machine]
	address := m.Name
	if port != 80 {
		address = fmt.Sprint(m.Name, ":", port)
	}
	p := &program{url: "http://" + address + "/mcp"}
	p.start = func(t *testing.T) *process.Process {
		t.Helper()
		return c.run(t, m, process.Spec{
			Name: fmt.Sprint("everything-at-", machine, "-", port), Path: c.modules.Node,
			Args: []string{c.modules.Program("mcp-server-everything"), "streamableHttp"},
			Env:  []string{fmt.Sprint("PORT=", port)},
		}, fmt.Sprint(port))
	}
	p.again(t)
	return p
}

// run starts a program on a machine, and waits until it listens. It ends with the
// test.
func (c *company) run(t *testing.T, m *network.Machine, spec process.Spec, port string) *process.Process {
	t.Helper()
	spec.Log = filepath.Join(c.Dir, spec.Name+".log")
	p, err := process.Start(m.Enter(spec))
	require.NoError(t, err)
	t.Cleanup(func() { p.Stop(5 * time.Second) })
	require.NoError(t, p.Await(t.Context(), patience, func(ctx context.Context) error {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(m.Address, port))
		if err != nil {
			return err
		}
		return conn.Close()
	}))
	return p
}
