package proxy

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-mcp/test/bench/measure"
	"vault-plugin-secrets-mcp/test/bench/report"
	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/kms"
)

// Registered servers.
const (
	serverJSON  = "json"  // answers with JSON
	serverSSE   = "sse"   // answers with a stream of one event
	serverStdio = "stdio" // a child process
	serverList  = "list"  // has a hundred tools
	serverTLS   = "tls"   // answers with JSON, over TLS
	forbidden   = "forbidden"

	serverStatic = "static" // answers with JSON, and gets a header of its registration
	serverLeased = "leased" // the same, and its header is leased from Vault
)

// stage has the running processes of the benchmark.
type stage struct {
	*harness.Harness
	rig    *measure.Rig
	load   *measure.Load
	direct measure.Server
	proxy  measure.Server

	// The same with TLS towards clients and upstream.
	secure              measure.Secure
	directTLS, proxyTLS measure.Server
	warmTLS             *harness.Gateway

	// warm has room for all grants. uncached has room for a tenth of the tokens at
	// most, so that it asks Vault for nearly every request. cold starts again for each
	// round. alone answers nothing but what its memory is measured with.
	warm, uncached, cold, alone *harness.Gateway

	atRest      int64 // resident memory of alone, before it was asked anything
	partsAtRest parts
	scrape      float64 // allocations of a gateway for one look at its metrics

	token  string   // of a client that may call everything but the forbidden server
	tokens []string // of as many such clients
	sealed string   // under KMS
	lister string   // of a client that may reach the server with many tools alone
	tamed  string   // of a client that may call no tool
	lessee string   // of a client that may reach the server with leased credentials, and its twin
}

// unlimited allows all unknown tokens of the benchmark at once.
const unlimited = `cold_rate = 1000000
cold_burst = 1000000
cold_source_rate = 1000000
cold_source_burst = 1000000
`

// roomy allows one client a message of 1 MB on each connection.
const roomy = `max_buffered = "1GiB"
max_buffered_per_client = "512MiB"
`

func newStage(t testing.TB, tokens int) *stage {
	t.Helper()
	h := harness.New(t)
	s := &stage{Harness: h, rig: measure.NewRig(t, h.Dir)}
	s.direct = s.rig.Upstream()
	s.proxy = s.rig.Proxy(s.direct)
	s.load = s.rig.Load()
	s.secure = s.rig.Secure()
	s.directTLS = s.rig.SecureUpstream(s.secure)
	s.proxyTLS = s.rig.SecureProxy(s.directTLS, s.secure)
	environment := s.useKMS(t)
	leasing := measure.Leasing{Tokens: time.Hour, Leases: 12 * time.Hour, Refresh: time.Hour}
	leasing.SetUp(t, h)

	upstream := "http://" + s.direct.Address
	h.Write("mcp/servers/"+serverJSON, harness.Map{"transport": "http", "url": upstream + "/json"})
	h.Write("mcp/servers/"+serverSSE, harness.Map{"transport": "http", "url": upstream + "/sse"})
	h.Write("mcp/servers/"+serverList, harness.Map{"transport": "http", "url": upstream + "/list"})
	h.Write("mcp/servers/"+serverTLS, harness.Map{"transport": "http", "url": "https://" + s.directTLS.Address + "/json"})
	h.Write("mcp/servers/"+forbidden, harness.Map{"transport": "http", "url": upstream + "/json"})
	h.Write("mcp/servers/"+serverStdio, harness.Map{"transport": "stdio", "command": s.rig.Path, "args": "stdio"})
	h.Write("mcp/servers/"+serverLeased, leasing.Certificate(upstream+"/json"))
	// As long as a serial number.
	h.Write("mcp/servers/"+serverStatic, harness.Map{
		"transport": "http", "url": upstream + "/json", "headers": harness.Map{"X-Credential": strings.Repeat("7f:", 19) + "7f"},
	})
	s.token = s.client("one", nil)
	s.lister = s.client("lister", harness.Map{"allowed_servers": serverList})
	s.tamed = s.client("tamed", harness.Map{"denied_tools": "*/*"})
	s.lessee = s.client("lessee", harness.Map{"allowed_servers": serverStatic + "," + serverLeased})
	s.sealed = s.client("sealed", harness.Map{"seal": "kms"})
	for i := range tokens {
		s.tokens = append(s.tokens, s.client(fmt.Sprintf("many-%d", i), nil))
	}

	s.warm = h.StartGateway(harness.GatewayOptions{Env: environment, Blocks: map[string]string{
		"grants": unlimited, "kms": "", "upstream_credentials": leasing.Block(), "stdio": fmt.Sprintf("allowed_commands = [%q]\n", s.rig.Path), "limits": roomy,
	}})
	s.warmTLS = h.StartGateway(harness.GatewayOptions{
		Blocks: map[string]string{"listener": fmt.Sprintf("tls_cert_file = %q\ntls_key_file = %q\n", s.secure.Cert(), s.secure.Key())},
		Top:    fmt.Sprintf("upstream %q {\n  ca_cert_file = %q\n}\n", serverTLS, s.secure.CA()),
	})
	// A hundred entries are the least that a gateway can be told to have.
	s.uncached = h.StartGateway(harness.GatewayOptions{Blocks: map[string]string{"grants": unlimited + "max_entries = 100\n"}})
	s.cold = h.StartGateway(harness.GatewayOptions{Blocks: map[string]string{"grants": unlimited}})
	s.alone = h.StartGateway(harness.GatewayOptions{})
	s.atRest = measure.Resident(t, s.alone.Process.Pid())
	s.partsAtRest = partsOf(t, s.alone)
	s.scrape = scrape(t, s.warm)
	measure.SameSession(t, s.load.Pid, s.direct.Pid, s.proxy.Pid, s.directTLS.Pid, s.proxyTLS.Pid,
		s.warm.Process.Pid(), s.warmTLS.Process.Pid(), s.uncached.Process.Pid(), s.cold.Process.Pid(), s.alone.Process.Pid())
	return s
}

