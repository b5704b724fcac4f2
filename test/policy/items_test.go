package policy

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/stage"
)

// TestPromptAndResourceRules lists and uses prompts and resources through the rules of a
// client, in both eras, at both endpoints, and on servers of each transport.
func TestPromptAndResourceRules(t *testing.T) {
	h := harness.New(t)
	gateway := shelves(t, h)
	for _, server := range []string{"http", "sse", "stdio"} {
		token := h.CreateClient("reader-"+server, harness.Map{
			"allowed_servers": server, "allowed_prompts": server + "/rev*", "denied_resources": "*/shelf://library/closed/*",
		})
		for _, path := range stage.Paths {
			t.Run(server+", "+path.String(), func(t *testing.T) {
				session, err := h.In(t).TryConnect(path.At.URL(gateway, server), token, harness.ConnectOptions{Version: path.Era})
				require.NoError(t, err)
				s := shelf{t: t, session: session, server: server, at: path.At}
				s.wantLists()
				s.wantUse()
			})
		}
	}
	gateway.AwaitAudit(func(lines []harness.Map) bool {
		prompts, resources := 0, 0
		for _, line := range lines {
			switch line["reason"] {
			case "prompt-not-allowed":
				require.Equal(t, "publish", line["prompt"])
				prompts++
			case "resource-not-allowed":
				require.Contains(t, strings.ToLower(fmt.Sprint(line["resource"])), "shelf://library/")
				resources++
			}
		}
		return prompts >= 3*len(stage.Paths) && resources >= 3*len(stage.Paths)*len(closedSpellings)
	})
	newRulesCountForOpenSessions(t, h, gateway)
}

// closedSpellings are spellings of a resource that the client may not have, and URIs that
// servers could take for it.
var closedSpellings = []string{
	closedBook,
	"SHELF://library/closed/diary",
	"shelf://library/Closed/diary",
	"shelf://library/%63losed/diary",
	"shelf://library/open/../closed/diary",
	"shelf://library/open/%2e%2e/closed/diary",
	"shelf://library/./closed/diary",
	"shelf://library//closed/diary",
	"shelf://library/closed%2fdiary",
	"shelf://library/closed\\diary",
	"shelf://library/closed/diary?x",
	"shelf://library/closed/diary#x",
}

// shelf is a session with a shelf, at one of the endpoints.
type shelf struct {
	t       *testing.T
	session *mcp.ClientSession
	server  string
	at      stage.Endpoint
}

func (s *shelf) uri(uri string) string { return s.at.Resource(s.server, uri) }

func (s *shelf) wantLists() {
	s.t.Helper()
	prompts, resources, templates := stage.NamesOn(s.t, s.session)
	require.Equal(s.t, []string{s.at.Tool(s.server, "review")}, prompts)
	require.Equal(s.t, []string{s.uri(openBook)}, resources)
	require.Equal(s.t, []string{s.uri(anyBook)}, templates)
}

func (s *shelf) wantUse() {
	s.t.Helper()
	ctx := s.t.Context()
	_, err := s.session.GetPrompt(ctx, &mcp.GetPromptParams{Name: s.at.Tool(s.server, "review")})
	require.NoError(s.t, err)
	_, err = s.session.GetPrompt(ctx, &mcp.GetPromptParams{Name: s.at.Tool(s.server, "publish")})
	s.wantMissing(err)

	for _, uri := range []string{openBook, "shelf://library/open/another"} {
		_, err = s.session.ReadResource(ctx, &mcp.ReadResourceParams{URI: s.uri(uri)})
		require.NoError(s.t, err, uri)
	}
	for _, uri := range closedSpellings {
		_, err = s.session.ReadResource(ctx, &mcp.ReadResourceParams{URI: s.uri(uri)})
		s.wantMissing(err)
	}
	for uri, allowed := range map[string]bool{anyBook: true, closedRoom: false} {
		_, err = s.session.Complete(ctx, &mcp.CompleteParams{
			Ref: &mcp.CompleteReference{Type: "ref/resource", URI: s.uri(uri)}, Argument: mcp.CompleteParamsArgument{Name: "title", Value: "m"},
		})
		if allowed {
			require.NoError(s.t, err)
		} else {
			s.wantMissing(err)
		}
	}
}

// wantMissing makes sure that the error is the one about items that do not exist.
func (s *shelf) wantMissing(err error) {
	s.t.Helper()
	var refused *jsonrpc.Error
	require.ErrorAs(s.t, err, &refused)
	require.Contains(s.t, refused.Message, "not available to this client")
}

// newRulesCountForOpenSessions takes a resource from a client that is using it.
func newRulesCountForOpenSessions(t *testing.T, h *harness.Harness, gateway *harness.Gateway) {
	t.Helper()
	token := h.CreateClient("reader", harness.Map{"allowed_servers": "http,stdio"})
	for _, server := range []string{"http", "stdio"} {
		for _, at := range stage.Endpoints {
			t.Run("new rules count for an open session, "+server+", "+at.String(), func(t *testing.T) {
				h := h.In(t)
				url := at.URL(gateway, server)
				h.Write("mcp/clients/reader", harness.Map{"denied_resources": ""})
				var session string
				h.Eventually("a session under the old rules", func() error {
					session = stage.OpenSession(t, h, url, token)
					return nil
				})
				ask := func(method, params string) string {
					body := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":%q,"params":%s}`, method, params)
					return h.Do("POST", url, token, stage.InSession(session), body).Body
				}
				read := func() string {
					return ask("resources/read", fmt.Sprintf(`{"uri":%q}`, at.Resource(server, closedBook)))
				}
				h.Eventually("the book to be read", func() error {
					if got := read(); !strings.Contains(got, "the text of a book") {
						return errors.New(got)
					}
					return nil
				})
				require.Contains(t, ask("resources/list", `{}`), closedBook)
				h.Write("mcp/clients/reader", harness.Map{"denied_resources": "*/*closed*"})
				h.Within(stage.InForce, "the new rule to count", func() error {
					if got := read(); !strings.Contains(got, "This resource is not available to this client.") {
						return errors.New(got)
					}
					return nil
				})
				list := ask("resources/list", `{}`)
				require.NotContains(t, list, closedBook)
				require.Contains(t, list, openBook)
			})
		}
	}
}
