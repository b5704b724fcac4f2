package docs

import (
	"errors"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/collector"
	"vault-plugin-secrets-mcp/test/doctable"
	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/stage"
	"vault-plugin-secrets-mcp/test/upstream/bed"
)

const gatewayPage = "../../docs/gateway.md"

// names returns what the tables below a heading name in their first column.
func names(t *testing.T, page, heading string) []string {
	t.Helper()
	rows, err := doctable.Read(page, heading)
	require.NoError(t, err)
	found := doctable.Column(rows, 0)
	require.NotEmpty(t, found, heading)
	slices.Sort(found)
	return found
}

// TestDocsGateway compares docs/gateway.md with the logs and metrics of a gateway after
// many different requests: the page has exactly their fields, labels and reasons.
func TestDocsGateway(t *testing.T) {
	s := stage.New(t, harness.GatewayOptions{})
	busyDay(t, s)

	t.Run("The audit log's fields", func(t *testing.T) {
		kinds, fields := map[string]bool{}, map[string]bool{}
		for _, line := range s.Gateway.Audit() {
			kinds[line["type"].(string)] = true
			for field := range line {
				fields[field] = true
			}
		}
		documented := names(t, gatewayPage, "### Fields")
		require.Equal(t, fieldsInTheSource(t), documented)
		// The fields of sign-ins are seen in test/signin.
		require.Equal(t, slices.DeleteFunc(documented, func(field string) bool { return slices.Contains(signInFields, field) }), slices.Sorted(maps.Keys(fields)))
		kinds["sign-in"] = true
		require.Equal(t, names(t, gatewayPage, "## Audit log"), slices.Sorted(maps.Keys(kinds)))
	})

	t.Run("Where a field may be", func(t *testing.T) {
		rows, err := doctable.Read(gatewayPage, "### Fields")
		require.NoError(t, err)
		where := map[string]func(kind string) bool{}
		for _, row := range rows {
			kinds, except := doctable.Names(row[1]), strings.HasPrefix(row[1], "all")
			where[strings.Trim(row[0], "`")] = func(kind string) bool { return slices.Contains(kinds, kind) != except }
		}
		for _, line := range s.Gateway.Audit() {
			for field := range line {
				require.True(t, where[field](line["type"].(string)), "%s in %v", field, line)
			}
		}
	})

	t.Run("Metrics and their labels", func(t *testing.T) {
		scraped := s.Gateway.Metrics()
		rows, err := doctable.Read(gatewayPage, "### For Prometheus")
		require.NoError(t, err)
		want := map[string][]string{}
		for _, row := range rows {
			want[strings.Trim(row[0], "`")] = append([]string{}, doctable.Names(row[1])...)
		}
		got := map[string][]string{ // metrics that this gateway does not have; gateway's own tests, and test/audit, have them
			"mcp_gateway_tls_certificate_expiry_timestamp_seconds": {},
			"mcp_gateway_audit_syslog_up":                          {},
			"mcp_gateway_audit_syslog_lines_lost_total":            {},
		}
		for _, family := range regexp.MustCompile(`(?m)^# TYPE (mcp_gateway_\S+) (\S+)`).FindAllStringSubmatch(scraped, -1) {
			got[family[1]] = labelsOf(scraped, family[1])
		}
		require.Equal(t, want, got)
	})

	t.Run("Reasons", func(t *testing.T) {
		documented := names(t, gatewayPage, "### Reasons")
		require.Equal(t, reasonsInTheSource(t), documented)
		for _, outcome := range regexp.MustCompile(`outcome="([^"]*)"`).FindAllStringSubmatch(s.Gateway.Metrics(), -1) {
			require.Contains(t, documented, outcome[1])
		}
	})

	t.Run("OpenTelemetry's variables", func(t *testing.T) {
		source, err := os.ReadFile("../../gateway/telemetry/settings.go")
		require.NoError(t, err)
		documented := names(t, gatewayPage, "### Traces and metrics by OTLP")
		for _, variable := range regexp.MustCompile(`Env\w+ += "(\w+)"`).FindAllStringSubmatch(string(source), -1) {
			require.Contains(t, documented, variable[1])
		}
	})

	t.Run("Attributes of spans", func(t *testing.T) {
		source, err := os.ReadFile("../../gateway/telemetry/trace.go")
		require.NoError(t, err)
		documented := names(t, gatewayPage, "### Traces and metrics by OTLP")
		for _, attribute := range regexp.MustCompile(`attribute\.Key\("([\w.]+)"\)`).FindAllStringSubmatch(string(source), -1) {
			if !strings.HasPrefix(attribute[1], "service.") {
				require.Contains(t, documented, attribute[1])
			}
		}
	})

	t.Run("Flags", func(t *testing.T) {
		help, err := exec.CommandContext(t.Context(), s.Programs.Gateway, "-help").CombinedOutput()
		require.NoError(t, err)
		var flags []string
		for _, flag := range regexp.MustCompile(`(?m)^ {2}(-[a-z-]+)`).FindAllStringSubmatch(string(help), -1) {
			flags = append(flags, flag[1])
		}
		require.Equal(t, names(t, gatewayPage, "### Flags"), flags)
	})
}

