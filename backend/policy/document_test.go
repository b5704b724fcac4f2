package policy

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func TestParseRefusesWhatWouldBeDropped(t *testing.T) {
	tests := []struct {
		name, text string
		want       []string
	}{
		{"a list", `[]`, []string{"not a JSON object"}},
		{"null", `null`, []string{"not a JSON object"}},
		{"half a document", `{"deniedMcpServers":[`, []string{"ends too early"}},
		{"a comment", `{/* x */}`, []string{"not valid JSON"}},
		{"a trailing comma", `{"deniedMcpServers":[],}`, []string{"not valid JSON"}},
		{"a second document", `{} {}`, []string{"more text after"}},
		{"bytes that are not UTF-8", "{\"a\":\"\xff\"}", []string{"UTF-8"}},
		{"a setting that stands twice", `{"deniedMcpServers":[],"deniedMcpServers":[]}`, []string{"deniedMcpServers twice"}},
		{"a setting in other letters", `{"deniedMCPServers":[]}`, []string{`"deniedMCPServers"`, `write "deniedMcpServers"`}},
		{"an allow-list that is null", `{"allowedMcpServers":null}`, []string{"allowedMcpServers is null", "block every server", "leave it out"}},
		{"a deny-list that is null", `{"deniedMcpServers":null}`, []string{"deniedMcpServers is null", "admit every server"}},
		{"a deny-list that is an object", `{"deniedMcpServers":{"serverName":"x"}}`, []string{"deniedMcpServers is an object"}},
		{"an allow-list that is a string", `{"allowedMcpServers":"[]"}`, []string{"allowedMcpServers is a string"}},
		{"a lock that is a number", `{"allowManagedMcpServersOnly":0}`, []string{"allowManagedMcpServersOnly is a number", "reads as true"}},
		{"a lock that is the text false", `{"allowManagedMcpServersOnly":"false"}`, []string{"allowManagedMcpServersOnly is a string", "reads as true"}},
		{"an entry that is null", `{"deniedMcpServers":[null]}`, []string{"deniedMcpServers[0]: is not a JSON object"}},
		{"an entry that is a string", `{"deniedMcpServers":[{"serverName":"a"},"x"]}`, []string{"deniedMcpServers[1]: is not a JSON object", "serverUrl"}},
		{"an entry without a key", `{"deniedMcpServers":[{}]}`, []string{"deniedMcpServers[0]: has none of the keys serverUrl, serverCommand, serverName"}},
		{"an entry with two keys", `{"deniedMcpServers":[{"serverName":"x","serverUrl":"y"}]}`, []string{`deniedMcpServers[0]: has both "serverName" and "serverUrl"`}},
		{"an entry with two keys, one of them null", `{"deniedMcpServers":[{"serverName":"x","serverUrl":null}]}`, []string{"has both"}},
		{"an entry with one key twice", `{"deniedMcpServers":[{"serverName":"x","serverName":"y"}]}`, []string{`"serverName" twice`}},
		{"a key in other letters", `{"deniedMcpServers":[{"serverURL":"y"}]}`, []string{`"serverURL"`, `write "serverUrl"`}},
		{"a URL that is a number", `{"allowedMcpServers":[{"serverUrl":5}]}`, []string{"allowedMcpServers[0]: serverUrl is a number"}},
		{"a URL that is null", `{"allowedMcpServers":[{"serverUrl":null}]}`, []string{"serverUrl is null"}},
		{"a URL without end", `{"deniedMcpServers":[{"serverUrl":"` + strings.Repeat("a", maxURL+1) + `"}]}`, []string{"bytes long"}},
		{"a command that is a string", `{"deniedMcpServers":[{"serverCommand":"npx x"}]}`, []string{"serverCommand is a string", "list of strings"}},
		{"an empty command", `{"deniedMcpServers":[{"serverCommand":[]}]}`, []string{"serverCommand is empty"}},
		{"an argument that is a number", `{"deniedMcpServers":[{"serverCommand":["a",1]}]}`, []string{"serverCommand [1] is a number"}},
		{"an allowed name with a wildcard", `{"allowedMcpServers":[{"serverName":"git*"}]}`, []string{`serverName "git*"`, "use serverUrl"}},
		{"an empty name", `{"deniedMcpServers":[{"serverName":""}]}`, []string{"serverName is empty"}},
		{"a denied name with a space around", `{"deniedMcpServers":[{"serverName":"x "}]}`, []string{`"x "`, "remove it"}},
		{"a denied name with a byte order mark around", `{"deniedMcpServers":[{"serverName":"\ufeffx"}]}`, []string{"remove it"}},
		{"a variable in a URL", `{"deniedMcpServers":[{"serverUrl":"https://${HOST}/*"}]}`, []string{"deniedMcpServers[0]: serverUrl holds a variable", "write its value"}},
		{"a variable with a default in a command", `{"allowedMcpServers":[{"serverCommand":["a","${X:-y}"]}]}`, []string{"serverCommand holds a variable"}},
	}
	for _, test := range tests {
		t.Run(test.name+" is refused", func(t *testing.T) {
			_, _, err := Parse([]byte(test.text))
			wantError(t, err, test.want...)
		})
	}
}

