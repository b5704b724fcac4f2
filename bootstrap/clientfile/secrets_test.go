package clientfile

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestArgumentsThatLookLikeSecretsAreToldAndNotShown(t *testing.T) {
	for name, test := range map[string]struct {
		args []string
		want []string // as they are shown
	}{
		"an option with its value":              {[]string{"--api-key=hunter2"}, []string{"--api-key=…"}},
		"a value after its option":              {[]string{"--token", "hunter2"}, []string{"--token", "…"}},
		"a short option's value":                {[]string{"-password", "hunter2"}, []string{"-password", "…"}},
		"a variable of a container":             {[]string{"-e", "GITHUB_TOKEN=hunter2"}, []string{"-e", "GITHUB_TOKEN=…"}},
		"a header":                              {[]string{"--header", "Authorization: Bearer hunter2"}, []string{"--header", "Authorization:…"}},
		"a header in one word":                  {[]string{"--header=Authorization:hunter2"}, []string{"--header=Authorization:…"}},
		"a header with a key":                   {[]string{"--header", "X-Api-Key: hunter2"}, []string{"--header", "X-Api-Key:…"}},
		"a URL with a password":                 {[]string{"postgresql://user:hunter2@db/x"}, []string{"postgresql://…"}},
		"a URL with a key in its query":         {[]string{"https://x.example.com/mcp?api_key=hunter2"}, []string{"https://…"}},
		"a variable":                            {[]string{"--token", "${SET}"}, []string{"--token", "${SET}"}},
		"a variable that is not for a secret":   {[]string{"--root=${SET}"}, []string{"--root=${SET}"}},
		"a variable with a default":             {[]string{"--root=${UNSET:-hunter2}"}, []string{"--root=${UNSET}"}},
		"a variable that a container is passed": {[]string{"-e", "GITHUB_TOKEN"}, []string{"-e", "GITHUB_TOKEN"}},
		"an option without a value":             {[]string{"--use-token", "--verbose"}, []string{"--use-token", "--verbose"}},
		"others":                                {[]string{"-y", "@scope/keycloak-mcp", "--port=80", "https://x.example.com/?a=b"}, []string{"-y", "@scope/keycloak-mcp", "--port=80", "https://x.example.com/?a=b"}},
	} {
		t.Run(name, func(t *testing.T) {
			args := make([]any, 0, len(test.args))
			for _, arg := range test.args {
				args = append(args, arg)
			}
			read := Read(map[string]any{keyServers: map[string]any{"a": map[string]any{"command": "x", "args": args}}},
				func(name string) (string, bool) { return "hunter2", name == "SET" })
			require.Empty(t, read.Problems)
			shown := []string{}
			for _, arg := range read.Servers[0].Args {
				if instead, found := read.Servers[0].Shown[arg]; found {
					arg = instead
				}
				shown = append(shown, arg)
			}
			require.Equal(t, test.want, shown)
			concealed := strings.Contains(strings.Join(shown, " "), "…")
			require.Equal(t, concealed || name == "a variable", len(read.Notes) == 1, read.Notes)
		})
	}
}
