package apply

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"
)

// read is the result of a client's file: its servers, and the notes about it.
func read(t *testing.T, name, content string) (servers, told string) {
	t.Helper()
	t.Setenv("SET", "hunter2-set")
	d := &desired{config: map[string]any{}}
	if strings.HasSuffix(name, ".toml") {
		d.loadTOML(name, []byte(content))
	} else {
		d.loadJSON(name, []byte(content))
	}
	d.check()
	var all []string
	for i := range d.servers {
		all = append(all, described(&d.servers[i]))
		d.notes = append(d.notes, d.servers[i].differences(nil)...)
	}
	return strings.Join(all, "\n"), strings.Join(append(d.notes, fmt.Sprint(d.failure(nil))), "\n")
}

// The golden files are like those that people have. These are files with mistakes.
func TestFilesOfMCPClientsWithOddContent(t *testing.T) {
	one := func(entry string) string { return `{"mcpServers": {"a": ` + entry + `}}` }
	for name, test := range map[string]struct{ file, text, server, told string }{
		"null is nothing": {
			"a.json", one(`{"command": "x", "args": null, "env": null, "headers": null, "url": null, "type": null, "disabled": null, "cwd": null}`),
			"server a stdio x", "",
		},
		"a variable that is null is not passed": {"a.json", one(`{"command": "x", "env": {"A": null, "B": "b"}}`), "server a stdio x B=b", ""},
		"large numbers stay as they are": {
			"a.json", one(`{"command": "x", "args": [3000000], "env": {"A": 123456789012345678, "B": 0.5}}`),
			"server a stdio x 3000000 A=123456789012345678 B=0.5", "",
		},
		"large numbers of Codex, too": {"a.toml", "[mcp_servers.a]\ncommand = \"x\"\nargs = [3000000, 25000000.0]\n", "server a stdio x 3000000 25000000", ""},
		"a server twice":              {"a.json", "{\"mcpServers\": {\"a\": {\"command\": \"x\"},\n\"a\": {\"command\": \"y\"}}}", "", `a.json:2,1: the key "a" is in line 1 already`},
		"a variable twice, in a file with comments": {
			"a.json", "{ // c\n\"servers\": {\"a\": {\"command\": \"x\", \"env\": {\n\"A\": \"1\",\n\"A\": \"2\"}}}}", "",
			`a.json:4,1: the key "A" is in line 3 already`,
		},
		"two names that become one": {
			"a.json", "{\"mcpServers\": {\"a b\": {\"command\": \"x\"},\n\"a-b\": {\"command\": \"y\"}}}", "server a-b stdio x",
			`a.json:2,1: the server "a-b" is in a.json:1,17 already`,
		},
		"servers under two keys":           {"a.json", `{"mcpServers": {"a": {"command": "x"}}, "servers": {"b": {"command": "y"}}}`, "server a stdio x\nserver b stdio y", ""},
		"servers and a policy":             {"a.json", `{"mcpServers": {"a": {"command": "x"}}, "deniedMcpServers": []}`, "", "put them into two files"},
		"a list of servers":                {"a.json", `{"mcpServers": [{"name": "a", "command": "x"}]}`, "", "its servers are not an object"},
		"two URLs":                         {"a.json", one(`{"url": "https://a.example.com/", "httpUrl": "https://b.example.com/"}`), "", "it has two URLs"},
		"a transport in capitals":          {"a.json", one(`{"type": "SSE", "url": "https://a.example.com/"}`), "server a sse https://a.example.com/", ""},
		"a mark of Windows and comments":   {"a.json", "\xef\xbb\xbf{ // c\r\n\"servers\": {\"a\": {\"command\": \"x\",},}}", "server a stdio x", ""},
		"a mark of Windows, of Codex":      {"a.toml", "\xef\xbb\xbf[mcp_servers.a]\r\ncommand = \"x\"\r\n", "server a stdio x", ""},
		"UTF-16":                           {"a.json", "\xff\xfe{\x00", "", "a.json: it is in UTF-16: save it in UTF-8"},
		"a variable within another one":    {"a.json", one(`{"command": "x", "env": {"A": "${SET:-${B}}"}}`), "", "a variable stands within another one"},
		"a line as the command of Windows": {"a.json", one(`{"command": "cmd", "args": ["/c", "npx x --key=hunter2"]}`), "", "the command has a space"},
		"a line as the command":            {"a.json", one(`{"command": "npx @x/y --key=hunter2"}`), "", "the command has a space"},
		"a path with a space":              {"a.json", one(`{"command": "/opt/a b/c"}`), "server a stdio /opt/a b/c", ""},
		"a default of a name that is none": {"a.json", one(`{"command": "x", "env": {"A": "${API-KEY:-hunter2}"}}`), "", "knows ${API-KEY}"},
		"a password with braces":           {"a.json", one(`{"command": "x", "env": {"A": "x${hunter2!}"}}`), "", "knows ${…}"},
		"a password with a dollar":         {"a.json", one(`{"command": "x", "env": {"A": "$HUNTER2"}}`), "", "only Gemini CLI knows variables without braces"},
		"a dollar for a shell":             {"a.json", one(`{"command": "sh", "args": ["-c", "cd $HOME && x"]}`), "server a stdio sh -c cd $HOME && x", ""},
		"a token in a key of its own":      {"a.toml", "[mcp_servers.a]\nurl = \"https://a.example.com/\"\nbearer_token = \"hunter2\"\n", "server a http https://a.example.com/", `"bearer_token" is not taken: write it into headers`},
		"a text for a list of variables":   {"a.toml", "[mcp_servers.a]\ncommand = \"x\"\nenv_vars = \"A\"\n", "", "a.toml:3: server \"a\": write a list of names of variables here"},
		"the file that is open in VS Code": {"a.json", one(`{"command": "x", "args": ["${file}"]}`), "", "only the program that the file is for knows ${file}"},
		"a number that is not valid":       {"a.toml", "[mcp_servers.a]\nx = 1e999999\n", "", "a.toml: line 2: it is not valid TOML: a number is not valid"},
		"a variable in an argument":        {"a.json", one(`{"command": "x", "args": ["--token=${SET}"]}`), "server a stdio x --token=hunter2-set", `+ args = ["--token=${SET}"]`},
		"a variable in a URL":              {"a.json", one(`{"url": "https://a.example.com/${SET}/mcp?k=${SET}"}`), "server a http https://a.example.com/hunter2-set/mcp?k=hunter2-set", `+ url = "https://a.example.com/${SET}/mcp"`},
		"a header in an argument":          {"a.json", one(`{"command": "x", "args": ["--header", "Authorization: Bearer hunter2"]}`), "server a stdio x --header Authorization: Bearer hunter2", "argument 2 looks like a secret"},
	} {
		t.Run(name, func(t *testing.T) {
			servers, told := read(t, test.file, test.text)
			if test.server != "" {
				require.Equal(t, test.server, servers, told)
			}
			require.Contains(t, told, test.told)
			if test.told == "" {
				require.NotContains(t, told, "mistake")
			}
			require.NotContains(t, strings.ToLower(told), "hunter2")
		})
	}
}

