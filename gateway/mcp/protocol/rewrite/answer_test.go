package rewrite

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/jsonscan"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/names"
)

// prefixS is the prefix of the tests' server.
const prefixS = "mcp://s/"

func TestAnswerPrefixesResourcesAndKeepsEveryOtherByte(t *testing.T) {
	// In each message P marks where the prefix belongs.
	for name, marked := range map[string]string{
		"a link":                          `{"jsonrpc":"2.0","id":1.0,"result":{"content":[{"type":"resource_link","uri":"Pfile:///a","name":"uri"}],"x":12345678901234567890}}`,
		"a link with its type at the end": `{"result":{"content":[{"uri":"Pfile:///a","type":"resource_link"}]}}`,
		"an embedded resource":            `{"result":{"content":[{"type":"resource","resource":{"uri":"Pfile:///a","text":"{\"uri\":\"x\"}"}}]}}`,
		"its type at the end":             `{"result":{"content":[{"resource":{"uri":"Pfile:///a"},"type":"resource"}]}}`,
		"several":                         `{"result":{"content":[{"type":"resource_link","uri":"Pa"},{"type":"text","text":"x"}, {"type":"resource","resource":{"uri":"Pb"}}]}}`,
		"more than a few":                 `{"result":{"contents":[` + strings.Repeat(`{"uri":"Pa"},`, 40) + `{"uri":"P"}]}}`,
		"one block that is not a list":    `{"result":{"content":{"type":"resource_link","uri":"Pa"}}}`,
		"a prompt":                        `{"result":{"messages":[{"role":"user","content":{"type":"resource","resource":{"uri":"Pa"}}},{"role":"user","content":[{"type":"resource_link","uri":"Pb"}]}]}}`,
		"what was read":                   `{"result":{"contents":[{"uri":"Pfile:///a","blob":"AA=="},{"text":"x","uri" : "Pfile:///b" }]}}`,
		"keys and URIs in escapes":        `{"r\u0065sult":{"c\u006fntents":[{"ur\u0069":"P\u0066ile:///a"}]}}`,
		"a URI that has a prefix already": `{"result":{"contents":[{"uri":"Pmcp://other/file:///a"}]}}`,
		"an update":                       `{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"Pfile:///a","_meta":{"uri":"x"}}}`,
		"an update, params first":         `{"params":{"uri":"Pfile:///a"},"method":"notifications/resources/updat\u0065d"}`,
		"an acknowledgement":              `{"method":"notifications/subscriptions/acknowledged","params":{"notifications":{"toolsListChanged":true,"resourceSubscriptions":["Pa", "Pb",5]}}}`,
		"a resource that is not there":    `{"id":1,"error":{"code":-32602,"message":"Resource not found","data":{"uri":"Pfile:///a"}}}`,
		"one of an earlier version":       `{"id":1,"error":{"data":{"uri":"Pfile:///a"},"message":"uri","code":-32002}}`,

		"another error":                                             `{"error":{"code":-32603,"message":"m","data":{"uri":"file:///a"}}}`,
		"a text that looks like a link":                             `{"result":{"content":[{"type":"text","text":"{\"type\":\"resource_link\",\"uri\":\"a\"}"}]}}`,
		"a block of another type":                                   `{"result":{"content":[{"type":"image","uri":"a","resource":{"uri":"b"}}]}}`,
		"a link with a resource":                                    `{"result":{"content":[{"type":"resource_link","resource":{"uri":"b"}}]}}`,
		"a resource with a URI beside it":                           `{"result":{"content":[{"type":"resource","uri":"a"}]}}`,
		"a block without a type":                                    `{"result":{"content":[{"uri":"a"}]}}`,
		"a type that is not a string":                               `{"result":{"content":[{"type":["resource_link"],"uri":"a"}]}}`,
		"a URI that is not a string":                                `{"result":{"contents":[{"uri":["a"]},5,null,"uri"]}}`,
		"structured content":                                        `{"result":{"structuredContent":{"contents":[{"uri":"a"}],"URI":1,"uri":2,"uri":3}}}`,
		"a result that is not an object":                            `{"result":[{"contents":[{"uri":"a"}]}]}`,
		"a list":                                                    `{"result":{"resources":[{"uri":"a"}]}}`,
		"another notification":                                      `{"method":"notifications/message","params":{"uri":"a","data":{"contents":[{"uri":"b"}]}}}`,
		"a request of the server":                                   `{"id":1,"method":"sampling/createMessage","params":{"messages":[{"content":{"type":"resource","resource":{"uri":"a"}}}]}}`,
		"an update without params":                                  `{"method":"notifications/resources/updated"}`,
		"an update whose params are a string":                       `{"method":"notifications/resources/updated","params":"uri"}`,
		"a method that is not a string":                             `{"method":5,"params":{"uri":"a"}}`,
		"members that are there twice, which matter to nobody here": `{"id":1,"id":2,"result":{"x":1,"x":2}}`,
	} {
		t.Run(name, func(t *testing.T) {
			in := strings.ReplaceAll(marked, "P", "")
			got, err := Answer([]byte(in), "s")
			require.NoError(t, err)
			require.Equal(t, strings.ReplaceAll(marked, "P", prefixS), string(got))
			watched(t, []byte(in), got)
		})
	}
}

