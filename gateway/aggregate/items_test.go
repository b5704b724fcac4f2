package aggregate

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/gatewaytest"
	"vault-plugin-secrets-mcp/gateway/grants/grantstest"
)

// itemRules are rules about prompts and resources, as a lookup has them.
func itemRules() grantstest.Data {
	return grantstest.Data{"allowed_servers": []string{}, "rights": []grantstest.Data{{
		"allowed_servers": []string{"*"},
		"allowed_prompts": []string{"up/greet"}, "denied_resources": []string{"up/file:///srv/secret*", "up/ui://board/admin"},
	}}}
}

// itemServer is a server without sessions that has prompts and resources, and answers
// everything else with an empty result.
func itemServer(t testing.TB) *fake {
	t.Helper()
	lists := map[string]string{
		"server/discover":          `{"supportedVersions":["2026-07-28"],"capabilities":{"prompts":{},"resources":{"subscribe":true},"completions":{}},"resultType":"complete"}`,
		"prompts/list":             `{"prompts":[{"name":"greet"},{"name":"other"}]}`,
		"resources/list":           `{"resources":[{"uri":"file:///srv/secret.md"},{"uri":"file:///srv/a.md"},{"uri":"ui://board/admin"},{"uri":"ui://board/main"}]}`,
		"resources/templates/list": `{"resourceTemplates":[{"uriTemplate":"file:///srv/{name}"},{"uriTemplate":"file:///srv/secret/{name}"}]}`,
	}
	return newFake(t, func(w http.ResponseWriter, _ *http.Request, method, body string) {
		switch result := lists[method]; {
		case result != "":
			reply(w, body, result)
		case method == "initialize", method == "subscriptions/listen":
			replyError(w, body, http.StatusNotFound, -32601)
		default:
			reply(w, body, `{"contents":[],"messages":[],"completion":{"values":[]}}`)
		}
	})
}

func TestListsOfPromptsAndResourcesAreFiltered(t *testing.T) {
	for name, down := range map[string]bool{"of a server": false, "the last good ones of a server that is down": true} {
		t.Run(name, func(t *testing.T) { listsAreFiltered(t, down) })
	}
}

func listsAreFiltered(t *testing.T, down bool) {
	t.Helper()
	up := itemServer(t)
	s := newStage(t, map[string]string{"up": up.URL})
	lists := map[string]struct {
		denied  string
		allowed []string
	}{
		"prompts/list":             {"up__other", []string{"up__greet"}},
		"resources/list":           {"mcp://up/file:///srv/secret.md", []string{"mcp://up/file:///srv/a.md", "ui://up/board/main"}},
		"resources/templates/list": {"mcp://up/file:///srv/secret/", []string{"mcp://up/file:///srv/{name}"}},
	}
	for method, list := range lists {
		require.Contains(t, s.asks("1", method, "").body, list.denied, "without rules, and kept for later")
	}
	if down {
		up.CloseClientConnections()
		up.Close()
	}
	s.vault.AddToken(alice, "alice", itemRules())
	for method, list := range lists {
		gatewaytest.Eventually(t, "the rules to be known", func() bool { return !strings.Contains(s.asks("1", method, "").body, list.denied) })
		body := s.asks("1", method, "").body
		for _, allowed := range list.allowed {
			require.Contains(t, body, allowed)
		}
		require.NotContains(t, body, "admin")
	}
}

