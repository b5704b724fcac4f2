package aggregate

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/pin"
	"vault-plugin-secrets-mcp/gateway/gatewaytest"
	"vault-plugin-secrets-mcp/gateway/grants/grantstest"
)

// pinnedStage has the server up with its pins enforced.
func pinnedStage(t testing.TB, up string) *stage {
	t.Helper()
	s := newStage(t, map[string]string{"up": up})
	s.approve()
	s.vault.Pin("up", pin.Enforce)
	s.awaitMode(pin.Enforce)
	return s
}

func TestCallsReachWhatIsApprovedAlone(t *testing.T) {
	for server, sessions := range map[string]bool{"a server with sessions": true, "one without": false} {
		t.Run(server, func(t *testing.T) {
			up := newDefined(t, sessions)
			s := pinnedStage(t, up.URL)
			for client, ask := range s.eras() {
				for _, test := range []struct{ method, good, bad, missing, words string }{
					{"tools/call", `"name":"up__good"`, `"name":"up__bad"`, `"name":"up__none"`, "This tool is not available here: nobody has approved its definition."},
					{"prompts/get", `"name":"up__good"`, `"name":"up__bad"`, `"name":"up__none"`, "This prompt is not available here: nobody has approved its definition."},
					{
						"resources/read", `"uri":"mcp://up/file:///good"`, `"uri":"mcp://up/file:///bad"`, `"uri":"mcp://up/file:///none"`,
						"This resource is not available here: nobody has approved its definition.",
					},
				} {
					before := len(up.sent(test.method))
					require.NotContains(t, ask(test.method, test.good).message(), `"error"`, "%s, %s", client, test.method)
					require.Len(t, up.sent(test.method), before+1)
					bad, missing := ask(test.method, test.bad).message(), ask(test.method, test.missing).message()
					require.Contains(t, bad, test.words, client)
					require.Equal(t, withoutTarget(t, missing), withoutTarget(t, bad), "as if there were none")
					require.Len(t, up.sent(test.method), before+1, "the server hears nothing of it")
				}
				require.Contains(t, ask("tools/call", `"name":"nosuch__good"`).body, "This tool is not available to this client.")
			}
			gatewaytest.Eventually(t, "the audit log to have the reasons", func() bool {
				lines := s.auditLines()
				return slices.Contains(lines, "refusal up tools/call bad tool-not-approved") && slices.Contains(lines, "refusal up resources/read resource-not-approved")
			})
			s.vault.AddToken(alice, "alice", grantstest.Data{"denied_tools": []string{"up/bad"}})
			gatewaytest.Eventually(t, "rules to be told before pins", func() bool {
				return strings.Contains(s.asks("1", "tools/call", `"name":"up__bad"`).body, "not available to this client")
			})
		})
	}
}

func TestPagesOfAppsAreJudged(t *testing.T) {
	for server, sessions := range map[string]bool{"a server with sessions": true, "one without": false} {
		t.Run(server, func(t *testing.T) {
			s := pinnedStage(t, newDefined(t, sessions).URL)
			for client, ask := range s.eras() {
				got := ask("resources/read", `"uri":"ui://up/good/page"`).message()
				require.Contains(t, got, "<p>good", client)
				require.Contains(t, got, `"uri":"ui://up/good/page"`)
				require.NotContains(t, got, "<p>bad", client)
			}
		})
	}
}

// A client takes a result for the answer to its request by the id alone, and reads the members that it
// waits for. So a list counts as one wherever it comes.
func TestAListInTheWrongPlaceIsJudged(t *testing.T) {
	const lists = `{"tools":[{"name":"bad"}],"prompts":[{"name":"bad"}],"resources":[{"uri":"x:bad"}],"resourceTemplates":[{"uriTemplate":"x:bad"}],` +
		`"contents":[` + badPage + `],"instructions":"bad","serverInfo":{"name":"bad"},"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"bad","version":"1"}},"content":[]}`
	tests := map[string]func(w http.ResponseWriter, id string){
		"as JSON": func(w http.ResponseWriter, id string) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":%s}`, id, lists)
		},
		"as an event": func(w http.ResponseWriter, id string) {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = fmt.Fprintf(w, "id: 1\ndata: {\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":%s}\n\n", id, lists)
		},
	}
	for _, sessions := range []bool{true, false} {
		for how, say := range tests {
			t.Run(fmt.Sprintf("%s, server with sessions %v", how, sessions), func(t *testing.T) {
				s := newStage(t, map[string]string{"evil": says(t, sessions, "", say).URL})
				s.vault.Approve("evil", pin.Tool, `{"name":"x"}`)
				s.vault.Pin("evil", pin.Enforce)
				gatewaytest.Eventually(t, "the pins to be known", func() bool {
					pins := s.handler.options.Registry.Servers()["evil"].Pins()
					return pins != nil && pins.Known
				})
				for _, client := range []bool{true, false} {
					got := s.callHostile(client)
					require.Contains(t, got.body, `"result"`, got.body)
					require.NotContains(t, got.body, "bad")
				}
			})
		}
	}
}

