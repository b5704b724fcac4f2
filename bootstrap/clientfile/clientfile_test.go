package clientfile

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/check"
)

// The files of a dozen programs are read in bootstrap/apply, where they have places. Here
// are cases that none of those has.

func document(t *testing.T, text string) map[string]any {
	t.Helper()
	var document map[string]any
	require.NoError(t, json.Unmarshal([]byte(text), &document))
	return document
}

func nothing(string) (string, bool) { return "", false }

func TestOnlyFilesWithServersAreTaken(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		want bool
	}{
		"the key of most programs":             {`{"mcpServers": {"a": {"command": "x"}}}`, true},
		"that key, without servers":            {`{"mcpServers": {}}`, true},
		"the key of VS Code":                   {`{"servers": {"a": {"url": "x"}}}`, true},
		"a map of servers alone":               {`{"a": {"command": "x"}, "b": {"url": "y"}}`, true},
		"a server of ours":                     {`{"name": "a", "transport": "http", "url": "x"}`, false},
		"a client of ours":                     {`{"name": "a", "allowed_servers": ["b"]}`, false},
		"a list under the key":                 {`{"servers": ["a"]}`, false},
		"a map of which one part is no server": {`{"a": {"command": "x"}, "b": {}}`, false},
		"settings without servers":             {`{"theme": "dark"}`, false},
		"an empty object":                      {`{}`, false},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, test.want, Holds(document(t, test.text))) })
	}
}

func TestNamesBecomeValid(t *testing.T) {
	for name, want := range map[string]string{
		"github": "github", "GitHub MCP": "GitHub-MCP", "a__b": "a_b", "-a-": "a", "@scope/name": "scope-name",
		"日本": "", "a日b": "a-b", strings.Repeat("x", 90): strings.Repeat("x", 64), strings.Repeat("x", 63) + "--y": strings.Repeat("x", 63),
	} {
		require.Equal(t, want, validName(name), name)
	}
}

func TestVariablesAreExpanded(t *testing.T) {
	environment := map[string]string{"SET": "value", "EMPTY": "", "INPUT_MY_KEY": "typed", "NESTED": "${SET}"}
	for name, test := range map[string]struct{ text, want, problem string }{
		"one that is set":                     {"a ${SET} b", "a value b", ""},
		"one of the environment, by its form": {"${env:SET}", "value", ""},
		"one that is empty":                   {"${EMPTY:-otherwise}", "", ""},
		"one that is not set":                 {"${UNSET}", "", "UNSET is not set"},
		"one that is not set, with a value":   {"${UNSET:-otherwise}", "otherwise", ""},
		"a value is not expanded":             {"${NESTED}", "${SET}", ""},
		"an input":                            {"${input:my-key}", "typed", ""},
		"an input with a default":             {"${input:region}", "eu", ""},
		"an input that nobody has answered":   {"${input:other}", "", "INPUT_OTHER"},
		"the program's own":                   {"${workspaceFolder}/x", "/x", "only the program"},
		"a command of the program":            {"${command:pick}", "", "only the program"},
		"Gemini's form":                       {"Bearer $SET", "Bearer $SET", "write ${NAME}"},
		"a dollar that is none":               {"pa$$word $1", "pa$$word $1", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := &reader{
				lookup: func(name string) (string, bool) { value, set := environment[name]; return value, set },
				inputs: map[string]input{"region": {"eu", true}},
			}
			require.Equal(t, test.want, r.expand("at", test.text))
			if test.problem == "" {
				require.Empty(t, r.file.Problems)
				return
			}
			require.Len(t, r.file.Problems, 1)
			require.Contains(t, r.file.Problems[0].Text, test.problem)
		})
	}
}

// FuzzRead holds that no file ends the program, that a server that is taken has a valid name
// and a way to be reached, and that nothing told has a value of env or headers.
func FuzzRead(f *testing.F) {
	f.Add(`{"mcpServers": {"a b": {"command": ["npx", "-y"], "env": {"KEY": "sekret-value", "N": 1}}}}`)
	f.Add(`{"servers": {"a": {"transport": {"type": "sse", "url": "x"}, "headers": {"A": "sekret-value ${input:x}"}}}, "inputs": [{"id": "x"}]}`)
	f.Add(`{"mcp_servers": {"a": {"url": "x", "env_http_headers": {"A": "B"}, "env_vars": [{"name": 1}, "C"], "bearer_token_env_var": "D"}}}`)
	f.Add(`{"a": {"command": "cmd", "args": ["/c", "npx"]}}`)
	f.Fuzz(func(t *testing.T, text string) {
		var document map[string]any
		if json.Unmarshal([]byte(text), &document) != nil || !Holds(document) {
			return
		}
		read := Read(document, nothing)
		for _, s := range read.Servers {
			require.NoError(t, check.ServerName(s.Name))
			require.NotEqual(t, s.URL == "", s.Command == "")
		}
		for _, told := range append(read.Notes, read.Problems...) {
			require.NotContains(t, told.Text, "sekret-value")
		}
	})
}

func FuzzParseTOML(f *testing.F) {
	f.Add([]byte("[mcp_servers.a]\ncommand = \"x\"\nenv = { A = \"b\" }\n[[list]]\na.b = 1\n"))
	f.Add([]byte("a = [\n1,\n"))
	f.Fuzz(func(_ *testing.T, content []byte) { _, _, _ = ParseTOML(content) })
}
