package pins

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/bootstrap/demo"
	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/stage"
)

// The marks of definitions: that which somebody has approved, and that which nobody has.
const (
	good = "approved-in-May"
	bad  = "written-in-June"
)

// pinned is a Vault with two gateways, and servers that are hostile.
type pinned struct {
	*harness.Harness
	gateways [2]*harness.Gateway
	program  string // the test's own, which is the servers' on stdio
}

func newPinned(t *testing.T, opts ...harness.Option) *pinned {
	t.Helper()
	h := harness.New(t, opts...)
	program, err := os.Executable()
	require.NoError(t, err)
	s := &pinned{Harness: h, program: program}
	options := harness.GatewayOptions{Blocks: map[string]string{
		"stdio": fmt.Sprintf("allowed_commands = [%q]\nisolation = \"off\"\nstop_timeout = \"1s\"\n", program),
	}}
	for i := range s.gateways {
		s.gateways[i] = h.StartGateway(options)
	}
	return s
}

// in is the stage for a subtest.
func (s *pinned) in(t *testing.T) *pinned {
	t.Helper()
	view := *s
	view.Harness = s.Harness.In(t)
	return &view
}

// start starts a hostile server, and returns where it is, without a way.
func (s *pinned) start(server *hostile) (base string) {
	return strings.TrimSuffix(s.StartUpstream(server).URL, demo.Path)
}

// register registers the server, reached in that way.
func (s *pinned) register(name, base, way string, more harness.Map) {
	data := harness.Map{"transport": "http", "url": base + "/" + way}
	switch way {
	case overSSE:
		data["transport"] = "sse"
	case overPipe:
		data = harness.Map{"transport": "stdio", "command": s.program, "env": harness.Map{serverVariable: base + "/" + way}}
	}
	for field, value := range more {
		data[field] = value
	}
	s.Write("mcp/servers/"+name, data)
}

// approve approves definitions of a server.
func (s *pinned) approve(server string, definitions ...*definition) {
	var approvals []harness.Map
	for _, d := range definitions {
		approvals = append(approvals, d.approval())
	}
	s.Write("mcp/pins/"+server, harness.Map{"definitions": approvals})
}

// pin sets a server's mode, and nothing else of it.
func (s *pinned) pin(server, mode string) { s.Write("mcp/servers/"+server, harness.Map{"pin": mode}) }

// reported returns the digests that gateways have reported of the server, by kind and name, each
// with its change.
func (s *pinned) reported(server string) map[string]string {
	found := map[string]string{}
	rows, _ := s.Read("mcp/pins/" + server)["reported"].([]any)
	for _, row := range rows {
		r := row.(map[string]any)
		found[fmt.Sprintf("%s %s %s", r["kind"], r["name"], r["digest"])] = fmt.Sprint(r["change"])
	}
	return found
}

// row is the key of a definition among those reported.
func (d *definition) row() string { return fmt.Sprintf("%s %s %s", d.kind, d.name, d.digest()) }

// caller is a client at one endpoint of one gateway, in one era, of one server.
type caller struct {
	t       testing.TB
	h       *harness.Harness
	gateway *harness.Gateway
	path    stage.Path
	server  string
	token   string
	name    string // as the client calls itself; "": caller
	session string
}

// caller returns a client of the first gateway.
func (s *pinned) caller(t testing.TB, path stage.Path, server, token string) *caller {
	t.Helper()
	return &caller{t: t, h: s.In(t), gateway: s.gateways[0], path: path, server: server, token: token, name: "caller"}
}

func (c *caller) url() string { return c.path.At.URL(c.gateway, c.server) }

// header is that of a request about the named thing, if there is one.
func (c *caller) header(method, name string) http.Header {
	header := stage.InSession(c.session)
	if c.session == "" {
		header.Del("Mcp-Session-Id")
	}
	if c.path.Era == harness.StatelessEra {
		header.Set("Mcp-Protocol-Version", harness.StatelessEra)
		header.Set("Mcp-Method", method)
		if name != "" {
			header.Set("Mcp-Name", name)
		}
	}
	return header
}

// message is a request. The params are members of an object.
func (c *caller) message(method, params string) string {
	if c.path.Era == harness.StatelessEra {
		if params != "" {
			params += ","
		}
		params += fmt.Sprintf(`"_meta":{"io.modelcontextprotocol/protocolVersion":%q,"io.modelcontextprotocol/clientInfo":{"name":%q,"version":"1"},`+
			`"io.modelcontextprotocol/clientCapabilities":{}}`, harness.StatelessEra, c.name)
	}
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":%q,"params":{%s}}`, method, params)
}

// open begins to speak with the server, and returns its description of itself.
func (c *caller) open() string {
	c.t.Helper()
	if c.path.Era == harness.StatelessEra {
		return c.send("server/discover", "", "")
	}
	params := fmt.Sprintf(`"protocolVersion":%q,"capabilities":{},"clientInfo":{"name":%q,"version":"1"}`, harness.SessionEra, c.name)
	c.session = ""
	answer := c.h.Do(http.MethodPost, c.url(), c.token, c.header("", ""), c.message("initialize", params))
	require.Equal(c.t, http.StatusOK, answer.Status, answer.Body)
	c.session = answer.Header.Get("Mcp-Session-Id")
	body := c.whole(answer).Body
	c.h.Do(http.MethodPost, c.url(), c.token, c.header("", ""), `{"jsonrpc":"2.0","method":"notifications/initialized"}`)
	return body
}

// ask sends a request about the named thing, in a session if there are any.
func (c *caller) ask(method, name, params string) string {
	c.t.Helper()
	if c.path.Era == harness.SessionEra && c.session == "" {
		c.open()
	}
	return c.send(method, name, params)
}

func (c *caller) send(method, name, params string) string {
	c.t.Helper()
	answer := c.h.Do(http.MethodPost, c.url(), c.token, c.header(method, name), c.message(method, params))
	return c.whole(answer).Body
}

// whole is the answer, also where its stream has broken off before it.
func (c *caller) whole(answer harness.Response) harness.Response {
	c.t.Helper()
	event := ""
	for line := range strings.Lines(answer.Body) {
		if id, isID := strings.CutPrefix(line, "id: "); isID {
			event = strings.TrimSpace(id)
		}
	}
	if event == "" || strings.Contains(answer.Body, `"jsonrpc"`) {
		return answer
	}
	header := c.header("", "")
	header.Del("Content-Type")
	header.Set("Accept", "text/event-stream")
	header.Set("Last-Event-Id", event)
	return c.h.Do(http.MethodGet, c.url(), c.token, header, "")
}
