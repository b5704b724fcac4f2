package aggregate

import (
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/gatewaytest"
)

const textResult = `{"content":[{"type":"text","text":"hi","n":12345678901234567890}],"resultType":"complete","x":1.10}`

func TestACallIsHandedToItsServer(t *testing.T) {
	calc, notes := modern(t, "add", textResult), modern(t, "add", textResult)
	s := newStage(t, map[string]string{"calc": calc.URL, "notes": notes.URL})
	g := s.asks("12345678901234567890", "tools/call", `"name":"calc__add","arguments":{"a":1.10,"b":"calc__add"}`)
	require.Equal(t, http.StatusOK, g.status, g.body)
	require.Equal(t, `{"jsonrpc":"2.0","id":12345678901234567890,"result":`+textResult+`}`, g.body)
	want, _ := stateless("12345678901234567890", "tools/call", `"name":"add","arguments":{"a":1.10,"b":"calc__add"}`)
	require.Equal(t, []string{want}, calc.sent("tools/call"), "all bytes but the name stay what they are")
	require.Equal(t, "add", calc.header("tools/call").Get("Mcp-Name"))
	require.Zero(t, notes.count(), "no other server hears of it")
}

func TestWhatIsAskedOfAServerIsInTheAuditLog(t *testing.T) {
	s := newStage(t, map[string]string{"calc": modern(t, "add", textResult).URL, "notes": modern(t, "read", textResult).URL})
	s.asks("1", "tools/list", "", ":token", bob) // the gateway learns whether calc has sessions
	var before int
	gatewaytest.Eventually(t, "the lines of that to be written", func() bool {
		lines := s.auditLines()
		before = len(lines)
		return slices.Contains(lines, "outcome tools/list") && slices.Contains(lines, "outcome calc tools/list")
	})
	s.asks("1", "tools/call", `"name":"calc__add"`, ":token", bob)
	s.asks("1", "tools/list", "", ":token", bob)
	s.asks("1", "tools/call", `"name":"notes__read"`, ":token", bob)
	s.asks("1", "tools/call", `"name":"nothing"`, ":token", bob)
	want := []string{
		"decision calc tools/call add allowed", "outcome calc tools/call add",
		"decision tools/list allowed", "decision calc tools/list allowed", "outcome calc tools/list", "outcome tools/list",
		"refusal notes tools/call read not-in-allowed-servers", "refusal tools/call nothing unknown-name",
	}
	gatewaytest.Eventually(t, "the lines to be written", func() bool { return len(s.auditLines()) >= before+len(want) })
	require.ElementsMatch(t, want, s.auditLines()[before:])
}

func TestNothingOfOtherServersIsToBeHad(t *testing.T) {
	calc, notes := modern(t, "add", textResult), modern(t, "read", textResult)
	s := newStage(t, map[string]string{"calc": calc.URL, "notes": notes.URL})
	for name, test := range map[string]struct{ method, refused, missing string }{
		"a tool":       {"tools/call", `"name":"notes__read"`, `"name":"nowhere__read"`},
		"a prompt":     {"prompts/get", `"name":"notes__read"`, `"name":"nowhere__read"`},
		"a resource":   {"resources/read", `"uri":"mcp://notes/a"`, `"uri":"mcp://nowhere/a"`},
		"a completion": {"completion/complete", `"ref":{"type":"ref/prompt","name":"notes__read"}`, `"ref":{"type":"ref/prompt","name":"nowhere__read"}`},
	} {
		t.Run(name, func(t *testing.T) {
			strip := func(g got) string {
				require.Equal(t, http.StatusOK, g.status)
				require.Contains(t, g.body, `"error":{"code":-32602`)
				text := regexp.MustCompile(`"request_id":"[^"]*"`).ReplaceAllString(g.body, "")
				return strings.ReplaceAll(text, "nowhere", "notes")
			}
			refused := s.asks("1", test.method, test.refused, ":token", bob)
			missing := s.asks("1", test.method, test.missing, ":token", bob)
			require.Equal(t, strip(missing), strip(refused), "what is refused looks like what is not there")
		})
	}
	require.Zero(t, notes.count(), "the server is not touched")
}

func TestAServersFailureIsAnAnswerToTheMessage(t *testing.T) {
	var status atomic.Int32
	up := newFake(t, func(w http.ResponseWriter, _ *http.Request, method, body string) {
		if method == "server/discover" {
			reply(w, body, `{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"resultType":"complete"}`)
			return
		}
		w.WriteHeader(int(status.Load()))
	})
	s := newStage(t, map[string]string{"calc": up.URL, "gone": "http://127.0.0.1:9/mcp"})
	for _, code := range []int{http.StatusInternalServerError, http.StatusUnauthorized, http.StatusFound, http.StatusForbidden, http.StatusTooManyRequests, http.StatusServiceUnavailable} {
		status.Store(int32(code))
		g := s.asks("1", "tools/call", `"name":"calc__add"`)
		require.Equal(t, http.StatusOK, g.status, "%d: %s", code, g.body)
		require.Contains(t, g.body, `"id":1,"error":{"code":-32603,"message":"The server`, code)
	}
	g := s.asks("1", "tools/call", `"name":"gone__add"`)
	require.Equal(t, http.StatusOK, g.status)
	require.Contains(t, g.body, `"id":1,"error":{"code":-32603,"message":"The server cannot be reached."`)
}

func TestRequestsAreRefusedForTheirForm(t *testing.T) {
	s := newStage(t, map[string]string{"calc": modern(t, "add", textResult).URL})
	mine := s.open(alice)
	meta := func(version string) string {
		return `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"` + version + `"}}}`
	}
	for name, test := range map[string]struct {
		body   string
		pairs  []string
		status int
		want   string
	}{
		"a version that nobody knows":   {meta("2027-01-01"), []string{"Mcp-Protocol-Version", "2027-01-01", "Mcp-Method", "tools/list"}, 400, `"code":-32022`},
		"no capabilities":               {meta("2026-07-28"), []string{"Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/list"}, 400, `"code":-32602`},
		"a header that says otherwise":  {meta("2026-07-28"), []string{"Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", "ping"}, 400, `"code":-32020`},
		"no version in the body":        {`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, []string{"Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/list"}, 400, `"code":-32602`},
		"a GET without sessions":        {"", []string{":method", "GET", "Mcp-Protocol-Version", "2026-07-28"}, 405, ""},
		"a GET without a session":       {"", []string{":method", "GET"}, 405, ""},
		"a batch":                       {"[" + pingOnce + "]", mine, 400, "batches"},
		"two names":                     {`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"calc__add","NAME":"x"}}`, mine, 400, "resembles"},
		"an unknown version of old":     {pingOnce, append(append([]string{}, mine...), "Mcp-Protocol-Version", "2020-01-01"), 400, "not supported"},
		"an unknown method":             {`{"jsonrpc":"2.0","id":1,"method":"vendor/x"}`, mine, 200, `"code":-32601`},
		"an answer that nobody awaits":  {`{"jsonrpc":"2.0","id":1,"result":{}}`, mine, 202, ""},
		"an answer to another's server": {`{"jsonrpc":"2.0","id":"notes__1","result":{}}`, mine, 202, ""},
	} {
		t.Run(name, func(t *testing.T) {
			g := s.ask(test.body, test.pairs...)
			require.Equal(t, test.status, g.status, g.body)
			require.Contains(t, g.body, test.want)
		})
	}
	g := s.asks("1", "vendor/x", "")
	require.Equal(t, http.StatusNotFound, g.status)
	require.Contains(t, g.body, `"code":-32601`)
}
