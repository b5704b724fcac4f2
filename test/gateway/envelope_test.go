package gateway

import (
	"net/http"
	"strings"
	"testing"

	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/stage"
)

// ambiguous are bodies that call the tool "divide", which the client may not
// call, in the eyes of one parser or another. The first of each two words of a
// name says whether the gateway sees the tool or the text around it.
var ambiguous = map[string]string{
	"the name twice":                             `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add","name":"divide","arguments":{"a":1,"b":2}}}`,
	"the name twice, the other way round":        `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"divide","name":"add","arguments":{"a":1,"b":2}}}`,
	"the name in other letters after it":         `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"divide","NAME":"add","arguments":{"a":1,"b":2}}}`,
	"the name in other letters before it":        `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"Name":"divide","name":"add","arguments":{"a":1,"b":2}}}`,
	"the name with an escape":                    `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add","n\u0061me":"divide","arguments":{"a":1,"b":2}}}`,
	"the name with a NUL behind it":              `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add","name\u0000":"divide","arguments":{"a":1,"b":2}}}`,
	"a value with a NUL behind it":               `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add","arguments":{"a":1,"b":2}},"method\u0000":"x"}`,
	"the parameters twice":                       `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add"},"params":{"name":"divide"}}`,
	"the parameters in other letters":            `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"divide"},"Params":{"name":"add"}}`,
	"the parameters with a letter that folds":    `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"divide"},"paramſ":{"name":"add"}}`,
	"the method twice":                           `{"jsonrpc":"2.0","id":1,"method":"tools/list","method":"tools/call","params":{"name":"divide"}}`,
	"the method in other letters":                `{"jsonrpc":"2.0","id":1,"method":"tools/call","METHOD":"ping","params":{"name":"divide"}}`,
	"the id twice":                               `{"jsonrpc":"2.0","id":1,"id":2,"method":"tools/call","params":{"name":"add"}}`,
	"the id in other letters":                    `{"jsonrpc":"2.0","id":1,"ID":2,"method":"tools/call","params":{"name":"add"}}`,
	"the version of JSON-RPC twice":              `{"jsonrpc":"2.0","jsonrpc":"2.0","id":1,"method":"ping"}`,
	"another version of JSON-RPC":                `{"jsonrpc":"1.0","id":1,"method":"tools/call","params":{"name":"divide"}}`,
	"no version of JSON-RPC":                     `{"id":1,"method":"tools/call","params":{"name":"divide"}}`,
	"a batch":                                    `[{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"divide","arguments":{"a":1,"b":2}}}]`,
	"an empty batch":                             `[]`,
	"a second message behind it":                 `{"jsonrpc":"2.0","id":1,"method":"ping"}{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"divide"}}`,
	"a second message on a line of its own":      "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"tools/call\",\"params\":{\"name\":\"divide\"}}",
	"something behind it":                        `{"jsonrpc":"2.0","id":1,"method":"ping"} x`,
	"a NUL behind it":                            "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\x00",
	"a byte order mark before it":                "\ufeff" + `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"divide"}}`,
	"bytes that are not UTF-8 in the name":       "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"divide\xff\"}}",
	"bytes that are not UTF-8 in a key":          "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"divide\",\"n\xff\":1}}",
	"half a surrogate pair in the name":          `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"divide\ud800"}}`,
	"UTF-16":                                     "\xff\xfe{\x00}\x00",
	"a comment":                                  `{"jsonrpc":"2.0","id":1,"method":"tools/call",/*"params":{"name":"add"}*/"params":{"name":"divide"}}`,
	"a trailing comma":                           `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"divide",}}`,
	"a raw line end in the name":                 "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"divide\n\"}}",
	"quotes of another kind":                     `{'jsonrpc':'2.0','id':1,'method':'tools/call','params':{'name':'divide'}}`,
	"a name that is a number":                    `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":5}}`,
	"a name that is a list":                      `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":["divide"]}}`,
	"a name that is null":                        `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":null}}`,
	"no name":                                    `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{}}`,
	"no parameters":                              `{"jsonrpc":"2.0","id":1,"method":"tools/call"}`,
	"parameters that are a list":                 `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":["divide"]}`,
	"parameters that are a string":               `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":"divide"}`,
	"a method that is not a string":              `{"jsonrpc":"2.0","id":1,"method":["tools/call"],"params":{"name":"divide"}}`,
	"a request that is a response as well":       `{"jsonrpc":"2.0","id":1,"method":"tools/call","result":{},"params":{"name":"divide"}}`,
	"an id that is a list":                       `{"jsonrpc":"2.0","id":[1],"method":"tools/call","params":{"name":"divide"}}`,
	"nothing":                                    ``,
	"null":                                       `null`,
	"a string":                                   `"tools/call"`,
	"half a message":                             `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"divide"`,
	"a message without end":                      strings.Repeat(`{"params":`, 100_000),
	"the meta data twice":                        `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add","_meta":{},"_meta":{"progressToken":1}}}`,
	"the reference of a completion twice":        `{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"ref":{"type":"ref/prompt","name":"a","name":"b"},"argument":{"name":"x","value":"y"}}}`,
	"the address of a resource twice":            `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"a:b","uri":"a:c"}}`,
	"the address of a resource in other letters": `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"a:b","URI":"a:c"}}`,
}

