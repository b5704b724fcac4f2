// Package network makes machines for tests that cut links: a switch with network
// namespaces at it, made with ip, whose packet filters (nftables) drop packets that arrive
// over a link that is cut, in one direction or in both. tbf makes a link slow; not every
// kernel has netem.
package network

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

// Domain is that of all machines. Names of it are in the hosts file that their programs
// see.
const Domain = ".corp.test"

// Network is a switch, and the machines at it.
type Network struct {
	// Folder has its files: hosts, certificates and keys.
	Folder string
	// Machines are those by name, with the office among them.
	Machines map[string]*Machine

	authority *harness.Authority
}

// Machine is a network namespace at the switch.
type Machine struct {
	harness.Place
	// Short is its name without the domain, and that of its namespace.
	Short string

	mu   sync.Mutex
	cut  map[string]bool // addresses from which nothing arrives
	port string          // of the bridge, that leads to it; "" at the office
	mac  string          // of all its links
}

// Office is the machine that the test runs on: it is the switch, too.
const Office = "office"

// Alias is a further name: it leads to one machine, and the certificates of all that
// serve it show it.
type Alias struct {
	Name, Leads string
	Serve       []string
}

// New makes machines with these names, beside the office. They end with the test.
func New(t *testing.T, names []string, aliases ...Alias) *Network {
	t.Helper()
	n := &Network{Folder: t.TempDir(), Machines: map[string]*Machine{}, authority: trustedByAll(t)}
	write(t, n.Trusted(), string(n.authority.PEM))
	hosts := "127.0.0.1 localhost\n"
	setup := "link add lan type bridge\naddr add 10.77.0.1/24 dev lan\nlink set lan up\n"
	for i, name := range append([]string{Office}, names...) {
		m := &Machine{Short: name, cut: map[string]bool{}}
		m.Name, m.Address = name+Domain, fmt.Sprintf("10.77.0.%d", i+1)
		shown := []string{m.Name, m.Address}
		hosts += m.Address + " " + m.Name
		for _, a := range aliases {
			if a.Leads == name {
				hosts += " " + a.Name + Domain
			}
			if slices.Contains(a.Serve, name) {
				shown = append(shown, a.Name+Domain)
			}
		}
		hosts += "\n"
		certificate, key := n.authority.Issue(t, shown...)
		m.Certificate, m.Key, m.Authority = filepath.Join(n.Folder, name+".crt"), filepath.Join(n.Folder, name+".key"), n.Trusted()
		write(t, m.Certificate, string(certificate))
		write(t, m.Key, string(key))
		n.Machines[name] = m
		if name == Office {
			continue
		}
		m.Enter, m.port, m.mac = m.enter, fmt.Sprint("port", i), fmt.Sprintf("02:00:0a:4d:00:%02x", i+1)
		setup += "netns add " + name + "\n" + m.connect("eth0", m.port)
	}
	ip(t, setup)
	for name, m := range n.Machines {
		if name != Office {
			ip(t, fmt.Sprintf("link set lo up\naddr add %s/24 dev eth0\nlink set eth0 up\n", m.Address), "-n", name)
		}
		m.NFT(t, "table inet cut { chain arriving { type filter hook input priority 0; }; }")
	}
	file := filepath.Join(n.Folder, "hosts")
	write(t, file, hosts)
	require.NoError(t, run("mount", "--bind", file, "/etc/hosts"))
	t.Cleanup(func() { n.end(t) })
	return n
}

// connect makes a link between the machine and the switch.
func (m *Machine) connect(link, port string) string {
	return fmt.Sprintf("link add %[1]s type veth peer name %[2]s address %[3]s netns %[4]s\nlink set %[1]s master lan up\n", port, link, m.mac, m.Short)
}