// watched makes sure that a message that has changed has one of the keys for which a reader of
// envelopes looks: without one, the message is not given to Answer at all.
func watched(t *testing.T, message, answer []byte) {
	t.Helper()
	scanner, err := jsonscan.New(message)
	require.NoError(t, err)
	scanner.Watch(envelope.NameKeys)
	require.NoError(t, scanner.Skip())
	require.True(t, scanner.Met() || bytes.Equal(message, answer), "%s becomes %s", message, answer)
}

func TestAnswerReturnsWhatHoldsNoResourceAsItIs(t *testing.T) {
	message := []byte(`{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"a"}]}}`)
	got, err := Answer(message, "s")
	require.NoError(t, err)
	require.Same(t, &message[0], &got[0])
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if _, err := Answer(message, "s"); err != nil {
			t.Fatal(err)
		}
	}))
}

func TestAnswerRefusesWhatItCannotBeSureOf(t *testing.T) {
	for name, message := range map[string]string{
		"nothing":                    ``,
		"no JSON":                    `contents`,
		"a batch":                    `[{"result":{"contents":[{"uri":"a"}]}}]`,
		"a second document":          `{"result":{}}{"result":{"contents":[{"uri":"a"}]}}`,
		"half a message":             `{"result":{"contents":[{"uri":"a"}`,
		"two results":                `{"result":{},"result":{"contents":[{"uri":"a"}]}}`,
		"a result in capitals":       `{"Result":{"contents":[{"uri":"a"}]}}`,
		"two contents":               `{"result":{"contents":[],"contents":[{"uri":"a"}]}}`,
		"contents with a long s":     `{"result":{"contentſ":[{"uri":"a"}]}}`,
		"two URIs":                   `{"result":{"contents":[{"uri":"a","uri":"b"}]}}`,
		"a URI in capitals":          `{"result":{"contents":[{"uri":"a","URI":"b"}]}}`,
		"a URI up to a NUL":          `{"result":{"contents":[{"uri\u0000x":"b"}]}}`,
		"two types":                  `{"result":{"content":[{"type":"text","type":"resource_link","uri":"a"}]}}`,
		"a type in capitals":         `{"result":{"content":[{"type":"text","TYPE":"resource_link","uri":"a"}]}}`,
		"two methods":                `{"method":"x","method":"notifications/resources/updated","params":{"uri":"a"}}`,
		"params in capitals":         `{"method":"notifications/resources/updated","Params":{"uri":"a"}}`,
		"two URIs of an update":      `{"method":"notifications/resources/updated","params":{"uri":"a","uri":"b"}}`,
		"two subscriptions":          `{"method":"notifications/subscriptions/acknowledged","params":{"notifications":{},"notifications":{}}}`,
		"two codes":                  `{"error":{"code":1,"code":-32002,"data":{"uri":"a"}}}`,
		"invalid UTF-8":              "{\"result\":{\"x\":\"\xff\"}}",
		"a key with half a pair":     `{"result":{"\ud800":1}}`,
		"deeper than anybody nests":  `{"result":` + strings.Repeat(`{"a":`, 300) + `1` + strings.Repeat(`}`, 301),
		"a control character inside": "{\"result\":{\"contents\":[{\"uri\":\"a\n\"}]}}",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Answer([]byte(message), "s")
			require.Error(t, err)
		})
	}
}