func TestRulesDecideOnTheServersOwnNames(t *testing.T) {
	up := itemServer(t)
	s := newStage(t, map[string]string{"up": up.URL})
	s.vault.AddToken(alice, "alice", itemRules())
	gatewaytest.Eventually(t, "the rules to be known", func() bool { return !strings.Contains(s.asks("1", "prompts/list", "").body, "other") })
	jungle := func(uri string) string {
		return `"uri":"mcpj://res/up/` + base64.RawURLEncoding.EncodeToString([]byte(uri)) + `"`
	}
	complete := func(ref string) string { return `"ref":` + ref + `,"argument":{"name":"x","value":"y"}` }
	tests := map[string]struct {
		method, params string
		passes         bool
	}{
		"a prompt":                      {"prompts/get", `"name":"up__greet"`, true},
		"a prompt that is not allowed":  {"prompts/get", `"name":"up__other"`, false},
		"a prompt in escapes":           {"prompts/get", `"name":"up__\u006fther"`, false},
		"a resource":                    {"resources/read", `"uri":"mcp://up/file:///srv/a.md"`, true},
		"a denied one":                  {"resources/read", `"uri":"mcp://up/file:///srv/secret.md"`, false},
		"a denied one in capitals":      {"resources/read", `"uri":"mcp://up/FILE:///srv/Secret.md"`, false},
		"a denied one in escapes":       {"resources/read", `"uri":"mcp://up/file:///srv/%73ecret.md"`, false},
		"dots":                          {"resources/read", `"uri":"mcp://up/file:///srv/x/../secret.md"`, false},
		"dots over the server":          {"resources/read", `"uri":"mcp://up/../up/file:///srv/secret.md"`, false},
		"an empty part before it":       {"resources/read", `"uri":"mcp://up//file:///srv/secret.md"`, false},
		"JSON's escapes":                {"resources/read", `"uri":"mcp:\/\/up\/file:///srv/\u0073ecret.md"`, false},
		"MCPJungle's form":              {"resources/read", jungle("file:///srv/a.md"), true},
		"MCPJungle's form of a denied":  {"resources/read", jungle("file:///srv/secret.md"), false},
		"MCPJungle's form with escapes": {"resources/read", jungle("file:///srv/%73ecret.md"), false},
		"a page of an app":              {"resources/read", `"uri":"ui://up/board/main"`, true},
		"a denied page":                 {"resources/read", `"uri":"ui://up/board/admin"`, false},
		"a denied page as a resource":   {"resources/read", `"uri":"mcp://up/ui://board/admin"`, false},
		"a denied page in capitals":     {"resources/read", `"uri":"mcp://up/UI://board/ADMIN"`, false},
		"a completion for a prompt":     {"completion/complete", complete(`{"type":"ref/prompt","name":"up__greet"}`), true},
		"for one that is not allowed":   {"completion/complete", complete(`{"type":"ref/prompt","name":"up__other"}`), false},
		"for a template":                {"completion/complete", complete(`{"type":"ref/resource","uri":"mcp://up/file:///srv/{name}"}`), true},
		"for a denied template":         {"completion/complete", complete(`{"type":"ref/resource","uri":"mcp://up/file:///srv/secret/{name}"}`), false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			before := len(up.sent(test.method))
			got := s.asks("1", test.method, test.params)
			if test.passes {
				require.Len(t, up.sent(test.method), before+1, got.body)
				return
			}
			require.Len(t, up.sent(test.method), before, "it has reached the server: %s", got.body)
			require.Contains(t, got.body, "-32602")

			missing := s.asks("1", test.method, strings.NewReplacer("up__", "nosuch__", "://up/", "://nosuch/", "/res/up/", "/res/nosuch/").Replace(test.params))
			require.Equal(t, withoutTarget(t, missing.body), withoutTarget(t, got.body), "as if there were none")
		})
	}
	gatewaytest.Eventually(t, "the audit log to have both reasons", func() bool {
		lines := s.auditLines()
		return slices.Contains(lines, "refusal up prompts/get prompt-not-allowed") && slices.Contains(lines, "refusal up resources/read resource-not-allowed")
	})
}

// withoutTarget is an error without what the client itself has named.
func withoutTarget(t *testing.T, body string) any {
	t.Helper()
	var m struct {
		Error struct {
			Code    int
			Message string
			Data    map[string]any
		}
	}
	require.NoError(t, json.Unmarshal([]byte(body), &m), body)
	delete(m.Error.Data, "uri")
	for key := range m.Error.Data {
		m.Error.Data[key] = ""
	}
	return m
}