// end removes the network. All programs in it have ended.
func (n *Network) end(t *testing.T) {
	t.Helper()
	setup := "link del lan\n"
	for name, m := range n.Machines {
		if name != Office {
			// The kernel removes the devices of a namespace later, and the next network's ports
			// have the same names.
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

// trustedByAll is the same one in all tests: a program reads once whom it trusts, and the
// tests are one program.
func trustedByAll(t *testing.T) *harness.Authority {
	t.Helper()
	authority.Do(func() { authority.Authority = harness.NewAuthority(t) })
	return authority.Authority
}

// Trusted is the authority's certificate, in PEM.
func (n *Network) Trusted() string { return filepath.Join(n.Folder, "authority.pem") }

// ip has the program ip do several things.
func ip(t *testing.T, lines string, args ...string) {
	t.Helper()
	cmd := exec.Command("ip", append(args, "-batch", "-")...) // also when the test's context has ended
	cmd.Stdin = strings.NewReader(lines)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// enter has a program run on the machine.
func (m *Machine) enter(spec process.Spec) process.Spec {
	spec.Args = append([]string{"--net=/run/netns/" + m.Short, "--", spec.Path}, spec.Args...)
	spec.Path = "nsenter"
	return spec
}

// NFT changes the machine's packet filter.
func (m *Machine) NFT(t *testing.T, rules string) {
	t.Helper()
	args := []string{"nft", "-f", "-"}
	if m.Short != Office {
		args = append([]string{"ip", "netns", "exec", m.Short}, args...)
	}
	cmd := exec.Command(args[0], args[1:]...) // also called when the test's context has ended
	cmd.Stdin = strings.NewReader(rules)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// filter makes the machine's packet filter drop packets from machines that it is cut
// off from.
func (m *Machine) filter(t *testing.T) {
	t.Helper()
	rules := "flush chain inet cut arriving\n"
	for address := range m.cut {
		rules += "add rule inet cut arriving ip saddr " + address + " drop\n"
	}
	m.NFT(t, rules)
}

// Link is the way from one machine to another, in that direction alone.
type Link struct{ from, to *Machine }

// Between are both ways between one machine and others.
func (n *Network) Between(one string, others ...string) []Link {
	return append(n.From(one, others...), n.To(one, others...)...)
}

// From are the ways from one machine to others.
func (n *Network) From(one string, others ...string) []Link {
	var links []Link
	for _, other := range others {
		links = append(links, Link{n.Machines[one], n.Machines[other]})
	}
	return links
}

// To are the ways from others to one machine.
func (n *Network) To(one string, others ...string) []Link {
	var links []Link
	for _, other := range others {
		links = append(links, Link{n.Machines[other], n.Machines[one]})
	}
	return links
}

// Cut has nothing arrive over the links any more, without a word to those who send,
// until mend is called, or the test ends.
func (n *Network) Cut(t *testing.T, links []Link) (mend func()) {
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

func write(t *testing.T, path, content string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
}

// Slow sends the machine's packets to the others over a separate link with so few bits a
// second ("8kbit"), until mend is called, or the test ends. If the kernel has no tbf, it
// returns an error.
func (n *Network) Slow(t *testing.T, from, rate string, to ...string) (mend func(), err error) {
	t.Helper()
	m := n.Machines[from]
	// It has the address of the other link: answers may take either.
	ip(t, m.connect("eth1", m.port+"-slow"))
	mend = sync.OnceFunc(func() { ip(t, "link del "+m.port+"-slow\n") })
	t.Cleanup(mend)
	routes := "link set eth1 up\n"
	for _, name := range to {
		routes += fmt.Sprintf("route add %s/32 dev eth1 src %s\n", n.Machines[name].Address, m.Address)
	}
	// Its queue has room for minutes of a busy machine's packets: TCP never finds it full.
	err = run("tc", "-n", m.Short, "qdisc", "add", "dev", "eth1", "root", "tbf", "rate", rate, "burst", "1600", "limit", "100000")
	if err == nil {
		ip(t, routes, "-n", m.Short)
	}
	return mend, err
}