// busyDay has a gateway write every kind of audit line that there is, with every
// field, and count in every metric.
func busyDay(t *testing.T, s *stage.Stage) {
	t.Helper()
	traces := collector.Start()
	t.Cleanup(traces.Close)
	bed.SetUp(t, s.Harness, "1h")
	s.Write("mcp/servers/observed", harness.Map{"transport": "http", "url": s.Allowed.URL, "pin": "observe"})
	s.Gateway = s.StartGateway(harness.GatewayOptions{Top: bed.Block(""), Env: []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + traces.URL}})
	broken := s.StartUpstream(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: {}\n\n")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}))
	s.Write("mcp/servers/broken", harness.Map{"transport": "http", "url": broken.URL})
	token := s.CreateClient("busy", harness.Map{"allowed_servers": stage.Calculator + ",broken,observed"})

	session, err := s.TryConnect(s.Gateway.ServerURL(stage.Calculator), token, harness.ConnectOptions{Version: harness.SessionEra})
	require.NoError(t, err)
	stage.CallTool(t, session, "add", harness.Map{"a": 1, "b": 2})
	require.NoError(t, session.Close())
	session, err = s.TryConnect(s.Gateway.ServerURL("observed"), token, harness.ConnectOptions{Version: harness.SessionEra})
	require.NoError(t, err)
	require.NoError(t, session.Close())
	s.Works(t, token)
	s.Call(s.Gateway.ServerURL(stage.Forbidden), token, "add", `{}`)
	s.Post(s.Gateway.ServerURL(stage.Calculator), token, `{"jsonrpc":"2.0","id":1,"method":"ping","method":"ping"}`)
	s.Post(s.Gateway.ServerURL(stage.Calculator), token, `{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"none"}}`)
	s.Post(s.Gateway.ServerURL(stage.Calculator), token, `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"none:it"}}`)
	s.Post(s.Gateway.ServerURL(stage.Calculator), "mcpt_0123456789", `{}`)
	s.Post(s.Gateway.ServerURL(stage.Calculator), harness.UnissuedToken(t), `{}`)

	leaseAndRevoke(t, s)

	// The broken server's tools are missing in the list.
	list := `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"` + harness.StatelessEra +
		`","io.modelcontextprotocol/clientInfo":{"name":"busy","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}}}`
	s.Do(http.MethodPost, s.Gateway.URL+"/mcp", token, http.Header{
		"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"},
		"Mcp-Protocol-Version": {harness.StatelessEra}, "Mcp-Method": {"tools/list"},
	}, list)

	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.Gateway.ServerURL("broken"), strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"ping"}`))
	require.NoError(t, err)
	request.Header = http.Header{"Authorization": {"Bearer " + token}, "Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"}}
	response, err := http.DefaultTransport.RoundTrip(request)
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, response.Body)
	require.Error(t, err, "the server's failure does not look like the end of its answer")
	require.NoError(t, response.Body.Close())
	s.Gateway.AwaitAudit(func(lines []harness.Map) bool {
		seen := map[any]bool{}
		for _, line := range lines {
			seen[line["type"]] = true
			seen[line["error"] != nil] = true
		}
		return seen["refusals"] && seen[true]
	})
}

// leaseAndRevoke has the gateway lease credentials, fail to, and give them back.
func leaseAndRevoke(t *testing.T, s *stage.Stage) {
	t.Helper()
	s.Write("mcp/servers/leased", harness.Map{
		"transport": "http", "url": s.Allowed.URL, "headers": harness.Map{"X-Serial": "{{cert.serial_number}}"},
		"credentials": harness.Map{"cert": harness.Map{
			"path": "pki/issue/mcp", "method": "write", "data": harness.Map{"common_name": "{{client.alias}}"},
		}},
	})
	s.Write("mcp/servers/denied", harness.Map{
		"transport": "http", "url": s.Allowed.URL, "headers": harness.Map{"X-Serial": "{{it.x}}"},
		"credentials": harness.Map{"it": "kv/data/of/nobody"},
	})
	token := s.CreateClient("leasing", harness.Map{"allowed_servers": "leased,denied"})
	s.Eventually("the gateway knows the servers", func() error {
		for _, server := range []string{"leased", "denied"} {
			if answer := s.Post(s.Gateway.ServerURL(server), token, `{"jsonrpc":"2.0","id":1,"method":"ping"}`); answer.Status == http.StatusForbidden {
				return errors.New(answer.Body)
			}
		}
		return nil
	})
	s.Write("mcp/revoke-client/leasing", nil)
	s.Eventually("the gateway has told Vault", func() error {
		if !strings.Contains(s.Gateway.Metrics(), "mcp_gateway_credential_revocation_duration_seconds_count") {
			return errors.New("not yet")
		}
		return nil
	})
}

// labelsOf returns the names of a metric's labels, but for a histogram's own.
func labelsOf(scraped, metric string) []string {
	labels := []string{}
	for line := range strings.Lines(scraped) {
		after, ok := strings.CutPrefix(line, metric)
		if !ok || strings.HasPrefix(after, "_sum") || strings.HasPrefix(after, "_count") {
			continue
		}
		for _, label := range regexp.MustCompile(`[{,](\w+)="`).FindAllStringSubmatch(after, -1) {
			if label[1] != "le" && !slices.Contains(labels, label[1]) {
				labels = append(labels, label[1])
			}
		}
	}
	slices.SortFunc(labels, func(a, b string) int {
		order := []string{"server", "method", "list", "outcome"}
		return slices.Index(order, a) - slices.Index(order, b)
	})
	return labels
}

