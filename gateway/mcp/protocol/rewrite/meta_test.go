package rewrite

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// marked returns a server's message and what the client gets. In the text <u> stands where
// the server's name goes into the URI of a page, <t> where it goes before the id of a task,
// and <p> before another URI.
func marked(text string) (in, want string) {
	return strings.NewReplacer("<u>", "", "<t>", "", "<p>", "").Replace(text),
		strings.NewReplacer("<u>", "s/", "<t>", "s__", "<p>", "mcp://s/").Replace(text)
}

func TestAnswerNamesPagesAndTasks(t *testing.T) {
	for name, text := range map[string]string{
		"a page that was read":                `{"result":{"contents":[{"uri":"ui://<u>get-time/app.html","text":"ui://x"}]}}`,
		"a page whose slashes are escapes":    `{"result":{"contents":[{"uri":"ui:\/\/<u>get-time\/app.html"}]}}`,
		"a page in a letter's escape":         `{"result":{"contents":[{"uri":"<p>\u0075i://get-time"}]}}`,
		"a scheme in capitals":                `{"result":{"contents":[{"uri":"<p>UI://a"}]}}`,
		"a scheme alone":                      `{"result":{"contents":[{"uri":"<p>ui://"}]}}`,
		"a page in a tool's answer":           `{"result":{"content":[{"type":"resource","resource":{"uri":"ui://<u>a"}}]}}`,
		"the page of an answer":               `{"result":{"content":[],"_meta":{"ui":{"resourceUri":"ui://<u>a","x":"ui://b"},"UI":1,"ui://c":"ui://d"}}}`,
		"the page under an older key":         `{"result":{"_meta":{"ui/resourceUri":"ui://<u>a"}}}`,
		"the page for ChatGPT":                `{"result":{"_meta":{"openai/outputTemplate":"ui://<u>a"}}}`,
		"a page of another scheme":            `{"result":{"_meta":{"ui":{"resourceUri":"https://a"},"ui/resourceUri":5}}}`,
		"a page that is twice there":          `{"result":{"_meta":{"ui/resourceUri":"ui://<u>a","ui/resourceUri":"ui://<u>b"}}}`,
		"an update of a page":                 `{"method":"notifications/resources/updated","params":{"uri":"ui://<u>a"}}`,
		"a new task of 2025-11-25":            `{"result":{"task":{"taskId":"<t>a","status":"working"}}}`,
		"a new task of 2026-07-28":            `{"result":{"resultType":"task","taskId":"<t>a"}}`,
		"the status of a task":                `{"result":{"status":"working","taskId":"<t>a"}}`,
		"a task that is complete":             `{"result":{"taskId":"<t>a","result":{"content":[{"type":"resource_link","uri":"<p>b"}],"taskId":5}}}`,
		"the result of a task":                `{"result":{"content":[],"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"<t>a"}}}}`,
		"a task's question":                   `{"id":1,"method":"elicitation/create","params":{"message":"m","_meta":{"io.modelcontextprotocol/related-task":{"taskId":"<t>a"}}}}`,
		"a task's progress":                   `{"method":"notifications/progress","params":{"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"<t>a"}}}}`,
		"a change of a task of 2025-11-25":    `{"method":"notifications/tasks/status","params":{"taskId":"<t>a","status":"working"}}`,
		"a change of a task of 2026-07-28":    `{"method":"notifications/tasks","params":{"taskId":"<t>a","result":{"content":[{"type":"resource_link","uri":"ui://<u>b"}]}}}`,
		"tasks whose changes are sent":        `{"method":"notifications/subscriptions/acknowledged","params":{"notifications":{"taskIds":["<t>a","<t>b",5]}}}`,
		"a server's request about the client": `{"id":1,"method":"tasks/get","params":{"taskId":"a"}}`,
		"a task in structured content":        `{"result":{"structuredContent":{"taskId":"a","task":{"taskId":"b"},"_meta":{"ui/resourceUri":"ui://c"}}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			in, want := marked(text)
			got, err := Answer([]byte(in), "s")
			require.NoError(t, err)
			require.Equal(t, want, string(got))
		})
	}
}

func TestReadPageNamesPagesOfTools(t *testing.T) {
	tests := map[string]struct {
		kind        Kind
		entry, want string
		name        string
	}{
		"a tool with a page":              {Tools, `{"name":"a","_meta":{"ui":{"resourceUri":"ui://x","visibility":["app"]}}}`, `{"name":"s__a","_meta":{"ui":{"resourceUri":"ui://s/x","visibility":["app"]}}}`, "a"},
		"a tool with its name at the end": {Tools, `{"_meta":{"ui/resourceUri":"ui:\/\/x","openai/outputTemplate":"ui://y"},"name":"a"}`, `{"_meta":{"ui/resourceUri":"ui:\/\/s/x","openai/outputTemplate":"ui://s/y"},"name":"s__a"}`, "a"},
		"a tool whose name has escapes":   {Tools, `{"name":"\u0061","_meta":{"ui":{"resourceUri":"ui://x"}}}`, `{"name":"s__\u0061","_meta":{"ui":{"resourceUri":"ui://s/x"}}}`, "a"},
		"a tool without a page":           {Tools, `{"name":"a","_meta":{"ui":{"visibility":["app"]},"UI":"ui://x"}}`, `{"name":"s__a","_meta":{"ui":{"visibility":["app"]},"UI":"ui://x"}}`, "a"},
		"a page":                          {Resources, `{"uri":"ui://x","_meta":{"ui":{"csp":{}}}}`, `{"uri":"ui://s/x","_meta":{"ui":{"csp":{}}}}`, "ui://x"},
		"a page with escapes":             {Resources, `{"uri":"ui:\/\/x"}`, `{"uri":"ui:\/\/s/x"}`, "ui://x"},
		"a template of pages":             {Templates, `{"uriTemplate":"ui://{x}"}`, `{"uriTemplate":"ui://s/{x}"}`, "ui://{x}"},
		"a task":                          {Tasks, `{"taskId":"a__b c","status":"working"}`, `{"taskId":"s__a__b c","status":"working"}`, "a__b c"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			page, err := ReadPage(test.kind, "s", []byte(`{"result":{"`+test.kind.Member()+`":[`+test.entry+`]}}`))
			require.NoError(t, err)
			require.Equal(t, []Entry{{Name: test.name, JSON: test.want}}, page.Entries)
		})
	}
}