func TestParseNamesAllMistakesAtOnce(t *testing.T) {
	_, _, err := Parse([]byte(`{"allowedMcpServers":[1,{"serverName":"a"},2],"deniedMcpServers":"x"}`))
	wantError(t, err, "allowedMcpServers[0]", "allowedMcpServers[2]", "deniedMcpServers is a string")

	_, _, err = Parse([]byte(`{"deniedMcpServers":[` + strings.Repeat("0,", 99) + `0]}`))
	wantError(t, err, "deniedMcpServers[9]", "and 90 more mistakes")
}

func TestParseAccepts(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"an empty file", "", `{}`},
		{"an empty object", " {}\n", `{}`},
		{"a byte order mark", "\ufeff{}", `{}`},
		{"unset lists", `{"allowManagedMcpServersOnly":true}`, `{"allowManagedMcpServersOnly":true}`},
		{"empty lists, which are not unset", `{"allowedMcpServers":[],"deniedMcpServers":[]}`, `{"allowedMcpServers":[],"deniedMcpServers":[]}`},
		{"a lock that is off", `{"allowManagedMcpServersOnly":false}`, `{}`},
		{"a lock that is null, which removes it", `{"allowManagedMcpServersOnly":null}`, `{}`},
		{"a lock that is the text true", `{"allowManagedMcpServersOnly":"true"}`, `{"allowManagedMcpServersOnly":true}`},
		{
			"entries of each kind", `{"deniedMcpServers":[{"serverUrl":"*://*.h.com/a?b&c=<d>"},{"serverCommand":["a",""]},{"serverName":"claude.ai Slack"}]}`,
			`{"deniedMcpServers":[{"serverUrl":"*://*.h.com/a?b&c=<d>"},{"serverCommand":["a",""]},{"serverName":"claude.ai Slack"}]}`,
		},
		{"an empty URL, which matches nothing", `{"deniedMcpServers":[{"serverUrl":""}]}`, `{"deniedMcpServers":[{"serverUrl":""}]}`},
		{"a variable in a name, which is never expanded", `{"deniedMcpServers":[{"serverName":"${X}"}]}`, `{"deniedMcpServers":[{"serverName":"${X}"}]}`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d := mustParse(t, test.text)
			text, err := encode(d)
			if err != nil || string(text) != test.want {
				t.Fatalf("read back as %s (%v), want %s", text, err, test.want)
			}
			var again Document
			if err := json.Unmarshal(text, &again); err != nil || fmt.Sprintf("%#v", again) != fmt.Sprintf("%#v", d) {
				t.Errorf("read again as %#v (%v), want %#v", again, err, d)
			}
		})
	}
}

