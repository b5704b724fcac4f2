package aggregate

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/stage"
)

// shelf is where each library keeps its books. The books of all libraries have the same
// names.
const shelf = "books:///shelf/"

// library is a server with something of everything. Its name stands in its
// answers.
func library(name string) *mcp.Server {
	server := mcp.NewServer(&mcp.Implementation{Name: name, Version: "1"}, &mcp.ServerOptions{
		CompletionHandler: func(_ context.Context, r *mcp.CompleteRequest) (*mcp.CompleteResult, error) {
			return &mcp.CompleteResult{Completion: mcp.CompletionResultDetails{
				Values: []string{name, r.Params.Ref.Name + r.Params.Ref.URI},
			}}, nil
		},
		SubscribeHandler:   func(context.Context, *mcp.SubscribeRequest) error { return nil },
		UnsubscribeHandler: func(context.Context, *mcp.UnsubscribeRequest) error { return nil },
	})
	for _, tool := range []string{"find", "find__all", "Find.v2-beta", strings.Repeat("x", 124)} {
		server.AddTool(&mcp.Tool{Name: tool, InputSchema: harness.Map{"type": "object"}},
			func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
				return &mcp.CallToolResult{Content: []mcp.Content{
					&mcp.TextContent{Text: name},
					&mcp.ResourceLink{URI: shelf + "moby", Name: "moby"},
					&mcp.EmbeddedResource{Resource: &mcp.ResourceContents{URI: shelf + "moby", Text: name}},
				}}, nil
			})
	}
	read := func(_ context.Context, r *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
		if strings.HasSuffix(r.Params.URI, "/lost") {
			return nil, mcp.ResourceNotFoundError(r.Params.URI)
		}
		return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: r.Params.URI, Text: name}}}, nil
	}
	server.AddResource(&mcp.Resource{URI: shelf + "moby", Name: "moby"}, read)
	server.AddResourceTemplate(&mcp.ResourceTemplate{URITemplate: shelf + "{title}", Name: "a book"}, read)
	server.AddPrompt(&mcp.Prompt{Name: "review"}, func(context.Context, *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
		return &mcp.GetPromptResult{Messages: []*mcp.PromptMessage{
			{Role: "user", Content: &mcp.EmbeddedResource{Resource: &mcp.ResourceContents{URI: shelf + "moby", Text: name}}},
		}}, nil
	})
	return server
}

// libraries registers one library for each era of the protocol, which speaks
// nothing else.
func libraries(h *harness.Harness) map[string]*mcp.Server {
	servers := map[string]*mcp.Server{"old": library("old"), "new": library("new")}
	for name, server := range servers {
		get := func(*http.Request) *mcp.Server { return server }
		url := h.StartUpstream(mcp.NewStreamableHTTPHandler(get, &mcp.StreamableHTTPOptions{Stateless: name == "new"})).URL
		h.Write("mcp/servers/"+name, harness.Map{"transport": "http", "url": url})
	}
	return servers
}

// TestServersOfBothErasAreOneToClientsOfBothEras uses two servers that have the
// same names for everything.
func TestServersOfBothErasAreOneToClientsOfBothEras(t *testing.T) {
	h := harness.New(t)
	servers := libraries(h)
	token := h.CreateClient("reader", harness.Map{"allowed_servers": "*"})
	gateway := h.StartGateway(harness.GatewayOptions{})
	for _, era := range []string{harness.SessionEra, harness.StatelessEra} {
		t.Run("a client in "+era, func(t *testing.T) {
			updates := make(chan string, 8)
			session, err := h.In(t).TryConnect(gateway.URL+"/mcp", token, harness.ConnectOptions{Version: era, Client: &mcp.ClientOptions{
				ResourceUpdatedHandler: func(_ context.Context, r *mcp.ResourceUpdatedNotificationRequest) {
					select {
					case updates <- r.Params.URI:
					default: // there are enough
					}
				},
			}})
			require.NoError(t, err)
			wantLists(t, session)
			heard := map[string]bool{} // of which resources: updates of them may still come
			for name, server := range servers {
				t.Run("at a server that is "+name, func(t *testing.T) {
					wantLibrary(t, session, name)
					wantUpdate(t, session, server, name, updates, heard)
				})
			}
			wantNothingBesides(t, session)
		})
	}
	wantLeftOut(t, h)
}

func wantLists(t *testing.T, session *mcp.ClientSession) {
	t.Helper()
	var tools []string
	for tool, err := range session.Tools(t.Context(), nil) {
		require.NoError(t, err)
		tools = append(tools, tool.Name)
	}
	prompts, resources, templates := stage.NamesOn(t, session)
	slices.Sort(tools)
	require.Equal(t, []string{
		"new__Find.v2-beta", "new__find", "new__find__all", "old__Find.v2-beta", "old__find", "old__find__all",
	}, tools)
	require.Equal(t, []string{"new__review", "old__review"}, prompts)
	require.Equal(t, []string{"mcp://new/" + shelf + "moby", "mcp://old/" + shelf + "moby"}, resources)
	require.Equal(t, []string{"mcp://new/" + shelf + "{title}", "mcp://old/" + shelf + "{title}"}, templates)
}

