package field

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"text/template"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/bootstrap/process"
	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/network"
)

// outbound is a gateway that reaches a vendor's server by a proxy that asks who it is, and
// sends its audit lines to rsyslog:
//
//	office ── gateway-1 ──┬── egress: tinyproxy ── vendor: HAProxy, with TLS ── (office)
//	                      ├── logs: rsyslog, with TLS
//	                      └── vault-1
//
// gateway-2 has rsyslog's socket of its own machine.
type outbound struct {
	*company
	t       *testing.T // of all
	gateway *harness.Gateway
	logs    *process.Process // rsyslog
	token   string
}

const (
	vendor      = "vendor"
	vendorKey   = "key-of-the-vendor"
	proxySesame = "sesame-of-the-proxy"
)

func TestOutbound(t *testing.T) {
	o := newOutbound(t)
	t.Run("a server behind a proxy", func(t *testing.T) { o.in(t).byProxy(t) })
	t.Run("rsyslog has what the file has", func(t *testing.T) { o.in(t).logged(t) })
	t.Run("rsyslog behind a socket", func(t *testing.T) { o.in(t).loggedBySocket(t) })
	t.Run("rsyslog ends", func(t *testing.T) {
		o.in(t).logsEnd(t, func() { o.logs = o.startLogs(o.t) })
	})
	t.Run("rsyslog is cut off", func(t *testing.T) { o.in(t).logsCut(t) })
}

func newOutbound(t *testing.T) *outbound {
	t.Helper()
	n := network.New(t, []string{"vault-1", "gateway-1", "gateway-2", "egress", vendor, "logs"}, network.Alias{Name: "vault", Leads: "vault-1", Serve: []string{"vault-1"}})
	t.Setenv("SSL_CERT_FILE", n.Trusted())
	o := &outbound{t: t, company: &company{Network: n, Harness: harness.New(t, harness.WithPlaces(n.Machines["vault-1"].Place))}}
	address := n.Machines[network.Office].Address + ":0"
	behind := o.StartUpstreamAt(address, nil)
	o.startFrom(t, vendor, "vendor.cfg", "443", process.Spec{Path: "haproxy", Args: []string{"-db", "-f"}}, map[string]string{
		"Vendor": strings.TrimSuffix(strings.TrimPrefix(behind.URL, "http://"), "/mcp"),
	})
	o.startFrom(t, "egress", "tinyproxy.conf", "8888", process.Spec{Path: "tinyproxy", Args: []string{"-d", "-c"}}, map[string]string{"Password": proxySesame})
	o.logs = o.startLogs(t)

	o.Cut(t, o.From("gateway-1", vendor))
	certificate, key := n.Machines["gateway-1"].Certificate, n.Machines["gateway-1"].Key
	o.gateway = o.startOutbound(t, "gateway-1", fmt.Sprintf(
		"address = \"logs.corp.test:6514\"\nsocket_type = \"tls\"\nfacility = \"LOCAL0\"\nca_cert_file = %q\nclient_cert_file = %q\nclient_key_file = %q\n",
		n.Trusted(), certificate, key))
	o.Write("mcp/servers/"+vendor, harness.Map{"transport": "http", "url": "https://vendor.corp.test/mcp", "headers": harness.Map{"X-Api-Key": vendorKey}})
	o.Write("mcp/servers/"+calculator, harness.Map{"transport": "http", "url": o.StartUpstreamAt(address, nil).URL})
	o.Write("mcp/servers/metadata", harness.Map{"transport": "http", "url": "http://169.254.169.254/mcp"})
	o.token = o.CreateClient("outbound", harness.Map{"allowed_servers": "*"})
	return o
}

func (o *outbound) in(t *testing.T) *outbound {
	t.Helper()
	view := *o
	view.company = o.company.in(t)
	return &view
}

