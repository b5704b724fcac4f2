package rewrite

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/mcp/protocol/names"
)

func tools(entries string) []byte {
	return []byte(`{"jsonrpc":"2.0","id":1,"result":{"tools":[` + entries + `]}}`)
}

func TestReadPageNamesEntriesAndKeepsEveryOtherByte(t *testing.T) {
	tests := map[string]struct {
		kind Kind
		in   string
		want []Entry
	}{
		"tools": {
			Tools, `{"result":{"tools":[{"name":"add","inputSchema":{"name":"x","maximum":12345678901234567890}}, {"title":"T" , "name" : "sub"}]}}`,
			[]Entry{
				{"add", `{"name":"calc__add","inputSchema":{"name":"x","maximum":12345678901234567890}}`},
				{"sub", `{"title":"T" , "name" : "calc__sub"}`},
			},
		},
		"a name in escapes": {Tools, `{"result":{"tools":[{"n\u0061me":"\u0061dd"}]}}`, []Entry{{"add", `{"n\u0061me":"calc__\u0061dd"}`}}},
		"prompts":           {Prompts, `{"result":{"prompts":[{"name":"p","arguments":[{"name":"a"}]}]}}`, []Entry{{"p", `{"name":"calc__p","arguments":[{"name":"a"}]}`}}},
		"resources": {
			Resources, `{"result":{"resources":[{"uri":"file:///a b","name":"a"},{"uri":"mcp:\/\/x\/y"}]}}`,
			[]Entry{{"file:///a b", `{"uri":"mcp://calc/file:///a b","name":"a"}`}, {"mcp://x/y", `{"uri":"mcp://calc/mcp:\/\/x\/y"}`}},
		},
		"templates": {
			Templates, `{"result":{"resourceTemplates":[{"uriTemplate":"{+path}","name":"a","uri":"x"}]}}`,
			[]Entry{{"{+path}", `{"uriTemplate":"mcp://calc/{+path}","name":"a","uri":"x"}`}},
		},
		"none":                      {Tools, `{"result":{"tools":[ ]}}`, []Entry{}},
		"other lists beside it":     {Tools, `{"result":{"prompts":[{"name":"p"}],"tools":[{"name":"a"}],"tools2":[]},"x":[]}`, []Entry{{"a", `{"name":"calc__a"}`}}},
		"the longest name":          {Tools, `{"result":{"tools":[{"name":"` + strings.Repeat("x", 122) + `"}]}}`, []Entry{{strings.Repeat("x", 122), `{"name":"calc__` + strings.Repeat("x", 122) + `"}`}}},
		"an error that is null":     {Tools, `{"result":{"tools":[]},"error":null}`, []Entry{}},
		"names that differ in case": {Tools, `{"result":{"tools":[{"name":"a"},{"name":"A"}]}}`, []Entry{{"a", `{"name":"calc__a"}`}, {"A", `{"name":"calc__A"}`}}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			message := []byte(test.in)
			page, err := ReadPage(test.kind, "calc", message)
			require.NoError(t, err)
			clear(message) // entries share nothing with the message
			require.Equal(t, test.want, page.Entries)
			require.Empty(t, page.LeftOut)
			require.Equal(t, "calc", page.Server)
		})
	}
}

