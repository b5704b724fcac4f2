package aggregate

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/pin"
	"vault-plugin-secrets-mcp/gateway/aggregate/messages"
	"vault-plugin-secrets-mcp/gateway/gatewaytest"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/rewrite"
)

// defined is a server with two definitions in each list, of which "good" is to be approved, and
// "bad" not. With sessions it names none.
type defined struct {
	*fake
	instructions atomic.Pointer[string] // as JSON
}

// definitions has the entries of each list.
var definitions = map[string]struct {
	kind              pin.Kind
	member, good, bad string
	shown             string // the good one's name to clients
}{
	"tools/list":     {pin.Tool, "tools", `{"name":"good","description":"a \u0062"}`, `{"name":"bad"}`, `"up__good"`},
	"prompts/list":   {pin.Prompt, "prompts", `{ "name" : "good" }`, `{"name":"bad"}`, `"up__good"`},
	"resources/list": {pin.Resource, "resources", `{"uri":"file:///good","name":"x"}`, `{"uri":"file:///bad","name":"x"}`, `"mcp://up/file:///good"`},
	"resources/templates/list": {
		pin.Template, "resourceTemplates", `{"uriTemplate":"ui://good/{x}","name":"x"}`, `{"uriTemplate":"file:///bad/{x}","name":"x"}`, `"ui://up/good/{x}"`,
	},
}

const (
	goodPage = `{"uri":"ui://good/page","mimeType":"text/html;profile=mcp-app","text":"<p>good"}`
	badPage  = `{"uri":"ui://good/page","mimeType":"text/html;profile=mcp-app","text":"<p>bad"}`
)

func newDefined(t testing.TB, sessions bool) *defined {
	t.Helper()
	d := &defined{}
	d.say(`"Do \u0067ood."`)
	const capabilities = `"capabilities":{"tools":{},"prompts":{},"resources":{"subscribe":true},"completions":{}}`
	d.fake = newFake(t, func(w http.ResponseWriter, r *http.Request, method, body string) {
		list, isList := definitions[method]
		switch {
		case isList:
			reply(w, body, `{"`+list.member+`":[`+list.bad+`,`+list.good+`]}`)
		case method == "initialize" && sessions:
			w.Header().Set("Mcp-Session-Id", "s")
			reply(w, body, `{"protocolVersion":"2025-11-25",`+capabilities+`,"serverInfo":{"name":"bad","version":"1"},"instructions":`+*d.instructions.Load()+`}`)
		case method == "server/discover" && !sessions:
			reply(w, body, `{"supportedVersions":["2026-07-28"],`+capabilities+`,"resultType":"complete","instructions":`+*d.instructions.Load()+
				`,"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"bad","version":"1"}}}`)
		case method == "resources/read":
			reply(w, body, `{"contents":[`+badPage+`,`+goodPage+`]}`)
		case method == "tools/call", method == "prompts/get", method == "resources/subscribe":
			reply(w, body, `{"content":[],"messages":[]}`)
		case r.Method == http.MethodGet, method == "subscriptions/listen":
			w.WriteHeader(http.StatusMethodNotAllowed)
		case strings.HasPrefix(method, "notifications/"):
			w.WriteHeader(http.StatusAccepted)
		default:
			replyError(w, body, http.StatusNotFound, -32601)
		}
	})
	return d
}

func (d *defined) say(instructions string) { d.instructions.Store(&instructions) }

// approve approves the good definition of each list.
func (s *stage) approve() {
	for _, list := range definitions {
		s.vault.Approve("up", list.kind, list.good)
	}
	s.vault.Approve("up", pin.Page, goodPage)
}

// awaitMode waits until the gateway knows the mode of the server's pins.
func (s *stage) awaitMode(mode pin.Mode) {
	s.t.Helper()
	gatewaytest.Eventually(s.t, "the mode to be known", func() bool {
		pins := s.handler.options.Registry.Servers()["up"].Pins()
		return mode == pin.Off && pins == nil || pins != nil && pins.Mode == mode && pins.Known
	})
}

