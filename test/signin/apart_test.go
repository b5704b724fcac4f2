package signin

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/signin/bed"
	upstream "vault-plugin-secrets-mcp/test/upstream/bed"
)

// personal is a server that knows the person it is called for by the leased credentials. Its
// one tool is named after the person, so that its lists are personal too.
type personal struct {
	*harness.Upstream
	down atomic.Bool
}

const personalName = "personal"

// startPersonal starts the server, with the secrets and rights behind its credentials.
func startPersonal(t *testing.T, b *bed.Bed) *personal {
	t.Helper()
	upstream.SetUp(t, b.Harness, "5m")
	for _, person := range []string{bed.Alice, bed.Bob} {
		b.Leased("github-token-of-" + person)
		b.Write("kv/data/mcp/mcp:"+bed.LoginName+":"+person+"/github", harness.Map{"data": harness.Map{"token": "github-token-of-" + person}})
	}
	p := &personal{}
	serve := mcp.NewStreamableHTTPHandler(func(r *http.Request) *mcp.Server {
		server := mcp.NewServer(&mcp.Implementation{Name: personalName, Version: "1"}, nil)
		seen := r.Header.Get("X-Serial") + " " + r.Header.Get("X-Github")
		name := "of-" + strings.ReplaceAll(r.Header.Get("X-Serial"), ":", "")
		mcp.AddTool(server, &mcp.Tool{Name: name}, func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: seen}}}, nil, nil
		})
		return server
	}, &mcp.StreamableHTTPOptions{Stateless: true})
	p.Upstream = b.StartUpstream(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p.down.Load() {
			http.Error(w, "down", http.StatusBadGateway)
			return
		}
		serve.ServeHTTP(w, r)
	}))
	b.Write("mcp/servers/"+personalName, harness.Map{
		"transport": "http", "url": p.URL,
		"credentials": harness.Map{
			"cert": harness.Map{"path": "pki/issue/mcp", "method": "write", "data": harness.Map{"common_name": "{{client.alias}}"}},
			"gh":   "kv/data/mcp/{{person.alias}}/github",
		},
		"headers": harness.Map{"X-Serial": "{{cert.serial_number}}", "X-Github": "{{gh.data.token}}"},
	})
	b.Write("mcp/clients/"+bed.Engineering, harness.Map{
		"allowed_servers": strings.Join([]string{bed.Calculator, bed.Notes, personalName}, ","), "sign_in": true,
	})
	return p
}

// parties are principals that have something in common, each with a session.
func parties(t *testing.T, b *bed.Bed, resource string) map[string]*bed.Session {
	t.Helper()
	editor, assistant := b.Application(bed.Editor, resource), b.Application(bed.Assistant, resource)
	return map[string]*bed.Session{
		"alice with the editor":    b.SignIn(t, bed.Alice, editor, bed.Engineering),
		"alice with the assistant": b.SignIn(t, bed.Alice, assistant, bed.Engineering),
		"bob with the editor":      b.SignIn(t, bed.Bob, editor, bed.Engineering),
	}
}

// concurrency is how many requests one principal may have in flight.
const concurrency = 4