// startFrom starts a program on a machine, with a configuration from testdata as its last
// argument.
func (o *outbound) startFrom(t *testing.T, machine, file, port string, spec process.Spec, more map[string]string) *process.Process {
	t.Helper()
	m := o.Machines[machine]
	values := map[string]string{
		"Dir": o.Dir, "Address": m.Address, "Authority": o.Trusted(), "Certificate": m.Certificate, "Key": m.Key, "Pair": o.pair(t, m),
	}
	for key, value := range more {
		values[key] = value
	}
	text, err := template.New(file).Option("missingkey=error").ParseFiles(filepath.Join("testdata", file))
	require.NoError(t, err)
	var config strings.Builder
	require.NoError(t, text.Execute(&config, values))
	spec.Name = machine
	spec.Args = append(spec.Args, write(t, config.String(), o.Dir, file))
	return o.run(t, m, spec, port)
}

// startLogs starts rsyslog.
func (o *outbound) startLogs(t *testing.T) *process.Process {
	t.Helper()
	return o.startFrom(t, "logs", "rsyslog.conf", "6514", process.Spec{
		Path: "rsyslogd", Args: []string{"-n", "-i", filepath.Join(o.Dir, "rsyslog.pid"), "-f"},
	}, nil)
}

// startOutbound starts a gateway with these lines for its syslog server.
func (o *outbound) startOutbound(t *testing.T, machine, syslog string) *harness.Gateway {
	t.Helper()
	write(t, proxySesame+"\n", o.Dir, "proxy_password")
	return o.StartGateway(harness.GatewayOptions{
		Place: &o.Machines[machine].Place, Vault: "https://vault.corp.test:8200", Env: []string{"SSL_CERT_FILE="},
		Blocks: map[string]string{
			"vault":    fmt.Sprintf("ca_cert_file = %q\n", o.Trusted()),
			"listener": fmt.Sprintf("allowed_hosts = [%q]\n", machine+network.Domain),
			"audit":    "syslog {\n" + syslog + "}\n",
		},
		Top: fmt.Sprintf("upstream_proxy {\nurl = \"http://egress.corp.test:8888\"\nusername = \"mcp\"\npassword_file = %q\nno_proxy = [\"10.77.0.0/24\"]\n}\n"+
			"upstream %q {\nca_cert_file = %q\n}\n", filepath.Join(o.Dir, "proxy_password"), vendor, o.Trusted()),
	})
}

// add calls a tool of the server.
func (o *outbound) add(gateway *harness.Gateway, server string) harness.Response {
	return o.Call(gateway.ServerURL(server), o.token, "add", `{"a":40,"b":2}`)
}

// becomes waits until calls of the calculator have the status.
func (o *outbound) becomes(gateway *harness.Gateway, status int) {
	o.Eventually(fmt.Sprint("calls are answered ", status), func() error {
		if r := o.add(gateway, calculator); r.Status != status {
			return fmt.Errorf("it is %d %s", r.Status, r.Body)
		}
		return nil
	})
}

func (o *outbound) byProxy(t *testing.T) {
	t.Helper()
	o.becomes(o.gateway, http.StatusOK)
	for range 3 {
		r := o.add(o.gateway, vendor)
		require.Equal(t, http.StatusOK, r.Status, r.Body)
		require.Contains(t, r.Body, "42")
	}
	log := func() string { return read(t, o.Dir, "egress.log") }
	require.Contains(t, log(), "CONNECT vendor.corp.test:443")
	require.Equal(t, http.StatusBadGateway, o.add(o.gateway, "metadata").Status)
	require.NotContains(t, log(), "169.254", "the proxy is not asked")
	require.NotContains(t, log(), vendorKey)

	write(t, "another", o.Dir, "proxy_password")
	require.NoError(t, o.gateway.Process.Signal(syscall.SIGHUP)) // ends the connections that are open
	o.Eventually("the proxy's refusal is told", func() error {
		if r := o.add(o.gateway, vendor); r.Status != http.StatusBadGateway {
			return fmt.Errorf("it is %d %s", r.Status, r.Body)
		}
		return nil
	})
	const told = "refuses the username and the password (status 401)" // tinyproxy has no 407 for these
	o.Eventually("the audit log has it", func() error {
		lines := o.gateway.Audit()
		if detail, _ := lines[len(lines)-1]["detail"].(string); !strings.Contains(detail, told) {
			return fmt.Errorf("it has %v", lines[len(lines)-1])
		}
		return nil
	})
	require.Contains(t, read(t, o.gateway.Process.Log()), told)
	write(t, proxySesame, o.Dir, "proxy_password")
	require.Equal(t, http.StatusOK, o.add(o.gateway, vendor).Status, "the file is read for each connection")
	for _, text := range []string{read(t, o.gateway.Process.Log()), read(t, o.gateway.AuditLog)} {
		require.NotContains(t, text, proxySesame)
	}
}

