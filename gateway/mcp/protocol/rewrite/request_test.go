package rewrite

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
)

func request(method, params string) string {
	return `{ "jsonrpc":"2.0","params":` + params + `,"id" : 12345678901234567890, "method":"` + method + `" }`
}

func TestRequestsReachTheServerWithItsOwnNamesAndEveryOtherByte(t *testing.T) {
	tests := map[string]struct{ method, in, want, server, name string }{
		"a tool": {
			"tools/call", `{"name" : "calc__add" ,"arguments":{"name":"calc__add","big":1.10}}`,
			`{"name" : "add" ,"arguments":{"name":"calc__add","big":1.10}}`, "calc", "add",
		},
		"a tool with the separator in its name": {"tools/call", `{"name":"a__b__c"}`, `{"name":"b__c"}`, "a", "b__c"},
		"a tool with escapes in its name":       {"tools/call", `{"name":"calc__\u0061dd"}`, `{"name":"\u0061dd"}`, "calc", "add"},
		"a tool with escapes in its prefix":     {"tools/call", `{"name":"c\u0061lc__add"}`, `{"name":"add"}`, "calc", "add"},
		"a key in escapes":                      {"tools/call", `{"n\u0061me":"calc__add"}`, `{"n\u0061me":"add"}`, "calc", "add"},
		"a prompt":                              {"prompts/get", `{"name":"calc__p","arguments":{}}`, `{"name":"p","arguments":{}}`, "calc", "p"},
		"a resource": {
			"resources/read", `{"uri":"mcp://files/file:///a%20b?c#d","_meta":{"uri":"x"}}`,
			`{"uri":"file:///a%20b?c#d","_meta":{"uri":"x"}}`, "files", "file:///a%20b?c#d",
		},
		"a resource with its slashes escaped":      {"resources/read", `{"uri":"mcp:\/\/files\/file:\/\/\/a"}`, `{"uri":"file:///a"}`, "files", "file:///a"},
		"a resource in MCPJungle's form":           {"resources/read", `{"uri":"mcpj://res/files/ZmlsZTovLy9h"}`, `{"uri":"file:///a"}`, "files", "file:///a"},
		"a resource whose URI has our own form":    {"resources/read", `{"uri":"mcp://a/mcp://b/c"}`, `{"uri":"mcp://b/c"}`, "a", "mcp://b/c"},
		"a subscription":                           {"resources/subscribe", `{"uri":"mcp://files/file:///a"}`, `{"uri":"file:///a"}`, "files", "file:///a"},
		"the end of a subscription":                {"resources/unsubscribe", `{"uri":"mcp://files/file:///a"}`, `{"uri":"file:///a"}`, "files", "file:///a"},
		"a completion of a prompt's argument":      {"completion/complete", `{"ref":{"type":"ref/prompt","name":"calc__p"},"argument":{"name":"x__y"}}`, `{"ref":{"type":"ref/prompt","name":"p"},"argument":{"name":"x__y"}}`, "calc", "p"},
		"a completion of a resource template":      {"completion/complete", `{"ref":{"uri":"mcp://files/file:///{path}","type":"ref/resource"}}`, `{"ref":{"uri":"file:///{path}","type":"ref/resource"}}`, "files", "file:///{path}"},
		"a call with a URI beside its name":        {"tools/call", `{"uri":"mcp://files/file:///a","name":"calc__add"}`, `{"uri":"mcp://files/file:///a","name":"add"}`, "calc", "add"},
		"a page of an app":                         {"resources/read", `{"uri":"ui://clock/get-time/app.html"}`, `{"uri":"ui://get-time/app.html"}`, "clock", "ui://get-time/app.html"},
		"a page of an app with slashes in escapes": {"resources/read", `{"uri":"ui:\/\/clock\/app"}`, `{"uri":"ui://app"}`, "clock", "ui://app"},
		"a page that a template has named":         {"resources/read", `{"uri":"mcp://clock/ui://app"}`, `{"uri":"ui://app"}`, "clock", "ui://app"},
		"the status of a task":                     {"tasks/get", `{"taskId":"jobs__x_y-z"}`, `{"taskId":"x_y-z"}`, "jobs", "x_y-z"},
		"the result of a task":                     {"tasks/result", `{"x":1,"taskId" : "jobs__x__y"}`, `{"x":1,"taskId" : "x__y"}`, "jobs", "x__y"},
		"the input for a task":                     {"tasks/update", `{"taskId":"jobs__x","inputResponses":{"taskId":{"a":1}}}`, `{"taskId":"x","inputResponses":{"taskId":{"a":1}}}`, "jobs", "x"},
		"the end of a task":                        {"tasks/cancel", `{"taskId":"j\u006fbs__x"}`, `{"taskId":"x"}`, "jobs", "x"},
		"a resource with quotes in MCPJungle form": {"resources/read", `{"uri":"mcpj://res/files/YToiYg"}`, `{"uri":"a:\"b"}`, "files", `a:"b`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			message := []byte(request(test.method, test.in))
			e, err := envelope.Parse(message)
			require.NoError(t, err)
			target, err := Find(&e, message)
			require.NoError(t, err)
			require.Equal(t, []string{test.server, test.name}, []string{target.Server, target.Name})
			require.Equal(t, "> "+request(test.method, test.want), string(envelope.Replace([]byte("> "), message, target.Part)))
			sent, err := envelope.Parse(envelope.Replace(nil, message, target.Part))
			require.NoError(t, err)
			require.Equal(t, sent, target.Edited(&e))
		})
	}
}

