//nolint:staticcheck // sampling and roots are deprecated, and carried as long as they are in the protocol
package aggregate

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"
)

// asker adds a tool, a prompt and a resource to a server. They ask for what the answer needs: a form, a
// model's answer and the roots.
func asker(server *sdk.Server) {
	ask := func(have sdk.InputResponseMap) (missing sdk.InputRequestMap, said string) {
		if have == nil {
			return sdk.InputRequestMap{
				"name": &sdk.ElicitParams{Message: "who?", RequestedSchema: map[string]any{
					"type": "object", "properties": map[string]any{"name": map[string]any{"type": "string"}},
				}},
				"poem":  &sdk.CreateMessageParams{MaxTokens: 10, Messages: []*sdk.SamplingMessage{{Role: "user", Content: &sdk.TextContent{Text: "sing"}}}},
				"roots": &sdk.ListRootsParams{},
			}, ""
		}
		name, _ := have["name"].(*sdk.ElicitResult)
		poem, _ := have["poem"].(*sdk.CreateMessageWithToolsResult)
		roots, _ := have["roots"].(*sdk.ListRootsResult)
		if name == nil || poem == nil || roots == nil {
			return nil, fmt.Sprintf("%T %T %T", have["name"], have["poem"], have["roots"])
		}
		return nil, fmt.Sprint(name.Action, " ", name.Content["name"], " ", poem.Content[0].(*sdk.TextContent).Text, " ", roots.Roots[0].URI)
	}
	server.AddTool(&sdk.Tool{Name: "ask", InputSchema: map[string]any{"type": "object"}}, func(_ context.Context, r *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
		missing, said := ask(r.Params.InputResponses)
		if missing != nil {
			return &sdk.CallToolResult{InputRequests: missing, RequestState: "of the tool"}, nil
		}
		return &sdk.CallToolResult{Content: []sdk.Content{&sdk.TextContent{Text: said + ", " + r.Params.RequestState}}}, nil
	})
	server.AddPrompt(&sdk.Prompt{Name: "ask"}, func(_ context.Context, r *sdk.GetPromptRequest) (*sdk.GetPromptResult, error) {
		missing, said := ask(r.Params.InputResponses)
		if missing != nil {
			return &sdk.GetPromptResult{InputRequests: missing, RequestState: "of the prompt"}, nil
		}
		return &sdk.GetPromptResult{Description: said}, nil
	})
}

// askers starts a server of each era that asks.
func askers(t testing.TB) map[string]string {
	t.Helper()
	stateless := sdk.NewServer(&sdk.Implementation{Name: "new", Version: "1"}, nil)
	asker(stateless)
	return map[string]string{
		"old": sessionServer(t, "old", asker).URL,
		"new": serve(t, sdk.NewStreamableHTTPHandler(func(*http.Request) *sdk.Server { return stateless }, &sdk.StreamableHTTPOptions{Stateless: true})),
	}
}

// answering returns options of a client that answers everything.
func answering() *sdk.ClientOptions {
	return &sdk.ClientOptions{
		ElicitationHandler: func(_ context.Context, r *sdk.ElicitRequest) (*sdk.ElicitResult, error) {
			return &sdk.ElicitResult{Action: "accept", Content: map[string]any{"name": "ada, asked " + r.Params.Message}}, nil
		},
		CreateMessageHandler: func(_ context.Context, r *sdk.CreateMessageRequest) (*sdk.CreateMessageResult, error) {
			return &sdk.CreateMessageResult{Model: "m", Role: "assistant", Content: &sdk.TextContent{Text: "la, told to " + r.Params.Messages[0].Content.(*sdk.TextContent).Text}}, nil
		},
	}
}