// FuzzAnswer compares forwarded answers with encoding/json, and with a second, slow search
// for the URIs to prefix.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"result":{"content":[{"type":"resource_link","uri":"a"},{"type":"resource","resource":{"uri":"b"}}]}}`))
	f.Add([]byte(`{"result":{"messages":[{"content":{"type":"resource","resource":{"uri":"b"}}}],"contents":[{"uri":"c"}]}}`))
	f.Add([]byte(`{"method":"notifications/resources/updated","params":{"uri":"a"}}`))
	f.Add([]byte(`{"method":"notifications/subscriptions/acknowledged","params":{"notifications":{"resourceSubscriptions":["a",1]}}}`))
	f.Add([]byte(`{"error":{"code":-32002,"data":{"uri":"a"}}}`))
	f.Add([]byte(`{"result":{"Content":[]},"x":1e5}`))
	f.Add([]byte(`{"result":{"contents":[{"uri":"ui://a"}],"_meta":{"ui":{"resourceUri":"ui:\/\/a"},"ui/resourceUri":"ui://b"}}}`))
	f.Add([]byte(`{"result":{"taskId":"a","task":{"taskId":"b"},"result":{"content":[{"type":"resource_link","uri":"c"}]}}}`))
	f.Add([]byte(`{"method":"notifications/tasks","params":{"taskId":"a","result":{"contents":[{"uri":"c"}]}}}`))
	f.Add([]byte(`{"id":1,"method":"elicitation/create","params":{"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"a"}}}}`))
	f.Fuzz(func(t *testing.T, message []byte) {
		if bytes.Contains(message, []byte(`\u`)) {
			return // the tests have examples: see uiScheme
		}
		got, err := Answer(message, "s")
		if err != nil {
			return
		}
		var want, have map[string]any
		if decode(message, &want) != nil || decode(got, &have) != nil {
			t.Fatalf("%q became %q", message, got)
		}
		prefixAll(want)
		if !reflect.DeepEqual(want, have) {
			t.Fatalf("%q became %q, not %v", message, got, want)
		}
	})
}

func decode(text []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	return d.Decode(into)
}

func prefixAll(message map[string]any) {
	prefixResult(member(message, "result"))
	failure := member(message, "error")
	if code, _ := failure["code"].(json.Number); code == "-32602" || code == "-32002" {
		prefixURI(failure["data"])
	}
	params := member(message, "params")
	switch message["method"] {
	case "notifications/resources/updated":
		prefixURI(params)
	case "notifications/subscriptions/acknowledged":
		n := member(params, "notifications")
		prefixStrings(n, "resourceSubscriptions", joined)
		prefixStrings(n, "taskIds", task)
	case "notifications/tasks", "notifications/tasks/status":
		prefixTask(params)
		prefixResult(member(params, "result"))
	default:
		prefixMeta(params) // if the message has the key without escapes
	}
}

func joined(uri string) string { return names.JoinURI("s", uri) }
func task(id string) string    { return "s__" + id }

func prefixResult(result map[string]any) {
	if result == nil {
		return
	}
	for _, block := range list(result, "content") {
		prefixBlock(block)
	}
	for _, content := range list(result, "contents") {
		prefixURI(content)
	}
	for _, m := range list(result, "messages") {
		for _, block := range list(m, "content") {
			prefixBlock(block)
		}
	}
	prefixMeta(result)
	prefixTask(result)
	prefixTask(member(result, "task"))
	prefixResult(member(result, "result"))
}

func prefixMeta(of map[string]any) {
	meta := member(of, "_meta")
	prefixTask(member(meta, "io.modelcontextprotocol/related-task"))
	prefixPage(member(meta, "ui"), "resourceUri")
	prefixPage(meta, "ui/resourceUri")
	prefixPage(meta, "openai/outputTemplate")
}

func prefixTask(of map[string]any) {
	if id, ok := of["taskId"].(string); ok {
		of["taskId"] = task(id)
	}
}

func prefixPage(of map[string]any, key string) {
	if uri, ok := of[key].(string); ok && names.IsUI(uri) {
		of[key] = joined(uri)
	}
}

func prefixStrings(of map[string]any, key string, prefixed func(string) string) {
	switch texts := of[key].(type) {
	case string:
		of[key] = prefixed(texts)
	case []any:
		for i := range texts {
			if text, ok := texts[i].(string); ok {
				texts[i] = prefixed(text)
			}
		}
	}
}

func prefixBlock(block any) {
	b, _ := block.(map[string]any)
	switch b["type"] {
	case "resource_link":
		prefixURI(b)
	case "resource":
		prefixURI(b["resource"])
	}
}

func prefixURI(in any) {
	if o, ok := in.(map[string]any); ok {
		if uri, ok := o["uri"].(string); ok {
			o["uri"] = joined(uri)
		}
	}
}

func member(of map[string]any, key string) map[string]any {
	m, _ := of[key].(map[string]any)
	return m
}

func list(of any, key string) []any {
	o, _ := of.(map[string]any)
	if l, ok := o[key].([]any); ok {
		return l
	}
	return []any{o[key]}
}

func BenchmarkAnswer(b *testing.B) {
	for name, message := range map[string]string{
		"a text of 64 KB": `{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"` + strings.Repeat("a line of text\\n", 4<<10) + `"}]}}`,
		"a short text":    `{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"3"}],"isError":false}}`,
		"a resource":      `{"jsonrpc":"2.0","id":1,"result":{"contents":[{"uri":"file:///a","text":"` + strings.Repeat("a line of text\\n", 64) + `"}]}}`,
	} {
		b.Run(name, func(b *testing.B) {
			text := []byte(message)
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Answer(text, "files"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
