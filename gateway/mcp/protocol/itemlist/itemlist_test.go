package itemlist

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/policy"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/jsonscan"
)

// rulesOf are those of a client about the server "s".
func rulesOf(lists policy.Lists) *policy.Rules {
	lists.AllowedServers = []string{"s"}
	return policy.CompileRules("s", []policy.Rights{{Lists: lists}})
}

// denying lets every tool pass but those whose names start with "deny".
var denying = rulesOf(policy.Lists{DeniedTools: []string{"s/deny*"}})

// apply filters by rules alone.
func apply(message []byte, rules *policy.Rules) ([]byte, error) {
	filtered, unapproved, err := (&Filter{Rules: rules}).Apply(message)
	if unapproved > 0 {
		panic("definitions were judged without pins")
	}
	return filtered, err
}

func notDenied(tool string) bool { return !strings.HasPrefix(tool, "deny") }

func list(tools string) string {
	return `{"jsonrpc":"2.0","id":1,"result":{"tools":[` + tools + `]}}`
}

func TestFilterCutsToolsAndKeepsEveryOtherByte(t *testing.T) {
	tests := map[string]struct{ in, want string }{
		"nothing to cut":  {list(`{"name":"a"}, {"name" : "b"}`), list(`{"name":"a"}, {"name" : "b"}`)},
		"no tools":        {list(``), list(``)},
		"no tools, space": {list(` `), list(` `)},
		"the first":       {list(`{"name":"deny"},{"name":"b"}`), list(`{"name":"b"}`)},
		"the last":        {list(`{"name":"a"},{"name":"deny"}`), list(`{"name":"a"}`)},
		"the middle one":  {list(`{"name":"a"},{"name":"deny"},{"name":"b"}`), list(`{"name":"a"},{"name":"b"}`)},
		"all":             {list(`{"name":"deny"},{"name":"deny2"}`), list(``)},
		"big numbers and unknown members of the others": {
			`{"jsonrpc":"2.0","id":12345678901234567890,"result":{"x":1.10,"tools":[{"name":"a","inputSchema":{"name":"deny","maximum":12345678901234567890}},{"name":"deny"}],"nextCursor":"c"},"vendor":[1]}`,
			`{"jsonrpc":"2.0","id":12345678901234567890,"result":{"x":1.10,"tools":[{"name":"a","inputSchema":{"name":"deny","maximum":12345678901234567890}}],"nextCursor":"c"},"vendor":[1]}`,
		},
		"a name in escapes":                      {list(`{"n\u0061me":"d\u0065ny"},{"name":"a"}`), list(`{"name":"a"}`)},
		"keys in escapes":                        {`{"r\u0065sult":{"t\u006fols":[{"name":"deny"}]}}`, `{"r\u0065sult":{"t\u006fols":[]}}`},
		"a tool without a name":                  {list(`{"title":"a"},{"name":"a"}`), list(`{"name":"a"}`)},
		"a tool with two names":                  {list(`{"name":"a","name":"deny"},{"name":"a"}`), list(`{"name":"a"}`)},
		"a tool with a name in capitals":         {list(`{"name":"a","NAME":"deny"}`), list(``)},
		"a tool with a name and a NUL":           {list(`{"name":"a","name\u0000":"deny"}`), list(``)},
		"a tool whose name is not a string":      {list(`{"name":["a"]}`), list(``)},
		"a tool whose name has a lone surrogate": {list(`{"name":"a\ud800"}`), list(``)},
		"tools that are not objects":             {list(`"a",1,null,{"name":"a"},[{"name":"a"}]`), list(`{"name":"a"}`)},
		"a public list becomes private": {
			`{"result":{"cacheScope":"public","tools":[{"name":"a"}],"ttlMs":1000}}`,
			`{"result":{"cacheScope":"private","tools":[{"name":"a"}],"ttlMs":1000}}`,
		},
		"a long life is cut": {
			`{"result":{"ttlMs":3.6e6,"tools":[{"name":"deny"}],"cacheScope":"private"}}`,
			`{"result":{"ttlMs":30000,"tools":[],"cacheScope":"private"}}`,
		},
		"a life that is not a number": {
			`{"result":{"ttlMs":"forever","tools":[],"cacheScope":"private"}}`,
			`{"result":{"ttlMs":30000,"tools":[],"cacheScope":"private"}}`,
		},
		"a scope that is missing is added, since public is the default": {
			`{"result":{"tools":[],"ttlMs":5 } }`,
			`{"result":{"tools":[],"ttlMs":5 ,"cacheScope":"private"} }`,
		},
		"another list":                   {`{"result":{"prompts":[{"name":"deny"}],"ttlMs":99999999}}`, `{"result":{"prompts":[{"name":"deny"}],"ttlMs":99999999}}`},
		"tools elsewhere":                {`{"params":{"tools":[{"name":"deny"}]},"result":{"x":{"tools":[{"name":"deny"}]}}}`, `{"params":{"tools":[{"name":"deny"}]},"result":{"x":{"tools":[{"name":"deny"}]}}}`},
		"a result that is not an object": {`{"result":[{"tools":[]}]}`, `{"result":[{"tools":[]}]}`},
		"an error":                       {`{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"x"}}`, `{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"x"}}`},
		"white space and line breaks":    {"{\n \"result\" : {\n  \"tools\" : [\n {\"name\":\"deny\"} ,\n {\"name\":\"a\"}\n ]\n }\n}\n", "{\n \"result\" : {\n  \"tools\" : [{\"name\":\"a\"}]\n }\n}\n"},
		"a notification from the server": {`{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`, `{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := apply([]byte(test.in), denying)
			require.NoError(t, err)
			require.Equal(t, test.want, string(got))
		})
	}
}

// all has rules about every kind of item.
var all = rulesOf(policy.Lists{
	DeniedTools: []string{"s/deny*"}, DeniedPrompts: []string{"s/deny*"},
	AllowedResources: []string{"s/file:///srv/*", "s/db://rows/7"}, DeniedResources: []string{"s/file:///srv/secret/*"},
})

func TestEachListIsFilteredByItsOwnRules(t *testing.T) {
	result := func(member, entries string) string {
		return `{"jsonrpc":"2.0","id":1,"result":{"` + member + `":[` + entries + `]}}`
	}
	tests := map[string]struct {
		rules    *policy.Rules
		in, want string
	}{
		"prompts": {all, result("prompts", `{"name":"a"},{"name":"deny"}`), result("prompts", `{"name":"a"}`)},
		"prompts, with rules about tools": {
			denying, result("prompts", `{"name":"a"},{"name":"deny"}`), result("prompts", `{"name":"a"},{"name":"deny"}`),
		},
		"resources": {
			all,
			result("resources", `{"uri":"file:///srv/a","name":"deny"},{"uri":"file:///srv/secret/a"},{"uri":"file:///etc/passwd"},{"uri":"db://rows/7"}`),
			result("resources", `{"uri":"file:///srv/a","name":"deny"},{"uri":"db://rows/7"}`),
		},
		"resources in other spellings": {
			all,
			result("resources", `{"uri":"FILE:///srv/%61"},{"uri":"file:///srv/%73ecret/a"},{"uri":"file:///srv/SECRET/a"},{"uri":"file:\/\/\/srv\/b"}`),
			result("resources", `{"uri":"FILE:///srv/%61"},{"uri":"file:\/\/\/srv\/b"}`),
		},
		"resources that can be read in two ways": {
			all,
			result("resources", `{"uri":"file:///srv/../srv/a"},{"uri":"file:///srv//a"},{"uri":"file:///srv/a%2fb"},{"uri":"file:///srv/%zz"},{"uri":"file:///srv\\a"},{"uri":"file:///srv/a","URI":"file:///srv/b"},{"uri":7},{}`),
			result("resources", ``),
		},
		"templates": {
			all,
			result("resourceTemplates", `{"uriTemplate":"file:///srv/{name}"},{"uriTemplate":"file:///{+path}"},{"uriTemplate":"file:///srv/secret/{name}"},{"uriTemplate":"db://{table}"},{"uriTemplate":"s3://{bucket}"}`),
			result("resourceTemplates", `{"uriTemplate":"file:///srv/{name}"},{"uriTemplate":"file:///{+path}"},{"uriTemplate":"db://{table}"}`),
		},
		"a public list of resources becomes private": {
			all,
			`{"result":{"cacheScope":"public","resources":[{"uri":"db://rows/7"}],"ttlMs":99999999}}`,
			`{"result":{"cacheScope":"private","resources":[{"uri":"db://rows/7"}],"ttlMs":30000}}`,
		},
		"two lists": {
			all,
			`{"result":{"resources":[{"uri":"s3://a"}],"tools":[{"name":"deny"},{"name":"a"}]}}`,
			`{"result":{"resources":[],"tools":[{"name":"a"}]}}`,
		},
		"contents of a resource": {all, `{"result":{"contents":[{"uri":"s3://a","text":"x"}]}}`, `{"result":{"contents":[{"uri":"s3://a","text":"x"}]}}`},
		"links in a result":      {all, `{"result":{"content":[{"type":"resource_link","uri":"s3://a"}]}}`, `{"result":{"content":[{"type":"resource_link","uri":"s3://a"}]}}`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := apply([]byte(test.in), test.rules)
			require.NoError(t, err)
			require.Equal(t, test.want, string(got))
		})
	}
}

func TestNotificationsAboutDeniedResourcesAreDropped(t *testing.T) {
	updated := func(params string) string {
		return `{"jsonrpc":"2.0","method":"notifications/resources/updated","params":` + params + `}`
	}
	tests := map[string]struct {
		message string
		rules   *policy.Rules
		passes  bool
	}{
		"of an allowed one":                     {updated(`{"uri":"file:///srv/a"}`), all, true},
		"of a denied one":                       {updated(`{"uri":"file:///srv/secret/a"}`), all, false},
		"of one that is not allowed":            {updated(`{"uri":"s3://a"}`), all, false},
		"of one with two readings":              {updated(`{"uri":"file:///srv/b/../a"}`), all, false},
		"of none":                               {updated(`{}`), all, false},
		"without params":                        {`{"jsonrpc":"2.0","method":"notifications/resources/updated"}`, all, false},
		"with params that are a list":           {updated(`["s3://a"]`), all, false},
		"of a list of them":                     {updated(`{"uri":["file:///srv/a"]}`), all, false},
		"with its method in escapes":            {`{"method":"notifications\/resources\/upd\u0061ted","params":{"uri":"s3://a"}}`, all, false},
		"with its params first":                 {`{"params":{"uri":"s3://a"},"method":"notifications/resources/updated"}`, all, false},
		"where no rule is about resources":      {updated(`{"uri":"s3://a"}`), denying, true},
		"of another kind":                       {`{"method":"notifications/message","params":{"uri":"s3://a"}}`, all, true},
		"of a change of the list":               {`{"method":"notifications/resources/list_changed"}`, all, true},
		"with a method that cannot be read":     {`{"method":"notifications/resources/updated\ud800","params":{"uri":"s3://a"}}`, all, false},
		"a server's request with a denied name": {`{"id":1,"method":"elicitation/create","params":{"name":"deny","uri":"s3://a"}}`, all, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := apply([]byte(test.message), test.rules)
			require.NoError(t, err)
			if test.passes {
				require.Equal(t, test.message, string(got))
			} else {
				require.Nil(t, got)
			}
		})
	}
	for _, message := range []string{
		updated(`{"uri":"file:///srv/a","uri":"s3://a"}`),
		updated(`{"uri":"file:///srv/a","URI":"s3://a"}`),
		`{"method":"notifications/message","method":"notifications/resources/updated","params":{"uri":"s3://a"}}`,
	} {
		_, err := apply([]byte(message), all)
		require.ErrorIs(t, err, jsonscan.ErrAmbiguous, message)
	}
}

func TestFilterRefusesWhatItCannotBeSureOf(t *testing.T) {
	tests := map[string]string{
		"no JSON":                    `tools`,
		"nothing":                    ``,
		"an array of messages":       `[{"result":{"tools":[{"name":"deny"}]}}]`,
		"a second document":          list(``) + list(`{"name":"deny"}`),
		"half a message":             list(`{"name":"deny"}`)[:50],
		"a second result":            `{"result":{"tools":[]},"result":{"tools":[{"name":"deny"}]}}`,
		"a result in capitals":       `{"result":{},"RESULT":{"tools":[{"name":"deny"}]}}`,
		"a second list":              `{"result":{"tools":[],"tools":[{"name":"deny"}]}}`,
		"a list in capitals":         `{"result":{"tools":[],"Tools":[{"name":"deny"}]}}`,
		"a list with a NUL":          `{"result":{"tools\u0000":[{"name":"deny"}]}}`,
		"a list with a long s":       `{"result":{"toolſ":[{"name":"deny"}]}}`,
		"a list that is an object":   `{"result":{"tools":{"deny":{"name":"deny"}}}}`,
		"a list that is a string":    `{"result":{"tools":"deny"}}`,
		"a second scope":             `{"result":{"tools":[],"cacheScope":"private","cacheScope":"public"}}`,
		"invalid UTF-8":              "{\"result\":{\"tools\":[]},\"x\":\"\xff\"}",
		"a key with half a pair":     `{"\ud800":1,"result":{"tools":[]}}`,
		"deeper than anybody nests":  `{"result":` + strings.Repeat(`{"a":`, 300) + `1` + strings.Repeat(`}`, 301),
		"a broken tool":              list(`{"name":"a",}`),
		"a comma behind the last":    list(`{"name":"a"},`),
		"two tools without a comma":  list(`{"name":"a"}{"name":"deny"}`),
		"a name that never ends":     list(`{"name":"a`),
		"a control character inside": list("{\"name\":\"a\n\"}"),
	}
	for name, message := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := apply([]byte(message), denying)
			require.Error(t, err)
		})
	}
}