// gotLine is a line of rsyslog, by its configuration.
var gotLine = regexp.MustCompile(`^local0 (info|notice) mcp-gateway ([a-z-]+) \[meta sequenceId="(\d+)"\] ?(\{.*\})$`)

// got are the lines that rsyslog has, as JSON, with their numbers.
func (o *outbound) got(t *testing.T) (lines []harness.Map, numbers []int) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(o.Dir, "rsyslog-got"))
	require.NoError(t, err)
	whole := string(content[:strings.LastIndexByte(string(content), '\n')+1])
	for text := range strings.Lines(whole) {
		parts := gotLine.FindStringSubmatch(strings.TrimSuffix(text, "\n"))
		if parts == nil {
			continue // rsyslog's own
		}
		var line harness.Map
		require.NoError(t, json.Unmarshal([]byte(parts[4]), &line), text)
		require.Equal(t, line["type"], parts[2])
		number, err := strconv.Atoi(parts[3])
		require.NoError(t, err)
		lines, numbers = append(lines, line), append(numbers, number)
	}
	return lines, numbers
}

// same waits until rsyslog has every line of the gateway's file but those that are missing
// by their numbers, and returns how many these are.
func (o *outbound) same(t *testing.T, gateway *harness.Gateway) (missing int) {
	t.Helper()
	var file, lines []harness.Map
	var numbers []int
	o.Eventually("rsyslog has the last line of the file", func() error {
		lines, numbers = o.got(t)
		file = gateway.Audit()
		if len(lines) == 0 || fmt.Sprint(lines[len(lines)-1]) != fmt.Sprint(file[len(file)-1]) {
			return errors.New("not yet")
		}
		return nil
	})
	for i, line := range lines {
		require.Equal(t, file[numbers[i]-1], line, "its number is its place in the file")
	}
	return len(file) - len(lines)
}

func (o *outbound) logged(t *testing.T) {
	t.Helper()
	o.becomes(o.gateway, http.StatusOK)
	require.Zero(t, o.same(t, o.gateway))
}

func (o *outbound) loggedBySocket(t *testing.T) {
	t.Helper()
	gateway := o.startOutbound(t, "gateway-2", fmt.Sprintf("address = %q\nsocket_type = \"unixgram\"\ntag = \"by-socket\"\n", filepath.Join(o.Dir, "rsyslog.sock")))
	o.becomes(gateway, http.StatusOK)
	o.Eventually("rsyslog has it", func() error {
		if !regexp.MustCompile(`(?m)^auth info by-socket outcome \[meta sequenceId="\d+"\] ?\{.*"status":200`).MatchString(read(t, o.Dir, "rsyslog-got")) {
			return errors.New("not yet")
		}
		return nil
	})
	gateway.Stop()
}

// logsEnd: rsyslog is killed, and started again.
func (o *outbound) logsEnd(t *testing.T, again func()) {
	t.Helper()
	o.logs.Kill()
	o.becomes(o.gateway, http.StatusServiceUnavailable)
	again()
	o.becomes(o.gateway, http.StatusOK)
	t.Logf("%d lines were lost with it", o.same(t, o.gateway))
}

// logsCut: nothing arrives any more, and nobody says so. Lines that were sent before that is
// noticed are lost; the numbers tell how many.
func (o *outbound) logsCut(t *testing.T) {
	t.Helper()
	mend := o.Cut(t, o.Between("gateway-1", "logs"))
	o.becomes(o.gateway, http.StatusServiceUnavailable)
	mend()
	o.becomes(o.gateway, http.StatusOK)
	t.Logf("%d lines were lost on the way", o.same(t, o.gateway))
}