func TestPlacesInALargeFileAreThoseOfItsKeys(t *testing.T) {
	f, err := openJSON("a.json", largeFile(1000))
	require.NoError(t, err)
	require.Equal(t, position{2, 1}, f.positions["projects.last"])
}

// BenchmarkPlaces shows that a file of a client with its history, which can be large, takes a
// time that grows as its size.
func BenchmarkPlaces(b *testing.B) {
	for _, entries := range []int{1000, 10_000, 100_000} {
		b.Run(fmt.Sprint(entries), func(b *testing.B) {
			content := largeFile(entries)
			b.SetBytes(int64(len(content)))
			for b.Loop() {
				_, err := openJSON("a.json", content)
				require.NoError(b, err)
			}
		})
	}
}

// largeFile is a file of Claude Code with that many projects, all in its first line.
func largeFile(projects int) []byte {
	var text strings.Builder
	text.WriteString(`{"mcpServers": {"a": {"command": "x"}}, "projects": {`)
	for i := range projects {
		fmt.Fprintf(&text, `"/home/dev/projects/%d": {"history": ["ä"]},`, i)
	}
	text.WriteString("\n\"last\": 1}}")
	return []byte(text.String())
}

// Without the note, nobody would find the second name in the file.
func TestNamesThatBecomeOneAreToldWithWhatTheyWere(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, ".mcp.json"), []byte("{\"mcpServers\": {\"@x/y\": {\"command\": \"x\"},\n\"x.y\": {\"command\": \"y\"}}}"), 0o600))
	vault, err := api.NewClient(&api.Config{Address: "http://127.0.0.1:1", MaxRetries: 0})
	require.NoError(t, err)
	var out strings.Builder
	err = Run(t.Context(), vault, Options{Dir: dir, Mount: "mcp", Out: &out})
	require.ErrorContains(t, err, `.mcp.json:2,1: the server "x-y" is in `+dir+`/.mcp.json:1,17 already`)
	require.Contains(t, out.String(), `.mcp.json:1,17: server "@x/y": it becomes "x-y"`)
	require.Contains(t, out.String(), `.mcp.json:2,1: server "x.y": it becomes "x-y"`)
}