// FuzzFilter compares filtered lists with encoding/json: the filtered list has
// every tool that may pass and no other, under any reading of the keys, and
// nothing beside the list has changed.
func FuzzFilter(f *testing.F) {
	f.Add([]byte(list(`{"name":"a"},{"name":"deny"},{"name":"b"}`)))
	f.Add([]byte(`{"result":{"cacheScope":"public","tools":[{"name":"deny"}],"ttlMs":1e9,"nextCursor":"x"}}`))
	f.Add([]byte(`{"result":{"tools":[{"name":"a","NAME":"deny"}],"ttlMs":1}}`))
	f.Fuzz(func(t *testing.T, message []byte) {
		got, err := apply(message, denying)
		if err != nil {
			return
		}
		var in, out struct {
			Result json.RawMessage
		}
		if json.Unmarshal(message, &in) != nil || json.Unmarshal(got, &out) != nil {
			t.Fatalf("%q became %q", message, got)
		}
		var inList, outList struct {
			Tools      []json.RawMessage
			CacheScope *json.RawMessage
			TTLMs      *json.RawMessage
		}
		if json.Unmarshal(in.Result, &inList) != nil || inList.Tools == nil {
			if !bytes.Equal(got, message) {
				t.Fatalf("%q lists no tools, yet became %q", message, got)
			}
			return
		}
		if err := json.Unmarshal(out.Result, &outList); err != nil {
			t.Fatalf("%q became %q: %v", message, got, err)
		}
		var want []string
		for _, tool := range inList.Tools {
			if name, ok := toolName(tool); ok && notDenied(name) {
				want = append(want, string(tool))
			}
		}
		var have []string
		for _, tool := range outList.Tools {
			var byCase struct{ Name string }
			if json.Unmarshal(tool, &byCase) != nil || !notDenied(byCase.Name) {
				t.Fatalf("%q became %q, which lists %s", message, got, tool)
			}
			have = append(have, string(tool))
		}
		if fmt.Sprint(want) != fmt.Sprint(have) {
			t.Fatalf("%q became %q: %q instead of %q", message, got, have, want)
		}
		if outList.CacheScope != nil && string(*outList.CacheScope) != `"private"` {
			t.Fatalf("%q became %q, which is not private", message, got)
		}
		if outList.TTLMs != nil && (outList.CacheScope == nil || !shortTTL(*outList.TTLMs)) {
			t.Fatalf("%q became %q, which is kept for too long", message, got)
		}
	})
}

