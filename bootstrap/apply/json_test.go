package apply

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// loaded are the files' mistakes and notes, one a line, without the folder's name.
func loaded(t *testing.T, files map[string]string) (mistakes string, d *desired) {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	}
	d, err := load(dir)
	require.NoError(t, err)
	if err := d.failure(nil); err != nil {
		mistakes = strings.ReplaceAll(err.Error(), dir+"/", "")
	}
	return mistakes, d
}

func TestAMistakeInJSONIsToldWithLineAndColumn(t *testing.T) {
	const secret = "a-secret-of-somebodys"
	for name, test := range map[string]struct{ content, want string }{
		"a comment":            {"{\n  // the client of CI\n  \"name\": \"a\"\n}", "a.json:2,3: it is not valid JSON: comments are not allowed: take it out"},
		"a comment at the end": {"{\"name\": \"a\", // of CI\n \"allowed_servers\": []}", "a.json:1,15: it is not valid JSON: comments are not allowed"},
		"a comment of C":       {"/* of CI */ {}", "a.json:1,1: it is not valid JSON: comments are not allowed"},
		"a comment behind it":  {"{}\n// of CI", "a.json:2,1: it is not valid JSON: comments are not allowed"},
		"a comment of a shell": {"# of CI\n{}", "a.json:1,1: it is not valid JSON: comments are not allowed"},
		"a comma too many":     {"{\"name\": \"a\",\n}", "a.json:2,1: it is not valid JSON: a comma stands before the '}': take it out"},
		"a comma too few":      {"{\"name\": \"a\"\n \"b\": 1}", "a.json:2,2: it is not valid JSON: invalid character '\"' after object key:value pair"},
		"single quotes":        {"{'name': 1}", "a.json:1,2: it is not valid JSON: texts stand in double quotation marks"},
		"an end too early":     {"{\"name\": ", "it is not valid JSON: it ends too early"},
		"something behind it":  {"{}\n{}", "a.json:2,1: it is not valid JSON: something stands after its end"},
		"nothing":              {" \n", "a.json: it is empty"},
		"a number":             {"5", "a.json:1,1: a number cannot stand here: write an object"},
		"a list of texts":      {"[\n  \"x\"]", "a.json:2,3: a string cannot stand here: write an object"},
		"an unknown thing":     {"\n {\"x\": 1}", "a.json:2,2: it has x, and it is not one of"},
		"an unknown field":     {"[{\"name\": \"a\",\n\"allowed_servers\": [],\n  \"allowed_tool\": []}]", "a.json:3,3: field \"allowed_tool\" is not known"},
		"a field of a wrong type": {
			"{\"name\": \"a\",\n  \"allowed_servers\": \"" + secret + "\"}", "a.json:2,3: field \"allowed_servers\": a string cannot stand here",
		},
		"a missing name":          {"\n{\"allowed_servers\": []}", "a.json:2,1: field \"name\" is missing"},
		"what the engine refuses": {"{\"name\": \"a\",\n \"allowed_servers\": [\"not fine\"]}", "a.json:2,2: client \"a\": field allowed_servers: "},
		"letters before it":       {"{\"name\": \"a\", \"description\": \"äöü\", \"allowed_servers\": [\"not fine\"]}", "a.json:1,37: client \"a\": field allowed_servers: "},
		"a byte order mark":       {"\xef\xbb\xbf{\"name\": 1, \"allowed_servers\": []}", "a.json:1,2: field \"name\": a number cannot stand here"},
		"a variable":              {"{\"name\": \"a\", \"transport\": \"http\", \"url\": \"https://a/mcp\",\n \"headers\": {\"A\": \"${NOT_SET_A}\"}}", "a.json:2,14: field headers.A: the environment variable NOT_SET_A is not set"},
		"a policy's entry":        {"{\"deniedMcpServers\": [{\"serverName\": \"a\"},\n  {\"server\": \"b\"}]}", "a.json:2,3: deniedMcpServers[1]: "},
		"a user of MCPJungle's":   {"{\"username\": \"alice\", \"role\": \"user\"}", "a.json:1,1: it is a user of MCPJungle"},
	} {
		t.Run(name, func(t *testing.T) {
			got, _ := loaded(t, map[string]string{"a.json": test.content})
			require.Contains(t, got, test.want)
			require.Contains(t, got, "the files have 1 mistake:")
			require.Equal(t, 1, strings.Count(got, "\n"), got)
			require.NotContains(t, got, secret)
		})
	}
}

