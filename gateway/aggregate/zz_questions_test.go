package aggregate

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

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