func TestMessageThatCanBeReadInTwoWaysIsRefused(t *testing.T) {
	s := stage.New(t, harness.GatewayOptions{})
	s.Everywhere(func(s *stage.Stage) {
		t := s.T
		for rules, more := range map[string]harness.Map{
			"with a denied tool":   {"denied_tools": stage.Calculator + "/divide"},
			"with an allowed tool": {"allowed_tools": stage.Calculator + "/add"},
			"without tool rules":   {},
		} {
			token := s.Client("c-"+strings.ReplaceAll(rules, " ", "-"), more)
			s.Works(t, token)
			for name, body := range ambiguous {
				t.Run(rules+", "+name, func(t *testing.T) {
					s := s.In(t)
					s.Forget()
					if r := s.PostMessage(t, token, body); r.Status != http.StatusBadRequest {
						t.Errorf("answered %d: %s", r.Status, r.Body)
					}
					s.Untouched(t)
				})
			}
		}
	})
}

func TestDeniedToolIsNeverCalled(t *testing.T) {
	s := stage.New(t, harness.GatewayOptions{})
	s.Everywhere(func(s *stage.Stage) {
		t := s.T
		tokens := map[string]string{
			"denied by name":       s.Client("a", harness.Map{"denied_tools": stage.Calculator + "/divide"}),
			"denied by a wildcard": s.Client("b", harness.Map{"denied_tools": "*/div*"}),
			"not among those allowed": s.Client("c", harness.Map{
				"allowed_tools": stage.Calculator + "/add," + stage.Forbidden + "/divide",
			}),
		}
		call := func(params string) string {
			return `{"jsonrpc":"2.0","id":"x-1","method":"tools/call","params":{` + params + `}}`
		}
		bodies := map[string]string{
			"called":                            call(`"name":"divide","arguments":{"a":1,"b":2}`),
			"called beside other parameters":    call(`"name":"divide","uri":5,"arguments":{"a":1,"b":2}`),
			"called with escapes in its name":   call(`"name":"d\u0069vide","arguments":{"a":1,"b":2}`),
			"called with escapes in the key":    call(`"n\u0061me":"divide","arguments":{"a":1,"b":2}`),
			"named after its arguments":         call(`"arguments":{"name":"add","a":1,"b":2},"name":"divide"`),
			"called in a message in odd order":  `{"params":{"name":"divide"},"id":"x-1","method":"tools/call","jsonrpc":"2.0"}`,
			"called with white space around it": " \r\n\t" + call(`"name" : "divide"`) + " \r\n",
		}
		for how, token := range tokens {
			s.Works(t, token)
			for what, body := range bodies {
				t.Run(how+", "+what, func(t *testing.T) {
					s := s.In(t)
					s.Forget()
					r := s.PostMessage(t, token, body)
					if r.Status != http.StatusOK || !strings.Contains(r.Body, `"code":-32602`) || !strings.Contains(r.Body, `"id":"x-1"`) {
						t.Errorf("answered %d: %s", r.Status, r.Body)
					}
					s.Untouched(t)
				})
			}
			t.Run(how+", called in the stateless era", func(t *testing.T) {
				s := s.In(t)
				s.Forget()
				r := s.Call(s.URL(stage.Calculator), token, s.At.Tool(stage.Calculator, "divide"), `{"a":1,"b":2}`)
				if r.Status != http.StatusOK || !strings.Contains(r.Body, `"code":-32602`) {
					t.Errorf("answered %d: %s", r.Status, r.Body)
				}
				s.Untouched(t)
			})
			t.Run(how+", called in a notification", func(t *testing.T) {
				s := s.In(t)
				s.Forget()
				r := s.PostMessage(t, token, `{"jsonrpc":"2.0","method":"tools/call","params":{"name":"divide"}}`)
				if r.Status != http.StatusAccepted || r.Body != "" {
					t.Errorf("answered %d: %s", r.Status, r.Body)
				}
				s.Untouched(t)
			})
			t.Run(how+", called by an unknown method", func(t *testing.T) {
				s := s.In(t)
				s.Forget()
				for _, method := range []string{"tools/Call", "tools/call ", "tools\\/call/", "TOOLS/CALL", "tools/call\\u0000", "vendor/call"} {
					r := s.PostMessage(t, token, `{"jsonrpc":"2.0","id":1,"method":"`+method+`","params":{"name":"divide"}}`)
					if !strings.Contains(r.Body, `"error"`) {
						t.Errorf("%q: answered %d: %s", method, r.Status, r.Body)
					}
				}
				s.Untouched(t)
			})
		}
	})
}