// eras are the ways in which clients ask.
func (s *stage) eras() map[string]func(method, params string) got {
	session := s.open(alice)
	return map[string]func(method, params string) got{
		"without sessions": func(method, params string) got { return s.asks("1", method, params) },
		"in a session": func(method, params string) got {
			return s.ask(fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":%q,"params":{%s}}`, method, params), session...)
		},
	}
}

func TestListsShowWhatIsApproved(t *testing.T) {
	for server, sessions := range map[string]bool{"a server with sessions": true, "one without": false} {
		t.Run(server, func(t *testing.T) {
			s := newStage(t, map[string]string{"up": newDefined(t, sessions).URL})
			s.approve()
			for client, ask := range s.eras() {
				for _, mode := range []pin.Mode{pin.Off, pin.Observe, pin.Enforce, pin.Off} {
					s.vault.Pin("up", mode)
					s.awaitMode(mode)
					for method, list := range definitions {
						got := ask(method, "").message()
						require.Contains(t, got, list.shown, "%s, %s, %s", client, mode, method)
						require.Equal(t, mode != pin.Enforce, strings.Contains(got, "bad"), "%s, %s: %s", client, mode, got)
					}
				}
				s.vault.Pin("up", pin.Enforce, pin.Prompt)
				s.awaitMode(pin.Enforce)
				require.Contains(t, ask("tools/list", "").body, "bad", "a kind that is not pinned")
				require.NotContains(t, ask("prompts/list", "").body, "bad")
			}
		})
	}
}

func TestNobodyNeedApproveTasks(t *testing.T) {
	s := pinnedStage(t, newDefined(t, true).URL)
	server := s.handler.options.Registry.Servers()["up"]
	require.Nil(t, s.handler.digests(server, rewrite.Tasks))
	require.Nil(t, s.handler.approves(server, rewrite.Tasks))
}

func TestAListThatIsKeptIsJudgedByThePinsOfNow(t *testing.T) {
	up := newDefined(t, false)
	s := newStage(t, map[string]string{"up": up.URL})
	s.approve()
	lists := func(method, text string) func() bool {
		return func() bool { return strings.Contains(s.asks("1", method, "").body, text) }
	}
	not := func(is func() bool) func() bool { return func() bool { return !is() } }
	s.vault.Pin("up", pin.Enforce)
	s.awaitMode(pin.Enforce)
	for method, list := range definitions {
		require.True(t, lists(method, list.shown)(), method)
	}
	up.CloseClientConnections()
	up.Close()
	for method, list := range definitions {
		require.True(t, lists(method, list.shown)(), "the last good list")
		s.vault.Withdraw("up", list.kind, nameIn(t, list.good))
		gatewaytest.Eventually(t, "the definition to be gone", not(lists(method, "good")))
		s.vault.Approve("up", list.kind, list.good)
		gatewaytest.Eventually(t, "it to be there again", lists(method, list.shown))
		require.False(t, lists(method, "bad")())
	}
}

// nameIn is the name of a definition.
func nameIn(t testing.TB, entry string) string {
	t.Helper()
	var names struct{ Name, URI, URITemplate string }
	require.NoError(t, json.Unmarshal([]byte(entry), &names))
	for _, name := range []string{names.URI, names.URITemplate, names.Name} {
		if name != "" {
			return name
		}
	}
	return ""
}

func TestAListFromBeforeItWasPinnedShowsNothing(t *testing.T) {
	for _, before := range []pin.Mode{pin.Off, pin.Observe} {
		t.Run(string(before), func(t *testing.T) {
			up := newDefined(t, false)
			s := newStage(t, map[string]string{"up": up.URL})
			s.approve()
			s.vault.Pin("up", before)
			s.awaitMode(before)
			for method := range definitions {
				require.Contains(t, s.asks("1", method, "").body, "bad")
			}
			up.CloseClientConnections()
			up.Close()
			require.Contains(t, s.asks("1", "tools/list", "").body, "bad", "the last good list")
			s.vault.Pin("up", pin.Enforce)
			s.awaitMode(pin.Enforce)
			for method := range definitions {
				got := s.asks("1", method, "").body
				require.NotContains(t, got, "bad")
				require.NotContains(t, got, "good", "its digest is not known")
			}
		})
	}
}

func TestWhatIsKeptIsNotShownWhileThePinsAreNotKnown(t *testing.T) {
	s := newStage(t, map[string]string{"up": newDefined(t, false).URL, "calc": modern(t, "add", textResult).URL})
	s.approve()
	s.vault.Approve("up", pin.Instructions, `"Do good."`)
	require.Contains(t, s.asks("1", "tools/list", "").body, "good")
	s.vault.FailPins("up", http.StatusInternalServerError)
	s.vault.Pin("up", pin.Enforce)
	gatewaytest.Eventually(t, "the pins to be unknown", func() bool {
		pins := s.handler.options.Registry.Servers()["up"].Pins()
		return pins != nil && !pins.Known
	})
	for _, ask := range s.eras() {
		got := ask("tools/list", "").message()
		require.Equal(t, []string{"calc__add"}, toolsIn(t, got), "of the other server")
		require.Contains(t, ask("tools/call", `"name":"up__good"`).body, `"error"`)
	}
	require.NotContains(t, s.asks("1", "server/discover", "").body, "Do good")
	s.vault.FailPins("up", 0)
	gatewaytest.Eventually(t, "the server to be back", func() bool { return strings.Contains(s.asks("1", "tools/list", "").body, "up__good") })
}

// Instructions are kept with a server's description, which is asked for once.
func TestInstructionsAreJudgedWheneverTheyAreShown(t *testing.T) {
	for server, sessions := range map[string]bool{"a server with sessions": true, "one without": false} {
		t.Run(server, func(t *testing.T) {
			up := newDefined(t, sessions)
			s := newStage(t, map[string]string{"up": up.URL})
			begin := map[string]func() string{
				"without sessions": func() string { return s.asks("1", "server/discover", "").body },
				"in a session":     func() string { return s.ask(initOnce).body },
			}
			shows := func(want bool) {
				t.Helper()
				for client, ask := range begin {
					gatewaytest.Eventually(t, "the pins to be known "+client, func() bool { return strings.Contains(ask(), `# up\n\nDo good.`) == want })
					require.Contains(t, ask(), `"prompts"`, "the server's capabilities are no definition")
				}
			}
			shows(true)
			unapproved := func() bool {
				text, err := os.ReadFile(s.audit)
				require.NoError(t, err)
				return strings.Contains(string(text), `"unapproved":1`)
			}
			require.False(t, unapproved())
			s.vault.Pin("up", pin.Observe)
			s.awaitMode(pin.Observe)
			shows(true)
			gatewaytest.Eventually(t, "the audit log to tell of them", unapproved)
			s.vault.Pin("up", pin.Enforce)
			shows(false)
			asked := len(up.sent("server/discover"))
			s.vault.Approve("up", pin.Instructions, `"Do good."`)
			shows(true)
			s.vault.Withdraw("up", pin.Instructions, "")
			shows(false)
			require.Len(t, up.sent("server/discover"), asked, "nobody asks the server again for that")
			s.vault.Pin("up", pin.Enforce, pin.Tool)
			shows(true)
		})
	}
}

// Instructions from before the approval are kept, too.
func TestAnApprovalOfInstructionsNeedsNoAnswerOfTheServer(t *testing.T) {
	for server, sessions := range map[string]bool{"a server with sessions": true, "one without": false} {
		t.Run(server, func(t *testing.T) {
			up := newDefined(t, sessions)
			s := pinnedStage(t, up.URL)
			discover := func() bool { return strings.Contains(s.asks("1", "server/discover", "").body, "Do good.") }
			require.False(t, discover())
			asked := up.count()
			s.vault.Approve("up", pin.Instructions, `"Do good."`)
			gatewaytest.Eventually(t, "the approval to be known", discover)
			require.Equal(t, asked, up.count())
		})
	}
}

func TestClientsHearOfAChangeOfPins(t *testing.T) {
	for name, version := range map[string]string{"without sessions": "2026-07-28", "with sessions": "2025-11-25"} {
		t.Run(name, func(t *testing.T) {
			up := sessionServer(t, "up", nil)
			s := newStage(t, map[string]string{"up": up.URL, "calc": modern(t, "add", textResult).URL})
			options, h := listening()
			c := s.connect(alice, version, options)
			require.Equal(t, []string{"calc__add", "up__echo"}, listed(t, c))
			s.awaitStream()
			h.drain()
			s.vault.Pin("up", pin.Enforce)
			h.await(t, "tools")
			require.Equal(t, []string{"calc__add"}, listed(t, c))
			h.drain()
			tool := s.toolAt(up.URL, "echo")
			s.vault.Approve("up", pin.Tool, tool)
			h.await(t, "tools")
			require.Equal(t, []string{"calc__add", "up__echo"}, listed(t, c))
			result, err := c.CallTool(context.Background(), &sdk.CallToolParams{Name: "up__echo", Arguments: map[string]any{"text": "x"}})
			require.NoError(t, err)
			require.Equal(t, "x", result.Content[0].(*sdk.TextContent).Text)
		})
	}
}

func TestOnlyClientsThatReachTheServerHearOfItsPins(t *testing.T) {
	s := newStage(t, map[string]string{"up": newDefined(t, false).URL, "calc": modern(t, "add", textResult).URL})
	s.open(alice)
	s.open(bob)
	for _, session := range s.allSessions() {
		session.watcher.take()
	}
	s.vault.Pin("up", pin.Enforce)
	s.awaitMode(pin.Enforce)
	changed := map[grants.Principal]messages.Changes{}
	gatewaytest.Eventually(t, "the change to be noted", func() bool {
		for _, session := range s.allSessions() {
			changed[session.principal] |= session.watcher.take()
		}
		return changed[grants.PrincipalOf("id-alice")] == messages.ChangedAll
	})
	require.Zero(t, changed[grants.PrincipalOf("id-bob")])
}

// toolAt returns a tool as a server with sessions writes it.
func (s *stage) toolAt(url, tool string) string {
	s.t.Helper()
	client := sdk.NewClient(&sdk.Implementation{Name: "t", Version: "1"}, nil)
	session, err := client.Connect(context.Background(), &sdk.StreamableClientTransport{Endpoint: url}, nil)
	require.NoError(s.t, err)
	defer session.Close()
	list, err := session.ListTools(context.Background(), nil)
	require.NoError(s.t, err)
	for _, t := range list.Tools {
		if t.Name == tool {
			text, err := json.Marshal(t)
			require.NoError(s.t, err)
			return string(text)
		}
	}
	s.t.Fatal("there is no such tool")
	return ""
}