// FuzzFilterOfResources holds that no list and no notification has a resource that the rules do
// not allow, as encoding/json reads it, whatever its keys look like.
func FuzzFilterOfResources(f *testing.F) {
	f.Add([]byte(`{"result":{"resources":[{"uri":"file:///srv/a"},{"uri":"file:///srv/secret/a"},{"URI":"s3://a"}],"ttlMs":1}}`))
	f.Add([]byte(`{"method":"notifications/resources/updated","params":{"uri":"s3://a"}}`))
	f.Add([]byte(`{"result":{"resourceTemplates":[{"uriTemplate":"file:///{+x}"},{"uriTemplate":"s3://{b}"}],"prompts":[{"name":"deny"}]}}`))
	f.Fuzz(func(t *testing.T, message []byte) {
		got, err := apply(message, all)
		if err != nil || got == nil {
			return
		}
		var out struct {
			Method string
			Params struct{ URI *string }
			Result struct {
				Resources         []struct{ URI string }
				ResourceTemplates []struct{ URITemplate string }
				Prompts           []struct{ Name string }
			}
		}
		if json.Unmarshal(got, &out) != nil {
			return // of other types than these
		}
		for _, r := range out.Result.Resources {
			require.True(t, all.Resources.Allows(r.URI), "%q became %q", message, got)
		}
		for _, r := range out.Result.ResourceTemplates {
			require.True(t, all.Resources.AllowsTemplate(r.URITemplate), "%q became %q", message, got)
		}
		for _, p := range out.Result.Prompts {
			require.True(t, all.Prompts.Allows(p.Name), "%q became %q", message, got)
		}
		if out.Method == "notifications/resources/updated" {
			require.NotNil(t, out.Params.URI, "%q became %q", message, got)
			require.True(t, all.Resources.Allows(*out.Params.URI), "%q became %q", message, got)
		}
	})
}

// toolName returns the name of a tool, if it is certain.
func toolName(tool []byte) (name string, ok bool) {
	r, err := newRun(tool)
	if err != nil {
		return "", false
	}
	ok, err = r.entry(&entries{names: []string{"name"}, allows: func(tool string) bool {
		name = tool
		return true
	}})
	return name, ok && err == nil
}

func BenchmarkFilter(b *testing.B) {
	var tools []string
	for i := range 100 {
		name := fmt.Sprintf("tool-%d", i)
		if i%10 == 0 {
			name = "deny-" + name
		}
		tools = append(tools, fmt.Sprintf(`{"name":%q,"description":%q,"inputSchema":{"type":"object","properties":{"a":{"type":"string"}}}}`,
			name, strings.Repeat("what it does ", 20)))
	}
	message := []byte(list(strings.Join(tools, ",")))
	b.SetBytes(int64(len(message)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := apply(message, denying); err != nil {
			b.Fatal(err)
		}
	}
}