func TestHeadersMustAgreeWithTheBody(t *testing.T) {
	s := stage.New(t, harness.GatewayOptions{})
	s.Everywhere(func(s *stage.Stage) {
		t := s.T
		token := s.Client("cursor", harness.Map{"denied_tools": stage.Calculator + "/divide"})
		s.Works(t, token)
		tests := map[string]struct {
			body    string // of a call to the tool of that name
			headers map[string]string
		}{
			"another tool in the header":             {"divide", map[string]string{"Mcp-Name": "add"}},
			"another tool in the body":               {"add", map[string]string{"Mcp-Name": "divide"}},
			"another tool in an encoded header":      {"divide", map[string]string{"Mcp-Name": "=?base64?YWRk?="}},
			"a header in broken base64":              {"add", map[string]string{"Mcp-Name": "=?base64?%%%?="}},
			"another method in the header":           {"divide", map[string]string{"Mcp-Method": "tools/list", "Mcp-Name": ""}},
			"a method in other letters":              {"divide", map[string]string{"Mcp-Method": "Tools/Call"}},
			"no method in the headers":               {"add", map[string]string{"Mcp-Method": ""}},
			"no name in the headers":                 {"add", map[string]string{"Mcp-Name": ""}},
			"another version in the header":          {"add", map[string]string{"Mcp-Protocol-Version": "2026-07-29"}},
			"an invalid version":                     {"add", map[string]string{"Mcp-Protocol-Version": "yesterday"}},
			"a body that is said to be text":         {"add", map[string]string{"Content-Type": "text/plain"}},
			"a body that is said to be form data":    {"add", map[string]string{"Content-Type": "application/x-www-form-urlencoded"}},
			"a body of no said type":                 {"add", map[string]string{"Content-Type": ""}},
			"a body in another character set":        {"add", map[string]string{"Content-Type": "application/json; charset=utf-16"}},
			"a body that is said to be compressed":   {"add", map[string]string{"Content-Encoding": "gzip"}},
			"a body that is said to be JSON, or not": {"add", map[string]string{"Content-Type": "application/json, text/plain"}},
		}
		for name, test := range tests {
			t.Run(name, func(t *testing.T) {
				s := s.In(t)
				s.Forget()
				header := http.Header{
					"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"},
					"Mcp-Protocol-Version": {harness.StatelessEra}, "Mcp-Method": {"tools/call"}, "Mcp-Name": {test.body},
				}
				for key, value := range test.headers {
					if value == "" {
						delete(header, key)
					} else {
						header[key] = []string{value}
					}
				}
				r := s.Do(http.MethodPost, s.URL(stage.Calculator), token, header, harness.CallBody(test.body, `{"a":1,"b":2}`))
				if r.Status != http.StatusBadRequest && r.Status != http.StatusUnsupportedMediaType {
					t.Errorf("answered %d: %s", r.Status, r.Body)
				}
				s.Untouched(t)
			})
		}
	})
}

func TestMessageThatIsAcceptedGoesOnAsItCame(t *testing.T) {
	s := stage.New(t, harness.GatewayOptions{})
	s.Everywhere(func(s *stage.Stage) {
		t := s.T
		token := s.Client("cursor", harness.Map{"denied_tools": stage.Calculator + "/divide"})
		s.Works(t, token)
		s.Forget()
		body := "\n{ \"id\" : 1e0,\"params\":{\"name\":\"\\u0061dd\",\"arguments\":{\"b\":2,\"a\":12345678901234567890,\"a2\":1.50,\"é\":\"\\u00e9\"}},\t\"method\":\"tools\\/call\", \"jsonrpc\":\"2.0\" }\r\n"
		s.PostMessage(t, token, body)
		requests := s.Received()
		if len(requests) != 1 || string(requests[0].Body) != body {
			t.Errorf("the server was sent %q", requests)
		}
	})
}
