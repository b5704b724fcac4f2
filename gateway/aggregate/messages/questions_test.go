package messages

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWhatAClientCanBeAsked(t *testing.T) {
	for capabilities, want := range map[string]Questions{
		``:                                     0,
		`{}`:                                   0,
		`[]`:                                   0,
		`{"elicitation":{}}`:                   AsksForm,
		`{"elicitation":{"form":{}}}`:          AsksForm,
		`{"elicitation":{"form":{},"url":{}}}`: AsksForm,
		`{"elicitation":{"url":{}}}`:           0,
		`{"elicitation":true}`:                 0,
		`{"sampling":{}}`:                      AsksModel,
		`{"sampling":{"context":{}}}`:          AsksModel,
		`{"sampling":{"tools":{}}}`:            AsksModel | AsksTools,
		`{"roots":{"listChanged":true}}`:       AsksRoots,
		`{"roots":{},"Roots":{}}`:              0, // could be read in two ways
		`{"roots":{},"roots":{}}`:              0,
		`{"elicitation":{},"sampling":{"tools":{}},"roots":{},"x":{}}`: AsksForm | AsksModel | AsksTools | AsksRoots,
	} {
		require.Equal(t, want, QuestionsIn([]byte(capabilities)), capabilities)
	}
	for q := range Questions(16) {
		if q&AsksTools != 0 && q&AsksModel == 0 {
			continue
		}
		require.Equal(t, q, QuestionsIn(q.Capabilities()), "what is declared is read back: %s", q.Capabilities())
	}
}

func TestQuestionsAreTranslatedAsBothErasHaveThem(t *testing.T) {
	const all = AsksForm | AsksModel | AsksTools | AsksRoots
	for _, c := range []struct {
		name, method, params string
		declared             Questions
		want                 string // params, or an error
	}{
		{"a form", "elicitation/create", `{"message":"m","mode":"form","requestedSchema":{}}`, all, `{"message":"m","requestedSchema":{}}`},
		{"a form without a mode", "elicitation/create", `{"message":"m"}`, all, `{"message":"m"}`},
		{"a form that was not declared", "elicitation/create", `{"message":"m"}`, all &^ AsksForm, string(ErrUndeclared)},
		{"an URL", "elicitation/create", `{"mode":"url","url":"https://x","message":"m","elicitationId":"1"}`, all, string(ErrURLMode)},
		{"a mode of a later version", "elicitation/create", `{"mode":7}`, all, string(ErrURLMode)},
		{"a mode in two readings", "elicitation/create", `{"mode":"form","Mode":"url"}`, all, string(ErrAskUnclear)},
		{"a task", "elicitation/create", `{"message":"m","task":{"ttl":1}}`, all, string(ErrAskTask)},
		{"no params", "elicitation/create", ``, all, string(ErrAskUnclear)},
		{"a model", "sampling/createMessage", `{"messages":[],"maxTokens":1,"_meta":{"progressToken":1}}`, AsksModel, `{"messages":[],"maxTokens":1}`},
		{"a model with the context of all servers", "sampling/createMessage", `{"messages":[],"includeContext":"allServers"}`, all, `{"messages":[]}`},
		{"a model with tools", "sampling/createMessage", `{"messages":[],"tools":[],"toolChoice":{}}`, all, `{"messages":[],"tools":[],"toolChoice":{}}`},
		{"a model with tools that were not declared", "sampling/createMessage", `{"messages":[],"tools":[]}`, AsksModel, string(ErrAskTools)},
		{"roots", "roots/list", `{"_meta":{}}`, all, `{}`},
		{"roots that were not declared", "roots/list", ``, AsksForm, string(ErrUndeclared)},
		{"a task's state", "tasks/get", `{}`, all, string(ErrUnknownAsk)},
		{"something else", "x/y", `{}`, all, string(ErrUnknownAsk)},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := c.declared.Translate(c.method, []byte(c.params))
			if err != nil {
				require.Equal(t, c.want, err.Error())
				return
			}
			require.Equal(t, c.want, string(got.Params))
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
		{"two blocks", "sampling/createMessage", `{"messages":[{"content":[{},{}]}]}`, string(ErrOldContent)},
		{"no block", "sampling/createMessage", `{"messages":[{"content":[]}]}`, string(ErrOldContent)},
		{"no messages", "sampling/createMessage", `{"messages":7}`, string(ErrAskUnclear)},
		{"a plain form", "elicitation/create", `{"requestedSchema":{"properties":{"a":{"type":"string","enum":["x"]}}}}`, `{"requestedSchema":{"properties":{"a":{"type":"string","enum":["x"]}}}}`},
		{"several choices", "elicitation/create", `{"requestedSchema":{"properties":{"a":{"type":"array"}}}}`, string(ErrOldForm)},
		{"choices with titles", "elicitation/create", `{"requestedSchema":{"properties":{"a":{"type":"string","oneOf":[]}}}}`, string(ErrOldForm)},
		{"roots", "roots/list", `{}`, `{}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := Question{Method: c.method, Params: []byte(c.params)}
			newest, err := q.ForVersion("2025-11-25")
			require.NoError(t, err)
			require.Equal(t, c.params, string(newest.Params))
			got, err := q.ForVersion("2025-06-18")
			if err != nil {
				require.Equal(t, c.want, err.Error())
				return
			}
			require.Equal(t, c.want, string(got.Params))
		})
	}
}

func FuzzQuestionsAreObjectsOrRefused(f *testing.F) {
	f.Add("elicitation/create", `{"mode":"form","message":"m"}`)
	f.Add("sampling/createMessage", `{"messages":[{"content":[{}]}],"includeContext":"none"}`)
	f.Fuzz(func(t *testing.T, method, params string) {
		q, err := (AsksForm | AsksModel | AsksRoots).Translate(method, []byte(params))
		if err == nil {
			q, err = q.ForVersion("2025-06-18")
		}
		if err != nil {
			return
		}
		_, err = ReadObject(q.Params, Whole(q.Params), "mode", "_meta", "tools")
		require.NoError(t, err)
		require.False(t, strings.Contains(string(q.Params), `"includeContext"`) && method == "sampling/createMessage" && !strings.Contains(params[1:], `{`), q.Params)
	})
}