func TestReadPageLeavesOutWhatCannotBeNamed(t *testing.T) {
	long := strings.Repeat("x", 123)
	tests := map[string]struct {
		entry string
		want  LeftOut
	}{
		"a name that is too long":       {`{"name":"` + long + `"}`, LeftOut{long, names.ErrTooLong}},
		"a name that nobody reads out":  {`{"name":"` + strings.Repeat("x", 200) + `"}`, LeftOut{strings.Repeat("x", 160) + "…", names.ErrTooLong}},
		"a name with a space":           {`{"name":"a b"}`, LeftOut{"a b", names.ErrCharacters}},
		"no name":                       {`{"title":"x"}`, LeftOut{"", ErrNoName}},
		"an empty name":                 {`{"name":""}`, LeftOut{"", names.ErrEmpty}},
		"a name that is not a string":   {`{"name":["a"]}`, LeftOut{"", ErrNoName}},
		"two names":                     {`{"name":"a","name":"b"}`, LeftOut{"", ErrNoName}},
		"two names, one of them a list": {`{"name":"a","name":["b"]}`, LeftOut{"", ErrNoName}},
		"a name in capitals":            {`{"name":"a","NAME":"b"}`, LeftOut{"", ErrNoName}},
		"a name up to a NUL":            {`{"name":"a","name\u0000":"b"}`, LeftOut{"", ErrNoName}},
		"half a pair in the name":       {`{"name":"a\ud800"}`, LeftOut{"", ErrNoName}},
		"half a pair in a key":          {`{"name":"a","\ud800":1}`, LeftOut{"", ErrNoName}},
		"no object":                     {`"a"`, LeftOut{"", ErrNoName}},
		"null":                          {`null`, LeftOut{"", ErrNoName}},
		"a name that is there already":  {`{"name":"f\u0069rst"}`, LeftOut{"first", ErrDuplicate}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			page, err := ReadPage(Tools, "calc", tools(`{"name":"first"},`+test.entry+`,{"name":"last"}`))
			require.NoError(t, err)
			require.Equal(t, []LeftOut{test.want}, page.LeftOut)
			require.Equal(t, []Entry{{"first", `{"name":"calc__first"}`}, {"last", `{"name":"calc__last"}`}}, page.Entries)
		})
	}
	page, err := ReadPage(Resources, "calc", []byte(`{"result":{"resources":[{"uri":""},{"uri":"a:b"},{"uri":"a:b"}]}}`))
	require.NoError(t, err)
	require.Equal(t, []LeftOut{{"", names.ErrEmpty}, {"a:b", ErrDuplicate}}, page.LeftOut)
	require.Len(t, page.Entries, 1)
}

func TestReadPageReadsWhatElseAResultSays(t *testing.T) {
	tests := map[string]struct {
		members string
		want    Page
	}{
		"nothing":                     {`"x":1`, Page{}},
		"a cursor":                    {`"nextCursor":"a\u0062\""`, Page{Cursor: `ab"`}},
		"no cursor":                   {`"nextCursor":null`, Page{}},
		"a time":                      {`"ttlMs":1500`, Page{HasTTL: true, TTL: 1500 * time.Millisecond}},
		"a time with an exponent":     {`"ttlMs":1e3`, Page{HasTTL: true, TTL: time.Second}},
		"a time that is over":         {`"ttlMs":-5`, Page{HasTTL: true}},
		"a time that is not a number": {`"ttlMs":"forever"`, Page{HasTTL: true}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			page, err := ReadPage(Tools, "calc", []byte(`{"result":{`+test.members+`,"tools":[]}}`))
			require.NoError(t, err)
			test.want.Server, test.want.Entries, test.want.source = "calc", []Entry{}, page.source
			require.Equal(t, &test.want, page)
		})
	}
	page, err := ReadPage(Tools, "calc", []byte(`{"result":{"ttlMs":1e300,"tools":[]}}`))
	require.NoError(t, err)
	require.Greater(t, page.TTL, 24*time.Hour)
}

func TestReadPageRefusesWhatIsOfNoUse(t *testing.T) {
	for name, message := range map[string]string{
		"nothing":                        ``,
		"no JSON":                        `tools`,
		"a batch":                        `[{"result":{"tools":[]}}]`,
		"a second document":              `{"result":{"tools":[]}}{}`,
		"half a list":                    `{"result":{"tools":[{"name":"a"}`,
		"a broken entry":                 `{"result":{"tools":[{"name":"a",}]}}`,
		"no list":                        `{"result":{"prompts":[]}}`,
		"a list that is an object":       `{"result":{"tools":{}}}`,
		"a list that is null":            `{"result":{"tools":null}}`,
		"two lists":                      `{"result":{"tools":[],"tools":[]}}`,
		"a list in capitals":             `{"result":{"Tools":[],"tools":[]}}`,
		"a list up to a NUL":             `{"result":{"tools":[],"tools\u0000":[]}}`,
		"two results":                    `{"result":{"tools":[]},"result":{"tools":[]}}`,
		"two cursors":                    `{"result":{"tools":[],"nextCursor":"a","nextCursor":"b"}}`,
		"a cursor in other case":         `{"result":{"tools":[],"nextcursor":"a"}}`,
		"a cursor that is very long":     `{"result":{"tools":[],"nextCursor":"` + strings.Repeat("x", maxCursor+1) + `"}}`,
		"a cursor with half a pair":      `{"result":{"tools":[],"nextCursor":"\ud800"}}`,
		"a result that is not an object": `{"result":[]}`,
		"a notification":                 `{"method":"x"}`,
		"invalid UTF-8":                  "{\"result\":{\"tools\":[]},\"x\":\"\xff\"}",
		"deeper than anybody nests":      `{"result":` + strings.Repeat(`{"a":`, 300) + `1` + strings.Repeat(`}`, 301),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ReadPage(Tools, "calc", []byte(message))
			require.Error(t, err)
		})
	}
}