func TestDeniedResourcesLookMissingToASession(t *testing.T) {
	s := newStage(t, map[string]string{"up": itemServer(t).URL})
	s.vault.AddToken(alice, "alice", itemRules())
	session := s.open(alice)
	for _, method := range []string{"resources/read", "resources/subscribe", "resources/unsubscribe"} {
		ask := func(uri string) got {
			return s.ask(`{"jsonrpc":"2.0","id":1,"method":"`+method+`","params":{"uri":"`+uri+`"}}`, session...)
		}
		gatewaytest.Eventually(t, "the rules to be known", func() bool { return strings.Contains(ask("mcp://up/file:///srv/secret.md").body, "not available") })
		denied, missing := ask("mcp://up/file:///srv/secret.md"), ask("mcp://nosuch/file:///srv/secret.md")
		require.Equal(t, missing.status, denied.status)
		require.Equal(t, withoutTarget(t, missing.body), withoutTarget(t, denied.body))
		require.NotContains(t, ask("mcp://up/file:///srv/a.md").body, "not available")
	}
}

func TestSubscriptionsToDeniedResourcesAreNotAcknowledgedNorHeardOf(t *testing.T) {
	for client, version := range map[string]string{"a client without sessions": "2026-07-28", "a client with sessions": "2025-11-25"} {
		for _, era := range []string{"a server without sessions", "a server with sessions"} {
			t.Run(client+", "+era, func(t *testing.T) {
				t.Parallel() // a stream of a server is opened again after a second
				var server *sdk.Server
				var url string
				if era == "a server with sessions" {
					url = sessionServer(t, "up", func(s *sdk.Server) { server = s; addResource(s) }).URL
				} else {
					server, url = statelessServer(t, "up")
				}
				s := newStage(t, map[string]string{"up": url})
				options, h := listening()
				c := s.connect(alice, version, options)
				for _, uri := range []string{"mcp://up/file:///a", "mcp://up/file:///b"} {
					_ = c.Subscribe(context.Background(), &sdk.SubscribeParams{URI: uri})
				}
				update := func(uri string) {
					_ = server.ResourceUpdated(context.Background(), &sdk.ResourceUpdatedNotificationParams{URI: uri})
				}
				hears := func(uri string) func() bool {
					return func() bool {
						update(uri)
						select {
						case got := <-h:
							return got == "mcp://up/"+uri
						case <-time.After(50 * time.Millisecond):
							return false
						}
					}
				}
				gatewaytest.Eventually(t, "the change of a resource to be heard of", hears("file:///b"))

				s.vault.AddToken(alice, "alice", grantstest.Data{"allowed_servers": []string{}, "rights": []grantstest.Data{
					{"allowed_servers": []string{"*"}, "denied_resources": []string{"up/file:///b"}},
				}})
				gatewaytest.Eventually(t, "the rules to be known", func() bool {
					return strings.Contains(s.asks("1", "resources/read", `"uri":"mcp://up/file:///b"`).body, "not available")
				})
				// The streams of the server end, and others begin.
				gatewaytest.Eventually(t, "the other resource to be heard of", hears("file:///a"))
				h.drain()
				for range 5 {
					update("file:///b")
					gatewaytest.Eventually(t, "the other resource to be heard of again", func() bool {
						update("file:///a")
						select {
						case got := <-h:
							require.NotEqual(t, "mcp://up/file:///b", got)
							return got == "mcp://up/file:///a"
						case <-time.After(50 * time.Millisecond):
							return false
						}
					})
				}
			})
		}
	}
}

func TestListenIsAcknowledgedWithoutDeniedResources(t *testing.T) {
	up := itemServer(t)
	s := newStage(t, map[string]string{"up": up.URL})
	s.vault.AddToken(alice, "alice", itemRules())
	gatewaytest.Eventually(t, "the rules to be known", func() bool { return !strings.Contains(s.asks("1", "prompts/list", "").body, "other") })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	body, pairs := stateless("1", "subscriptions/listen", `"notifications":{"resourceSubscriptions":["mcp://up/file:///srv/secret.md","mcp://up/file:///srv/a.md","mcp://up/file:///srv/../x"]}`)
	r, err := s.doWith(ctx, body, pairs...)
	require.NoError(t, err)
	defer r.Body.Close()
	buffer := make([]byte, 4096)
	n, err := r.Body.Read(buffer)
	require.NoError(t, err)
	first := string(buffer[:n])
	require.Contains(t, first, `"resourceSubscriptions":["mcp://up/file:///srv/a.md"]`)
	gatewaytest.Eventually(t, "the server to be asked", func() bool { return len(up.sent("subscriptions/listen")) > 0 })
	require.NotContains(t, strings.Join(up.sent("subscriptions/listen"), ""), "secret")
}