func TestEveryMistakeIsCountedAndNoneHidesAnother(t *testing.T) {
	got, d := loaded(t, map[string]string{
		"a.json": `{"name": "Upper", "allowed_servers": ["not fine"], "access_token": "twice-twice-twice-twice"}`,
		"b.json": `{"name": "b", "allowed_servers": [], "access_token": "twice-twice-twice-twice"}`,
		"c.json": `{"deniedMcpServers": [{"serverName": 1}, {"server": "b"}], "allowedMcpServers": "x"}`,
		"d.json": `{"name": "d", "transport": "http", "url": "${NOT_SET_A}", "headers": {"A": "${NOT_SET_B}"}}`,
		"e.hcl":  "server \"e\" {\n  transport = \"http\"\n  url = \"https://e/mcp\"\n  headers = { A = env(\"NOT_SET_A\"), B = env(\"NOT_SET_B\") }\n}\n",
	})
	require.Len(t, d.mistakes, strings.Count(got, "\n  "), got)
	for _, want := range []string{
		`a.json:1,1: client "Upper": the client name "Upper" has an upper-case letter`, `a.json:1,19: client "Upper": field allowed_servers: `,
		`it has the token of the client`, "c.json:1,23: deniedMcpServers[0]: ", "c.json:1,42: deniedMcpServers[1]: ", "c.json:1,60: allowedMcpServers is a string",
		"d.json:1,36: field url: ", "d.json:1,71: field headers.A: ",
		"e.hcl:4,", "NOT_SET_B is not set",
	} {
		require.Contains(t, got, want)
	}
}

func TestAVariableThatIsMissingIsOneLine(t *testing.T) {
	got, d := loaded(t, map[string]string{"a.hcl": "server \"a\" {\n  transport = \"http\"\n  url = env(\"NOT_SET\")\n}\n"})
	require.Len(t, d.mistakes, 1)
	require.Equal(t, "nothing was changed, since the files have 1 mistake:\n  a.hcl:3,9: the environment variable NOT_SET is not set: set it where mcp-bootstrap runs", got)
}

func TestAFileOfAUserIsToldApart(t *testing.T) {
	got, d := loaded(t, map[string]string{
		"alice.json":  `{"name": "alice", "access_token": "a-token-of-29-characters-0123"}`,
		"client.json": `{"name": "bob", "allowed_servers": [], "access_token": "a-token-of-29-characters-4567"}`,
		"listed.json": `{"name": "carol", "allow_list": ["a"], "access_token": "a-token-of-29-characters-89ab"}`,
	})
	require.Empty(t, got)
	require.Len(t, d.notes, 1)
	require.Contains(t, d.notes[0], `alice.json:1,1: it names no servers, as MCPJungle's files of users do: here it becomes the MCP client "alice", which may reach none`)
}

func TestTheDifferenceHasTheUnitsOfTheFiles(t *testing.T) {
	require.Equal(t, []string{
		`+ allowed_servers = ["a"]`, `+ min_custom_token_length = 36`, `+ token_ttl = "720h"`,
	}, differences(map[string]any{"allowed_servers": []string{"a"}, "token_ttl": int64(2592000), "min_custom_token_length": int64(36)}, nil))
	require.Equal(t, []string{`~ max_ttl = "1h30m" (was "0")`}, differences(map[string]any{"max_ttl": int64(5400)}, map[string]any{"max_ttl": 0}))
	for seconds, want := range map[string]string{"3600": `"1h"`, "600": `"10m"`, "1200": `"20m"`, "36000": `"10h"`, "90": `"1m30s"`, "3605": `"1h5s"`, "45": `"45s"`, "0": `"0"`} {
		require.Equal(t, want, inUnits("token_ttl", seconds))
	}
}
