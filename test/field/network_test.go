package field

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/bootstrap/process"
	"vault-plugin-secrets-mcp/test/harness"
)

// domain is that of the company. Names of it are in the hosts file that all its
// programs see.
const domain = ".corp.test"

// network is a switch, and the machines at it.
type network struct {
	authority *harness.Authority
	dir       string
	machines  map[string]*machine
}

// machine is a network namespace at the switch.
type machine struct {
	harness.Place
	short string // its name without the domain, and that of its namespace

	mu   sync.Mutex
	cut  map[string]bool // addresses from which nothing arrives
	port string          // of the bridge, that leads to it; "" at the office
}

// office is the machine that the test runs on: it is the switch, too.
const office = "office"

// alias is a further name: it leads to one machine, and the certificates of all that
// serve it show it.
type alias struct {
	name, leads string
	serve       []string
}

// newNetwork makes machines with these names, beside the office.
func newNetwork(t *testing.T, names []string, aliases ...alias) *network {
	t.Helper()
	n := &network{authority: companyAuthority(t), dir: t.TempDir(), machines: map[string]*machine{}}
	write(t, string(n.authority.PEM), n.trusted())
	hosts := "127.0.0.1 localhost\n"
	setup := "link add lan type bridge\naddr add 10.77.0.1/24 dev lan\nlink set lan up\n"
	for i, name := range append([]string{office}, names...) {
		m := &machine{short: name, cut: map[string]bool{}}
		m.Name, m.Address = name+domain, fmt.Sprintf("10.77.0.%d", i+1)
		shown := []string{m.Name, m.Address}
		hosts += m.Address + " " + m.Name
		for _, a := range aliases {
			if a.leads == name {
				hosts += " " + a.name + domain
			}
			if slices.Contains(a.serve, name) {
				shown = append(shown, a.name+domain)
			}
		}
		hosts += "\n"
		certificate, key := n.authority.Issue(t, shown...)
		m.Certificate, m.Key, m.Authority = filepath.Join(n.dir, name+".crt"), filepath.Join(n.dir, name+".key"), n.trusted()
		write(t, string(certificate), m.Certificate)
		write(t, string(key), m.Key)
		n.machines[name] = m
		if name == office {
			continue
		}
		m.Enter, m.port = m.enter, fmt.Sprint("port", i)
		setup += fmt.Sprintf("netns add %[1]s\nlink add %[2]s type veth peer name eth0 netns %[1]s\nlink set %[2]s master lan up\n", name, m.port)
	}
	ip(t, setup)
	for name, m := range n.machines {
		if name != office {
			ip(t, fmt.Sprintf("link set lo up\naddr add %s/24 dev eth0\nlink set eth0 up\n", m.Address), "-n", name)
		}
		m.nft(t, "table inet cut { chain arriving { type filter hook input priority 0; }; }")
	}
	file := filepath.Join(n.dir, "hosts")
	write(t, hosts, file)
	require.NoError(t, run("mount", "--bind", file, "/etc/hosts"))
	t.Cleanup(func() { n.end(t) })
	return n
}

// end takes the network away. What ran there has ended.
func (n *network) end(t *testing.T) {
	t.Helper()
	setup := "link del lan\n"
	for name, m := range n.machines {
		if name != office {
			// The kernel takes what is in a namespace away later: the next network's
			// ports have the same names.
			setup += "link del " + m.port + "\nnetns del " + name + "\n"
		}
	}
	ip(t, setup)
	require.NoError(t, run("nft", "flush", "ruleset"))
	require.NoError(t, run("umount", "/etc/hosts"))
}

var authority struct {
	sync.Once
	*harness.Authority
}

// companyAuthority is the same one in all tests: a program reads once whom it trusts, and the
// tests are one program.
func companyAuthority(t *testing.T) *harness.Authority {
	t.Helper()
	authority.Do(func() { authority.Authority = harness.NewAuthority(t) })
	return authority.Authority
}

// trusted is the authority's certificate, in PEM.
func (n *network) trusted() string { return filepath.Join(n.dir, "authority.pem") }

// ip has the program ip do several things.
func ip(t *testing.T, lines string, args ...string) {
	t.Helper()
	cmd := exec.Command("ip", append(args, "-batch", "-")...) // also when the test's context has ended
	cmd.Stdin = strings.NewReader(lines)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// enter has a program run on the machine.
func (m *machine) enter(spec process.Spec) process.Spec {
	spec.Args = append([]string{"--net=/run/netns/" + m.short, "--", spec.Path}, spec.Args...)
	spec.Path = "nsenter"
	return spec
}

// nft changes the machine's packet filter.
func (m *machine) nft(t *testing.T, rules string) {
	t.Helper()
	args := []string{"nft", "-f", "-"}
	if m.short != office {
		args = append([]string{"ip", "netns", "exec", m.short}, args...)
	}
	cmd := exec.Command(args[0], args[1:]...) // also called when the test's context has ended
	cmd.Stdin = strings.NewReader(rules)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// filter has the machine's packet filter drop what arrives from where it is cut off.
func (m *machine) filter(t *testing.T) {
	t.Helper()
	rules := "flush chain inet cut arriving\n"
	for address := range m.cut {
		rules += "add rule inet cut arriving ip saddr " + address + " drop\n"
	}
	m.nft(t, rules)
}

// link is the way from one machine to another, in that direction alone.
type link struct{ from, to *machine }

// between are both ways between one machine and others.
func (n *network) between(one string, others ...string) []link {
	return append(n.from(one, others...), n.to(one, others...)...)
}

// from are the ways from one machine to others.
func (n *network) from(one string, others ...string) []link {
	var links []link
	for _, other := range others {
		links = append(links, link{n.machines[one], n.machines[other]})
	}
	return links
}

// to are the ways from others to one machine.
func (n *network) to(one string, others ...string) []link {
	var links []link
	for _, other := range others {
		links = append(links, link{n.machines[other], n.machines[one]})
	}
	return links
}

// cut has nothing arrive over the links any more, without a word to those who send,
// until mend is called, or the test ends.
func (n *network) cut(t *testing.T, links []link) (mend func()) {
	t.Helper()
	set := func(cut bool) {
		for _, l := range links {
			l.to.mu.Lock()
			if cut {
				l.to.cut[l.from.Address] = true
			} else {
				delete(l.to.cut, l.from.Address)
			}
			l.to.filter(t)
			l.to.mu.Unlock()
		}
	}
	set(true)
	mend = sync.OnceFunc(func() { set(false) })
	t.Cleanup(mend)
	return mend
}

func write(t *testing.T, content string, path ...string) string {
	t.Helper()
	file := filepath.Join(path...)
	require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
	require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
	return file
}