func TestParseWarnsOfWhatHasNoEffect(t *testing.T) {
	tests := []struct {
		name, text string
		want       []string
	}{
		{"nothing to warn of", `{"deniedMcpServers":[{"serverUrl":"https://h.com"},{"serverName":"a"},{"serverCommand":["a"]}]}`, nil},
		{
			"other settings of the file", `{"permissions":{},"env":{},"deniedMcpServers":[],"env":1}`,
			[]string{`ignored, since they are not part of a policy: "env", "permissions"`},
		},
		{"another key in an entry", `{"deniedMcpServers":[{"serverName":"a","comment":"why"}]}`, []string{`deniedMcpServers[0]: the key "comment" is ignored`}},
		{"a URL without a scheme", `{"deniedMcpServers":[{"serverUrl":"h.com"}]}`, []string{`deniedMcpServers[0]: {"serverUrl":"h.com"} matches no server: it is not of the form`}},
		{"a URL without a scheme, with a port", `{"deniedMcpServers":[{"serverUrl":"h.com:8443/*"}]}`, []string{`scheme "h.com"`}},
		{"an empty URL", `{"deniedMcpServers":[{"serverUrl":""}]}`, []string{"matches no server"}},
		{"a part of a scheme", `{"allowedMcpServers":[{"serverUrl":"http*://h.com/*"}]}`, []string{"a part of a scheme cannot be a wildcard"}},
		{"another scheme", `{"allowedMcpServers":[{"serverUrl":"ftp://h.com/*"}]}`, []string{`scheme "ftp"`}},
		{"a wildcard in a part beyond ASCII", `{"deniedMcpServers":[{"serverUrl":"https://*é.com"}]}`, []string{"letters beyond ASCII"}},
		{"letters beyond ASCII after any scheme", `{"deniedMcpServers":[{"serverUrl":"*://é.com"}]}`, []string{"ASCII form"}},
		{"a denied name with a wildcard", `{"deniedMcpServers":[{"serverName":"git*"}]}`, []string{"names have no wildcards"}},
		{"a program without a name", `{"deniedMcpServers":[{"serverCommand":[""]}]}`, []string{"no program has an empty name"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, warnings, err := Parse([]byte(test.text))
			if err != nil {
				t.Fatal(err)
			}
			if len(warnings) != len(test.want) {
				t.Fatalf("warnings %q, want %q", warnings, test.want)
			}
			for i := range warnings {
				if !strings.Contains(warnings[i], test.want[i]) {
					t.Errorf("warning %q does not say %q", warnings[i], test.want[i])
				}
			}
		})
	}
}

func TestParseFieldsTakesListsAsText(t *testing.T) {
	want := mustParse(t, `{"allowedMcpServers":[{"serverName":"a"}],"allowManagedMcpServersOnly":true}`)
	d, _, err := ParseFields(map[string]any{
		"allowedMcpServers":          ` [{"serverName":"a"}]`,
		"allowManagedMcpServersOnly": "true",
	})
	if err != nil || fmt.Sprint(d) != fmt.Sprint(want) {
		t.Errorf("got %v (%v), want %v", d, err, want)
	}
	tests := []struct {
		name, field string
		value       any
		want        string
	}{
		{"text that is no list", "allowedMcpServers", "github", "allowedMcpServers is a string"},
		{"text that is half a list", "deniedMcpServers", `[{"serverName":`, "deniedMcpServers is not valid JSON"},
		{"a value without a JSON form", "other", func() {}, "no JSON form"},
	}
	for _, test := range tests {
		t.Run(test.name+" is refused", func(t *testing.T) {
			_, _, err := ParseFields(map[string]any{test.field: test.value})
			wantError(t, err, test.want)
		})
	}
}

func TestDocumentRefusesWhatParseRefuses(t *testing.T) {
	var d Document
	wantError(t, json.Unmarshal([]byte(`{"deniedMcpServers":[{"serverUrl":5}]}`), &d), "deniedMcpServers[0]")
	var s []Source
	wantError(t, json.Unmarshal([]byte(`[{"name":"a","policy":{"allowedMcpServers":null}}]`), &s), "allowedMcpServers is null")
	if d.Allowed != nil || d.Denied != nil {
		t.Errorf("a refused document left %v", d)
	}
}