// TestColleaguesAndApplicationsShareNothing: two colleagues under one identity, and two
// applications of one person.
func TestColleaguesAndApplicationsShareNothing(t *testing.T) {
	t.Parallel()
	b := bed.New(t, bed.Options{
		Top:    upstream.Block(""),
		Blocks: map[string]string{"limits": fmt.Sprintf("per_client_concurrency = %d\n", concurrency)},
	})
	server := startPersonal(t, b)
	onNotes := map[string]*bed.Conversation{}
	for name, s := range parties(t, b, b.ServerURL(bed.Notes)) {
		onNotes[name] = s.Converse(t)
	}
	t.Run("no child: a server on stdio remembers for each of them apart", func(t *testing.T) {
		for name, c := range onNotes {
			c.Call(t, "write_note", fmt.Sprintf(`{"title":%q,"text":"private"}`, "note of "+name))
		}
		for name, c := range onNotes {
			list := c.Call(t, "list_notes", `{}`)
			for other := range onNotes {
				require.Equal(t, other == name, strings.Contains(list, "note of "+other), "%s sees %s", name, list)
			}
		}
	})
	t.Run("but one principal has one child, whichever of its sign-ins asks", func(t *testing.T) {
		again := b.SignIn(t, bed.Alice, b.Application(bed.Editor, b.ServerURL(bed.Notes)), bed.Engineering)
		require.Contains(t, again.Converse(t).Call(t, "list_notes", `{}`), "note of alice with the editor")
	})
	t.Run("no session: the id of one is unknown to the others", func(t *testing.T) {
		for name, c := range onNotes {
			for other, stranger := range onNotes {
				r := c.Message(http.MethodPost, `{"jsonrpc":"2.0","id":7,"method":"ping"}`)
				r.Token = stranger.AccessToken
				got, err := c.Application.Do(r)
				require.NoError(t, err)
				if other == name {
					require.Equal(t, http.StatusOK, got.Status, got.Body)
				} else {
					require.Equal(t, http.StatusNotFound, got.Status, "%s in the session of %s: %s", other, name, got.Body)
				}
			}
		}
	})
	t.Run("no limit: one who has used up theirs holds up nobody", func(t *testing.T) {
		greedy, bob := onNotes["alice with the editor"], onNotes["bob with the editor"]
		for range concurrency {
			greedy.Converse(t).Listen(t)
		}
		got, err := greedy.Send(`{"jsonrpc":"2.0","id":8,"method":"ping"}`)
		require.NoError(t, err)
		require.Equal(t, http.StatusTooManyRequests, got.Status, got.Body)
		for _, other := range []*bed.Conversation{bob, onNotes["alice with the assistant"]} {
			got, err = other.Send(`{"jsonrpc":"2.0","id":8,"method":"ping"}`)
			require.NoError(t, err)
			require.Equal(t, http.StatusOK, got.Status, got.Body)
		}
	})
	t.Run("no leased credential and no cached answer", func(t *testing.T) {
		owners, lists := map[string]string{}, map[string][]string{}
		sessions := parties(t, b, b.AllURL())
		for name, s := range sessions {
			lists[name] = toolsOf(t, s)
			require.Len(t, lists[name], 1, "%s sees %q", name, lists[name])
			tool := lists[name][0]
			require.NotContains(t, owners, tool, "%s has the certificate of %s", name, owners[tool])
			owners[tool] = name
			got, err := s.Application.Do(call(s, tool, `{}`))
			require.NoError(t, err)
			person, _, _ := strings.Cut(name, " ")
			require.Contains(t, got.Body, "github-token-of-"+person, name)
		}
		// Without the server, a list has its earlier entries.
		server.down.Store(true)
		for name, s := range sessions {
			if again := toolsOf(t, s); len(again) > 0 {
				require.Equal(t, lists[name], again, name)
			}
		}
	})
}

// toolsOf are the tools of the personal server that a session of /sign-in/mcp lists.
func toolsOf(t *testing.T, s *bed.Session) []string {
	t.Helper()
	got, err := s.Application.Do(bed.Request{
		Method: http.MethodPost, URL: s.Application.Resource, Token: s.AccessToken,
		Header: http.Header{"Mcp-Protocol-Version": {harness.StatelessEra}, "Mcp-Method": {"tools/list"}},
		Body: `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"` +
			harness.StatelessEra + `","io.modelcontextprotocol/clientInfo":{"name":"test","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}}}`,
	})
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, got.Status, got.Body)
	var tools []string
	for _, part := range strings.Split(got.Body, `"`) {
		if strings.HasPrefix(part, personalName+"__of-") {
			tools = append(tools, part)
		}
	}
	slices.Sort(tools)
	return slices.Compact(tools)
}

// call is a call of a tool in the stateless era.
func call(s *bed.Session, tool, arguments string) bed.Request {
	return bed.Request{
		Method: http.MethodPost, URL: s.Application.Resource, Token: s.AccessToken, Body: harness.CallBody(tool, arguments),
		Header: http.Header{"Mcp-Protocol-Version": {harness.StatelessEra}, "Mcp-Method": {"tools/call"}, "Mcp-Name": {tool}},
	}
}