// wantLibrary uses all that one library has, and fails the test if another
// answers, or if a resource has another name than in the lists.
func wantLibrary(t *testing.T, session *mcp.ClientSession, name string) {
	t.Helper()
	moby := "mcp://" + name + "/" + shelf + "moby"
	for _, tool := range []string{"find", "find__all", "Find.v2-beta"} {
		result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: name + "__" + tool, Arguments: harness.Map{}})
		require.NoError(t, err, tool)
		require.Equal(t, []mcp.Content{
			&mcp.TextContent{Text: name},
			&mcp.ResourceLink{URI: moby, Name: "moby"},
			&mcp.EmbeddedResource{Resource: &mcp.ResourceContents{URI: moby, Text: name}},
		}, result.Content)
	}
	prompt, err := session.GetPrompt(t.Context(), &mcp.GetPromptParams{Name: name + "__review"})
	require.NoError(t, err)
	require.Equal(t, &mcp.EmbeddedResource{Resource: &mcp.ResourceContents{URI: moby, Text: name}}, prompt.Messages[0].Content)

	for asked, got := range map[string]string{
		moby: moby,
		"mcp://" + name + "/" + shelf + "a%20new%20one":                                            "mcp://" + name + "/" + shelf + "a%20new%20one",
		"mcpj://res/" + name + "/" + base64.RawStdEncoding.EncodeToString([]byte(shelf+"moby")):    moby,
		"mcpj://res/" + name + "/" + base64.RawURLEncoding.EncodeToString([]byte(shelf+"moby~~~")): moby + "~~~",
	} {
		resource, err := session.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: asked})
		require.NoError(t, err, asked)
		require.Equal(t, name, resource.Contents[0].Text, asked)
		require.Equal(t, got, resource.Contents[0].URI)
	}
	lost := "mcp://" + name + "/" + shelf + "lost"
	_, err = session.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: lost})
	var missing *jsonrpc.Error
	require.ErrorAs(t, err, &missing)
	require.JSONEq(t, `{"uri":"`+lost+`"}`, string(missing.Data))

	for own, ref := range map[string]mcp.CompleteReference{
		"review":          {Type: "ref/prompt", Name: name + "__review"},
		shelf + "{title}": {Type: "ref/resource", URI: "mcp://" + name + "/" + shelf + "{title}"},
	} {
		result, err := session.Complete(t.Context(), &mcp.CompleteParams{Ref: &ref, Argument: mcp.CompleteParamsArgument{Name: "title", Value: "m"}})
		require.NoError(t, err)
		require.Equal(t, []string{name, own}, result.Completion.Values)
	}
}

// wantUpdate subscribes to a resource and has the server change it.
func wantUpdate(t *testing.T, session *mcp.ClientSession, server *mcp.Server, name string, updates <-chan string, heard map[string]bool) {
	t.Helper()
	moby := "mcp://" + name + "/" + shelf + "moby"
	require.NoError(t, session.Subscribe(t.Context(), &mcp.SubscribeParams{URI: moby}))
	// A subscription may take effect a moment after it is answered.
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ticks := time.NewTicker(50 * time.Millisecond)
	defer ticks.Stop()
	for !heard[moby] {
		require.NoError(t, server.ResourceUpdated(ctx, &mcp.ResourceUpdatedNotificationParams{URI: shelf + "moby"}))
		select {
		case got := <-updates:
			require.True(t, got == moby || heard[got], "an update of %s was heard", got)
			heard[got] = true
		case <-ticks.C:
		case <-ctx.Done():
			t.Fatal("no update was heard of")
		}
	}
	require.NoError(t, session.Unsubscribe(t.Context(), &mcp.UnsubscribeParams{URI: moby}))
}

// wantNothingBesides asks for things that no library has, and by names that are not
// valid.
func wantNothingBesides(t *testing.T, session *mcp.ClientSession) {
	t.Helper()
	for _, tool := range []string{"find", "old_find", "__find", "old__", "older__find", "old__find__none", "old__" + strings.Repeat("x", 124)} {
		stage.WantNoTool(t, session, tool)
	}
	for _, uri := range []string{shelf + "moby", "mcp://older/" + shelf + "moby", "mcp://old", "mcpj://res/old/!", "mcpj://res/older/Ym9va3M6"} {
		_, err := session.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: uri})
		var missing *jsonrpc.Error
		require.ErrorAs(t, err, &missing, uri)
	}
	_, err := session.GetPrompt(t.Context(), &mcp.GetPromptParams{Name: "review"})
	require.Error(t, err)
}

// wantLeftOut fails the test unless the log says which tool could not be named.
func wantLeftOut(t *testing.T, h *harness.Harness) {
	t.Helper()
	h.Eventually("the log to say what is left out", func() error {
		content, err := os.ReadFile(filepath.Join(h.Dir, "gateway-1.log"))
		if err != nil {
			return err
		}
		for _, server := range []string{"old", "new"} {
			if !slices.ContainsFunc(strings.Split(string(content), "\n"), func(line string) bool {
				return strings.Contains(line, "left out") && strings.Contains(line, server) && strings.Contains(line, "longer than 128")
			}) {
				return errors.New("it does not, of " + server)
			}
		}
		return nil
	})
}