// TestServersOfBothErasAskClientsOfBothEras uses real clients and servers.
func TestServersOfBothErasAskClientsOfBothEras(t *testing.T) {
	s := newStage(t, askers(t))
	for _, version := range []string{"2025-06-18", "2025-11-25", "2026-07-28"} {
		for _, server := range []string{"old", "new"} {
			t.Run("a client of "+version+" and a server that is "+server, func(t *testing.T) {
				client := s.connectWithRoots(alice, version)
				const want = "accept ada, asked who? la, told to sing file:///home"
				tool, err := client.CallTool(context.Background(), &sdk.CallToolParams{Name: server + "__ask"})
				require.NoError(t, err)
				require.Equal(t, want+", of the tool", tool.Content[0].(*sdk.TextContent).Text)
				prompt, err := client.GetPrompt(context.Background(), &sdk.GetPromptParams{Name: server + "__ask"})
				require.NoError(t, err)
				require.Equal(t, want, prompt.Description)
				require.Zero(t, s.handler.waiting.size())
			})
		}
	}
}

// connectWithRoots connects a client that answers everything, and has a root.
func (s *stage) connectWithRoots(token, version string) *sdk.ClientSession {
	s.t.Helper()
	client := sdk.NewClient(&sdk.Implementation{Name: "t", Version: "1"}, answering())
	client.AddRoots(&sdk.Root{URI: "file:///home", Name: "home"})
	session, err := client.Connect(context.Background(), &sdk.StreamableClientTransport{
		Endpoint: s.url, HTTPClient: &http.Client{Transport: bearer(token)},
	}, &sdk.ClientSessionOptions{ProtocolVersion: version})
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = session.Close() })
	return session
}

func TestWhatAClientCanBeAsked(t *testing.T) {
	for capabilities, want := range map[string]questions{
		``:                                     0,
		`{}`:                                   0,
		`[]`:                                   0,
		`{"elicitation":{}}`:                   asksForm,
		`{"elicitation":{"form":{}}}`:          asksForm,
		`{"elicitation":{"form":{},"url":{}}}`: asksForm,
		`{"elicitation":{"url":{}}}`:           0,
		`{"elicitation":true}`:                 0,
		`{"sampling":{}}`:                      asksModel,
		`{"sampling":{"context":{}}}`:          asksModel,
		`{"sampling":{"tools":{}}}`:            asksModel | asksTools,
		`{"roots":{"listChanged":true}}`:       asksRoots,
		`{"roots":{},"Roots":{}}`:              0, // could be read in two ways
		`{"roots":{},"roots":{}}`:              0,
		`{"elicitation":{},"sampling":{"tools":{}},"roots":{},"x":{}}`: asksForm | asksModel | asksTools | asksRoots,
	} {
		require.Equal(t, want, questionsIn([]byte(capabilities)), capabilities)
	}
	for q := range questions(16) {
		if q&asksTools != 0 && q&asksModel == 0 {
			continue
		}
		require.Equal(t, q, questionsIn(q.capabilities()), "what is declared is read back: %s", q.capabilities())
	}
}

func TestQuestionsAreTranslatedAsBothErasHaveThem(t *testing.T) {
	const all = asksForm | asksModel | asksTools | asksRoots
	for _, c := range []struct {
		name, method, params string
		declared             questions
		want                 string // params, or an error
	}{
		{"a form", "elicitation/create", `{"message":"m","mode":"form","requestedSchema":{}}`, all, `{"message":"m","requestedSchema":{}}`},
		{"a form without a mode", "elicitation/create", `{"message":"m"}`, all, `{"message":"m"}`},
		{"a form that was not declared", "elicitation/create", `{"message":"m"}`, all &^ asksForm, string(errUndeclared)},
		{"an URL", "elicitation/create", `{"mode":"url","url":"https://x","message":"m","elicitationId":"1"}`, all, string(errURLMode)},
		{"a mode of a later version", "elicitation/create", `{"mode":7}`, all, string(errURLMode)},
		{"a mode in two readings", "elicitation/create", `{"mode":"form","Mode":"url"}`, all, string(errAskUnclear)},
		{"a task", "elicitation/create", `{"message":"m","task":{"ttl":1}}`, all, string(errAskTask)},
		{"no params", "elicitation/create", ``, all, string(errAskUnclear)},
		{"a model", "sampling/createMessage", `{"messages":[],"maxTokens":1,"_meta":{"progressToken":1}}`, asksModel, `{"messages":[],"maxTokens":1}`},
		{"a model with the context of all servers", "sampling/createMessage", `{"messages":[],"includeContext":"allServers"}`, all, `{"messages":[]}`},
		{"a model with tools", "sampling/createMessage", `{"messages":[],"tools":[],"toolChoice":{}}`, all, `{"messages":[],"tools":[],"toolChoice":{}}`},
		{"a model with tools that were not declared", "sampling/createMessage", `{"messages":[],"tools":[]}`, asksModel, string(errAskTools)},
		{"roots", "roots/list", `{"_meta":{}}`, all, `{}`},
		{"roots that were not declared", "roots/list", ``, asksForm, string(errUndeclared)},
		{"a task's state", "tasks/get", `{}`, all, string(errUnknownAsk)},
		{"something else", "x/y", `{}`, all, string(errUnknownAsk)},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := c.declared.translate(c.method, []byte(c.params))
			if err != nil {
				require.Equal(t, c.want, err.Error())
				return
			}
			require.Equal(t, c.want, string(got.params))
		})
	}
}

