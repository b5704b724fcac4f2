package field

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"text/template"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/bootstrap/process"
	"vault-plugin-secrets-mcp/test/network"
)

// at is where a program on a machine listens.
func (c *company) at(machine, port string) string {
	return net.JoinHostPort(c.Machines[machine].Address, port)
}

// startProxies starts the proxies between the others, with configurations that are
// common among users.
func (c *company) startProxies(t *testing.T) {
	t.Helper()
	for _, p := range []struct{ machine, file, port string }{
		{"nginx", "nginx.conf", "443"}, {"haproxy", "haproxy.cfg", "443"}, {"proxy", "egress.cfg", "8888"},
	} {
		m := c.Machines[p.machine]
		file, err := template.New(p.file).Option("missingkey=error").ParseFiles(filepath.Join("testdata", p.file))
		require.NoError(t, err)
		var text strings.Builder
		require.NoError(t, file.Execute(&text, map[string]string{
			"Dir": c.Dir, "Address": m.Address, "Authority": c.Trusted(),
			"Certificate": m.Certificate, "Key": m.Key, "Pair": c.pair(t, m),
			"Partner": c.at("partner", "80"), "Gateway1": c.at("gateway-1", "8443"), "Gateway2": c.at("gateway-2", "8443"),
			"Vault1": c.at("vault-1", "8200"), "Vault2": c.at("vault-2", "8200"), "Vault3": c.at("vault-3", "8200"),
		}))
		c.startProxy(t, m, text.String(), p.port)
	}
}

// startOurProxies starts those before the gateways, with the configurations that the project
// has. The gateways run: HAProxy would take seconds to find one again that it has missed, and
// would send its requests elsewhere meanwhile.
func (c *company) startOurProxies(t *testing.T) {
	t.Helper()
	m := c.Machines["our-nginx"]
	c.startProxy(t, m, replaced(t, read(t, "testdata", "conf.d.conf"),
		"DIR", c.Dir,
		"CONF_D", replaced(t, deployed(t, "nginx.conf"),
			"listen 443 ", "listen "+m.Address+":443 ",
			"/etc/nginx/tls/mcp.crt", m.Certificate, "/etc/nginx/tls/mcp.key", m.Key, "/etc/nginx/tls/ca.pem", c.Trusted(),
			"server 127.0.0.1:8443;", "server "+c.at("gateway-1", "8443")+"; server "+c.at("gateway-2", "8443")+";",
			"mcp.example.com", m.Name,
		)), "443")
	m = c.Machines["our-haproxy"]
	c.startProxy(t, m, replaced(t, deployed(t, "haproxy.cfg"),
		"bind :443 ", "bind "+m.Address+":443 ",
		"/etc/haproxy/tls/mcp.pem", c.pair(t, m), "/etc/haproxy/tls/ca.pem", c.Trusted(),
		"server gateway1 127.0.0.1:8443", "server gateway1 "+c.at("gateway-1", "8443")+"\n    server gateway2 "+c.at("gateway-2", "8443"),
		"mcp.example.com", m.Name,
	), "443")
}

// startProxy starts nginx where the machine has its name, and HAProxy elsewhere.
func (c *company) startProxy(t *testing.T, m *network.Machine, config, port string) {
	t.Helper()
	file := write(t, config, c.Dir, m.Short+".conf")
	spec := process.Spec{Name: m.Short}
	if strings.HasSuffix(m.Short, "nginx") {
		spec.Path, spec.Args = "nginx", []string{"-c", file}
	} else {
		spec.Path, spec.Args = "haproxy", []string{"-db", "-f", file}
	}
	c.run(t, m, spec, port)
}

// pair is a machine's certificate and key in one file, as HAProxy wants them.
func (c *company) pair(t *testing.T, m *network.Machine) string {
	t.Helper()
	return write(t, read(t, m.Certificate)+read(t, m.Key), c.Folder, m.Short+".pem")
}

// deployed is a file that the project has for proxies.
func deployed(t *testing.T, name string) string {
	t.Helper()
	return read(t, "..", "..", "bootstrap", "deploy", "proxy", name)
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(path...))
	require.NoError(t, err)
	return string(content)
}

// replaced is a text with parts of it replaced, each of which must be in it.
func replaced(t *testing.T, text string, oldNew ...string) string {
	t.Helper()
	for i := 0; i < len(oldNew); i += 2 {
		require.Contains(t, text, oldNew[i])
		text = strings.ReplaceAll(text, oldNew[i], oldNew[i+1])
	}
	return text
}

func write(t *testing.T, content string, path ...string) string {
	t.Helper()
	file := filepath.Join(path...)
	require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
	require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
	return file
}