func TestReadPageTellsTheServersError(t *testing.T) {
	for message, code := range map[string]int{
		`{"id":1,"error":{"code":-32601,"message":"no such method"}}`: -32601,
		`{"id":1,"error":{"message":"x","code":"5"}}`:                 0,
		`{"id":1,"error":{},"result":{"tools":[]}}`:                   0,
	} {
		_, err := ReadPage(Tools, "calc", []byte(message))
		var refused *RPCError
		require.ErrorAs(t, err, &refused, message)
		require.Equal(t, code, refused.Code, message)
	}
}

// FuzzReadPage holds each page against encoding/json: every entry has the
// prefix and the name that rules are asked about, under any reading of the keys.
func FuzzReadPage(f *testing.F) {
	f.Add(uint8(Tools), tools(`{"name":"add"},{"name":"a b"},{"name":"add"},{"name":"a","NAME":"b"}`))
	f.Add(uint8(Prompts), []byte(`{"result":{"prompts":[{"n\u0061me":"\u0061"}],"nextCursor":"x","ttlMs":1e9,"cacheScope":"public"}}`))
	f.Add(uint8(Resources), []byte(`{"result":{"resources":[{"uri":"file:\/\/\/a"}],"_meta":{}}}`))
	f.Add(uint8(Templates), []byte(`{"result":{"resourceTemplates":[{"uriTemplate":"{+a}"}]}}`))
	f.Add(uint8(Tools), []byte(`{"error":{"code":-32601}}`))
	f.Add(uint8(Tools), tools(`{"_meta":{"ui":{"resourceUri":"ui://a"},"ui/resourceUri":"ui:\/\/b","UI":5},"name":"a"}`))
	f.Add(uint8(Resources), []byte(`{"result":{"resources":[{"uri":"ui:\/\/a"}]}}`))
	f.Add(uint8(Tasks), []byte(`{"result":{"tasks":[{"taskId":"a"}]}}`))
	f.Fuzz(func(t *testing.T, k uint8, message []byte) {
		kind := Kind(k)
		if kind < Tools || kind > Tasks {
			return
		}
		page, err := ReadPage(kind, "calc", message)
		if err != nil {
			return
		}
		var in struct {
			Result map[string]json.RawMessage
		}
		var entries []json.RawMessage
		if json.Unmarshal(message, &in) != nil || json.Unmarshal(in.Result[kind.Member()], &entries) != nil {
			t.Fatalf("accepted %q", message)
		}
		if len(entries) != len(page.Entries)+len(page.LeftOut) {
			t.Fatalf("%q: %d entries became %d and %d", message, len(entries), len(page.Entries), len(page.LeftOut))
		}
		seen := map[string]bool{}
		for _, e := range page.Entries {
			var byCase struct{ Name, URI, URITemplate, TaskID json.RawMessage }
			if err := json.Unmarshal([]byte(e.JSON), &byCase); err != nil {
				t.Fatalf("%q became %q: %v", message, e.JSON, err)
			}
			got := map[Kind]json.RawMessage{
				Tools: byCase.Name, Prompts: byCase.Name, Resources: byCase.URI, Templates: byCase.URITemplate, Tasks: byCase.TaskID,
			}[kind]
			var name string
			if json.Unmarshal(got, &name) != nil || !isJoined(kind, name, e.Name) || seen[e.Name] {
				t.Fatalf("%q became %q under the name %q", message, e.JSON, e.Name)
			}
			seen[e.Name] = true
		}
	})
}

// isJoined reports whether the name is that of the server's entry among those of all servers.
func isJoined(kind Kind, name, own string) bool {
	if kind != Resources && kind != Templates {
		return name == "calc__"+own
	}
	server, uri, ok := names.SplitURI(name)
	return ok && server == "calc" && uri == own
}

// fixture is a server's list of that many tools of about a kilobyte each.
func fixture(n int) []byte {
	entries := make([]string, n)
	for i := range entries {
		entries[i] = fmt.Sprintf(`{"name":"tool-%d","description":%q,"inputSchema":{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"number"}},"required":["a"]}}`,
			i, strings.Repeat("what it does ", 60))
	}
	return tools(strings.Join(entries, ","))
}

func BenchmarkReadPage(b *testing.B) {
	message := fixture(50)
	b.SetBytes(int64(len(message)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ReadPage(Tools, "calculator", message); err != nil {
			b.Fatal(err)
		}
	}
}