func TestOlderClientsGetWhatTheirVersionKnows(t *testing.T) {
	for _, c := range []struct{ name, method, params, want string }{
		{
			"one block in a list", "sampling/createMessage",
			`{"messages":[{"role":"user","content":[{"type":"text","text":"a"}]},{"role":"user","content":{"type":"text"}}]}`,
			`{"messages":[{"role":"user","content":{"type":"text","text":"a"}},{"role":"user","content":{"type":"text"}}]}`,
		},
		{"two equal messages", "sampling/createMessage", `{"messages":[{"content":[{"a":1}]}, {"content":[{"a":1}]}]}`, `{"messages":[{"content":{"a":1}}, {"content":{"a":1}}]}`},
		{"two blocks", "sampling/createMessage", `{"messages":[{"content":[{},{}]}]}`, string(errOldContent)},
		{"no block", "sampling/createMessage", `{"messages":[{"content":[]}]}`, string(errOldContent)},
		{"no messages", "sampling/createMessage", `{"messages":7}`, string(errAskUnclear)},
		{"a plain form", "elicitation/create", `{"requestedSchema":{"properties":{"a":{"type":"string","enum":["x"]}}}}`, `{"requestedSchema":{"properties":{"a":{"type":"string","enum":["x"]}}}}`},
		{"several choices", "elicitation/create", `{"requestedSchema":{"properties":{"a":{"type":"array"}}}}`, string(errOldForm)},
		{"choices with titles", "elicitation/create", `{"requestedSchema":{"properties":{"a":{"type":"string","oneOf":[]}}}}`, string(errOldForm)},
		{"roots", "roots/list", `{}`, `{}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := question{method: c.method, params: []byte(c.params)}
			newest, err := q.forVersion("2025-11-25")
			require.NoError(t, err)
			require.Equal(t, c.params, string(newest.params))
			got, err := q.forVersion("2025-06-18")
			if err != nil {
				require.Equal(t, c.want, err.Error())
				return
			}
			require.Equal(t, c.want, string(got.params))
		})
	}
}

func FuzzQuestionsAreObjectsOrRefused(f *testing.F) {
	f.Add("elicitation/create", `{"mode":"form","message":"m"}`)
	f.Add("sampling/createMessage", `{"messages":[{"content":[{}]}],"includeContext":"none"}`)
	f.Fuzz(func(t *testing.T, method, params string) {
		q, err := (asksForm | asksModel | asksRoots).translate(method, []byte(params))
		if err == nil {
			q, err = q.forVersion("2025-06-18")
		}
		if err != nil {
			return
		}
		_, err = readObject(q.params, whole(q.params), "mode", "_meta", "tools")
		require.NoError(t, err)
		require.False(t, strings.Contains(string(q.params), `"includeContext"`) && method == "sampling/createMessage" && !strings.Contains(params[1:], `{`), q.params)
	})
}