func TestRequestsForNothingOfAnyServer(t *testing.T) {
	tests := map[string]struct{ method, params string }{
		"a tool without a server":             {"tools/call", `{"name":"add"}`},
		"a tool with a slash":                 {"tools/call", `{"name":"calc/add"}`},
		"a tool with an empty name":           {"tools/call", `{"name":"calc__"}`},
		"a prompt named by a URI":             {"prompts/get", `{"name":"mcp://calc/p"}`},
		"a resource of a server's own":        {"resources/read", `{"uri":"file:///a"}`},
		"a resource named like a tool":        {"resources/read", `{"uri":"files__a"}`},
		"a subscription without a URI":        {"resources/subscribe", `{}`},
		"a subscription to a number":          {"resources/subscribe", `{"uri":5}`},
		"a subscription with half a pair":     {"resources/subscribe", `{"uri":"mcp://files/\ud800"}`},
		"a completion of nothing":             {"completion/complete", `{}`},
		"a completion of two things":          {"completion/complete", `{"ref":{"type":"ref/prompt","name":"a__p","uri":"mcp://b/c"}}`},
		"a completion with a name for a URI":  {"completion/complete", `{"ref":{"type":"ref/resource","uri":"a__b"}}`},
		"a method that names nothing":         {"logging/setLevel", `{"name":"calc__add","uri":"mcp://files/a"}`},
		"a method that nobody knows":          {"vendor/x", `{"name":"calc__add"}`},
		"a task without a server":             {"tasks/get", `{"taskId":"x"}`},
		"a task without an id":                {"tasks/get", `{}`},
		"a task whose id is a number":         {"tasks/get", `{"taskId":5}`},
		"a list of tasks":                     {"tasks/list", `{"taskId":"jobs__x"}`},
		"a method of tasks that nobody knows": {"tasks/x", `{"taskId":"jobs__x"}`},
		"a list":                              {"tools/list", `{"name":"calc__add"}`},
		"a notification of a server's method": {"notifications/resources/updated", `{"uri":"mcp://files/a"}`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			message := []byte(request(test.method, test.params))
			e, err := envelope.Parse(message)
			require.NoError(t, err)
			_, err = Find(&e, message)
			require.ErrorIs(t, err, ErrNoTarget)
		})
	}
}

// FuzzRequests checks the message for the server with encoding/json: it names the target
// that the gateway decided on, under any reading of the keys, and is otherwise unchanged.
func FuzzRequests(f *testing.F) {
	f.Add([]byte(request("tools/call", `{"name":"calc__add","arguments":{}}`)))
	f.Add([]byte(request("prompts/get", `{"name":"c\u0061lc__add"}`)))
	f.Add([]byte(request("resources/read", `{"uri":"mcp://files/file:///a"}`)))
	f.Add([]byte(request("resources/subscribe", `{"uri":"mcpj://res/files/ZmlsZTovLy9h"}`)))
	f.Add([]byte(request("completion/complete", `{"ref":{"type":"ref/prompt","name":"calc__p"}}`)))
	f.Add([]byte(request("completion/complete", `{"ref":{"type":"ref/resource","uri":"mcp://a/b"}}`)))
	f.Fuzz(func(t *testing.T, message []byte) {
		e, err := envelope.Parse(message)
		if err != nil {
			return
		}
		target, err := Find(&e, message)
		if err != nil {
			return
		}
		sent := envelope.Replace(nil, message, target.Part)
		again, err := envelope.Parse(sent)
		if err != nil {
			t.Fatalf("%q became %q, which is refused: %v", message, sent, err)
		}
		if edited := target.Edited(&e); edited != again {
			t.Fatalf("%q became %q, which says %+v and not %+v", message, sent, again, edited)
		}
		if e.Name != "" && again.Name != target.Name {
			t.Fatalf("%q became %q, which names %q and not %q", message, sent, again.Name, target.Name)
		}
		var byCase struct {
			Params struct {
				Name, URI string
				Ref       struct{ Name, URI string }
			}
		}
		_ = json.Unmarshal(sent, &byCase) // members of other types are another method's
		p := byCase.Params
		if p.Name != target.Name && p.URI != target.Name && p.Ref.Name != target.Name && p.Ref.URI != target.Name {
			t.Fatalf("%q became %q, which does not name %q", message, sent, target.Name)
		}
	})
}