// A stream that breaks off goes on where it was. Later messages were not asked for in the same request,
// and is judged by the pins of then.
func TestTheRestOfAStreamIsJudgedByThePinsOfThen(t *testing.T) {
	up := newFake(t, func(w http.ResponseWriter, r *http.Request, method, body string) {
		switch {
		case method == "initialize":
			w.Header().Set("Mcp-Session-Id", "s")
			reply(w, body, `{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"x","version":"1"}}`)
		case method == "tools/call":
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "id: 1\ndata:\n\n")
		case r.Method == http.MethodGet && r.Header.Get("Last-Event-ID") != "":
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, `data: {"jsonrpc":"2.0","id":5,"result":{"content":[],"tools":[{"name":"bad"},{"name":"good"}]}}`+"\n\n")
		case r.Method == http.MethodGet:
			w.WriteHeader(http.StatusMethodNotAllowed)
		default:
			w.WriteHeader(http.StatusAccepted)
		}
	})
	s := newStage(t, map[string]string{"up": up.URL})
	s.vault.Approve("up", pin.Tool, `{"name":"good"}`)
	session := s.open(alice)
	begin := s.ask(`{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"up__x"}}`, session...)
	require.Contains(t, begin.body, "id: up__1")
	s.vault.Pin("up", pin.Enforce)
	s.awaitMode(pin.Enforce)
	rest := s.ask("", append(session, ":method", "GET", "Accept", "text/event-stream", "Last-Event-ID", "up__1")...)
	require.Contains(t, rest.body, `"tools":[{"name":"good"}]`)
}

func TestResourcesThatAreNotApprovedAreNotSubscribedTo(t *testing.T) {
	t.Run("by a client with a session", func(t *testing.T) {
		for _, sessions := range []bool{true, false} {
			up := newDefined(t, sessions)
			s := pinnedStage(t, up.URL)
			ask := s.eras()["in a session"]
			require.NotContains(t, ask("resources/subscribe", `"uri":"mcp://up/file:///good"`).message(), `"error"`)
			require.Contains(t, ask("resources/subscribe", `"uri":"mcp://up/file:///bad"`).message(), "nobody has approved")
			require.NotContains(t, strings.Join(up.sent("resources/subscribe"), ""), "bad")
			gatewaytest.Eventually(t, "the refusal to be in the audit log", func() bool {
				return slices.Contains(s.auditLines(), "refusal up resources/subscribe resource-not-approved")
			})
		}
	})
	t.Run("by a client without", func(t *testing.T) {
		for _, sessions := range []bool{true, false} {
			up := newDefined(t, sessions)
			s := pinnedStage(t, up.URL)
			body, pairs := stateless("1", "subscriptions/listen", `"notifications":{"resourceSubscriptions":["mcp://up/file:///good","mcp://up/file:///bad"]}`)
			acknowledged := s.firstOf(body, pairs...)
			require.Contains(t, acknowledged, "mcp://up/file:///good")
			require.NotContains(t, acknowledged, "bad")
			require.NotContains(t, strings.Join(append(up.sent("resources/subscribe"), up.sent("subscriptions/listen")...), ""), "bad")
		}
	})
}

// firstOf returns the first message of a stream.
func (s *stage) firstOf(body string, pairs ...string) string {
	s.t.Helper()
	r, err := s.do(body, pairs...)
	require.NoError(s.t, err)
	defer r.Body.Close()
	first := make([]byte, 4<<10)
	n, err := io.ReadAtLeast(r.Body, first, 100)
	require.NoError(s.t, err)
	return string(first[:n])
}