// signInFields are the audit log's fields that no line has without a sign-in.
var signInFields = []string{
	"actor", "application", "entity_id", "event", "generation", "login", "person", "person_credential_accessor", "sign_in", "subject",
}

// fieldsInTheSource returns the fields that the gateway's audit lines can have.
func fieldsInTheSource(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("../../gateway/access/*.go")
	require.NoError(t, err)
	field := regexp.MustCompile(`\bl\.(?:field|number|list|addr|key)\("([a-z_]+)"`)
	all := []string{"time", "type"} // with which each line begins
	for _, file := range files {
		source, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, found := range field.FindAllStringSubmatch(string(source), -1) {
			all = append(all, found[1])
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// reasonsInTheSource returns the words that the programs have for a decision about a request
// to an MCP server. Those of sign-in have a table, and a test, of their own.
func reasonsInTheSource(t *testing.T) []string {
	t.Helper()
	reason := regexp.MustCompile(`(?m)^(?:const|\s)\s*[Rr]eason\w*\s+= "([a-z-]+)"`)
	var all []string
	require.NoError(t, filepath.WalkDir("../../gateway", func(path string, entry os.DirEntry, err error) error {
		if entry != nil && entry.IsDir() && entry.Name() == "signin" {
			return filepath.SkipDir
		}
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		for _, found := range reason.FindAllStringSubmatch(string(source), -1) {
			all = append(all, found[1])
		}
		return err
	}))
	decisions, err := os.ReadFile("../../backend/policy/decision.go")
	require.NoError(t, err)
	_, block, found := strings.Cut(string(decisions), "const (\n")
	require.True(t, found)
	block, _, found = strings.Cut(block, "// ClientDisabled is") // which no gateway says
	require.True(t, found)
	for _, found := range regexp.MustCompile(`= "([a-z-]+)"`).FindAllStringSubmatch(block, -1) {
		all = append(all, found[1])
	}
	slices.Sort(all)
	return slices.Compact(all)
}