// scrape is what one look at the gateway's metrics allocates, in the middle of some.
func scrape(t testing.TB, g *harness.Gateway) float64 {
	t.Helper()
	var allocated []float64
	for range 5 {
		before := countsOf(t, g).allocations
		allocated = append(allocated, countsOf(t, g).allocations-before)
	}
	return report.SpreadOf(allocated).Median
}

func (s *stage) client(name string, more harness.Map) string {
	data := harness.Map{"allowed_servers": strings.Join([]string{serverJSON, serverSSE, serverStdio, serverTLS}, ",")}
	for key, value := range more {
		data[key] = value
	}
	return s.CreateClient(name, data)
}

// useKMS has the engine use the double of AWS KMS, and returns the environment in
// which a gateway does.
func (s *stage) useKMS(t testing.TB) []string {
	t.Helper()
	double, err := kms.Start(kms.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = double.Close() })
	identity := double.Identity()
	s.Secret(identity.SecretAccessKey)
	s.Write("mcp/config/kms", harness.Map{
		"key_id": double.CreateKey("alias/mcp"), "region": double.Region(), "endpoint": double.URL(),
		"access_key": identity.AccessKeyID, "secret_key": identity.SecretAccessKey,
	})
	return []string{
		"AWS_REGION=" + double.Region(), "AWS_ENDPOINT_URL_KMS=" + double.URL(), "AWS_EC2_METADATA_DISABLED=true",
		"AWS_ACCESS_KEY_ID=" + identity.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + identity.SecretAccessKey,
	}
}

// session is the token of a new client, which has 64 sessions at most.
func (s *stage) session(name string) string { return s.client("session-"+name, nil) }

// open begins a session there, and returns its id.
func (s *stage) open(t testing.TB, at measure.Place, token string) string {
	t.Helper()
	opened := s.Post("http://"+at.Address+at.Path, token, measure.Initialize)
	id := opened.Header.Get("Mcp-Session-Id")
	if opened.Status != http.StatusOK || id == "" {
		t.Fatalf("no session at %s: %d %s", at.Path, opened.Status, opened.Body)
	}
	return id
}

// forget empties the audit logs, which grow by gigabytes, and returns how long
// that of the measured gateway was.
func (s *stage) forget(t testing.TB, measured *harness.Gateway) int64 {
	t.Helper()
	if measured == nil {
		return 0
	}
	info, err := os.Stat(measured.AuditLog)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(measured.AuditLog, 0); err != nil {
		t.Fatal(err)
	}
	return info.Size()
}
