package clients

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/mcpclient"
)

// exports is a stage of three servers, and a client that may reach two of them, for
// whom configurations are exported.
type exports struct {
	*stage
	client, token string
}

func newExports(t *testing.T) exports {
	t.Helper()
	s := newStage(t)
	for _, name := range []string{"calculator", "ledger"} {
		s.Write("mcp/servers/"+name, harness.Map{"transport": "http", "url": s.StartUpstream(nil).URL})
	}
	return exports{stage: s}
}

// in is for a subtest, with a client of its own.
func (x exports) in(t *testing.T) exports {
	t.Helper()
	s := x.stage.in(t)
	name := "editor-" + strconv.Itoa(len(s.List("mcp/clients")))
	token := s.CreateClient(name, harness.Map{"allowed_servers": "calculator,ledger"})
	s.introduce(t, token, "calculator", "ledger")
	return exports{s, name, token}
}

// export is the output of mcp-bootstrap export for the client.
func (x exports) export(t *testing.T, format string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), x.Programs.Bootstrap,
		append([]string{"export", "-client=" + x.client, "-gateway-url=" + x.gateway.URL, "-format=" + format}, args...)...)
	cmd.Env = append(harness.RaceEnv(), "PATH="+os.Getenv("PATH"), "VAULT_ADDR="+x.Vault.Address(), "VAULT_TOKEN="+x.Vault.RootToken)
	text, err := mcpclient.Output(cmd)
	require.NoError(t, err)
	return text
}

// exportEach is the same with an entry for each server.
func (x exports) exportEach(t *testing.T, format string, args ...string) string {
	t.Helper()
	return x.export(t, format, append([]string{"-per-server"}, args...)...)
}

// all says the same of both servers.
func all(status string) map[string]string {
	return map[string]string{"calculator": status, "ledger": status}
}

func write(t *testing.T, content string, path ...string) string {
	t.Helper()
	file := filepath.Join(path...)
	require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o700))
	require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
	return file
}

func TestClientsReadWhatIsExported(t *testing.T) {
	x := newExports(t)
	t.Run("Codex connects and calls a tool", func(t *testing.T) {
		x := x.in(t)
		home := x.codexHome(t, x.exportEach(t, "codex"))
		text, err := mcpclient.Output(x.codex(t, home, x.token, "mcp", "list", "--json"))
		require.NoError(t, err)
		var list []struct {
			Name      string
			Enabled   bool
			Transport struct {
				URL               string
				BearerTokenEnvVar string `json:"bearer_token_env_var"`
			}
		}
		require.NoError(t, json.Unmarshal([]byte(text), &list))
		require.Len(t, list, 2)
		for _, server := range list {
			require.Equal(t, x.gateway.ServerURL(server.Name), server.Transport.URL)
			require.Equal(t, "MCP_TOKEN", server.Transport.BearerTokenEnvVar)
			require.True(t, server.Enabled)
		}
		for _, name := range []string{"calculator", "ledger"} {
			c, err := x.startCodex(t, home, x.token, name)
			require.NoError(t, err)
			answer, err := c.callTool("add", harness.Map{"a": 40, "b": 2})
			require.NoError(t, err)
			require.Contains(t, answer, "42")
		}
		c, err := x.startCodex(t, x.codexHome(t, x.export(t, "codex")), x.token, "mcp")
		require.NoError(t, err)
		tools, err := c.Tools()
		require.NoError(t, err)
		require.Subset(t, tools, []string{"calculator__add", "ledger__add"})
		require.Len(t, tools, 8, "four of each")
	})
	t.Run("Gemini CLI connects", func(t *testing.T) {
		x := x.in(t)
		home := t.TempDir()
		settings := write(t, x.exportEach(t, "gemini"), home, ".gemini", "settings.json")
		lists := func(token string) map[string]string {
			cmd := x.Program(t, "gemini", "mcp", "list")
			cmd.Dir = home
			cmd.Env = append(x.environment(home), "MCP_TOKEN="+token, "GEMINI_CLI_TRUST_WORKSPACE=true")
			var text bytes.Buffer
			cmd.Stdout, cmd.Stderr = &text, &text // it lists on either
			require.NoError(t, cmd.Run(), text.String())
			servers := map[string]string{}
			for _, line := range regexp.MustCompile(`(?m)^\S ([\w-]+): \S+ \(http\) - (.*)$`).FindAllStringSubmatch(text.String(), -1) {
				servers[line[1]] = line[2]
			}
			require.NotEmpty(t, servers, text.String())
			return servers
		}
		require.Equal(t, all("Connected"), lists(x.token))
		require.Equal(t, all("Disconnected"), lists("unknown"))
		write(t, x.export(t, "gemini"), settings)
		require.Equal(t, map[string]string{"mcp": "Connected"}, lists(x.token))
	})
	t.Run("mcp-remote connects with the arguments for Claude Desktop", func(t *testing.T) {
		x := x.in(t)
		file := write(t, "Authorization: Bearer "+x.token+"\n", t.TempDir(), "header")
		for name, token := range map[string]struct{ args, env []string }{
			"in the environment": {nil, []string{"MCP_TOKEN=Bearer " + x.token}},
			"in a file":          {[]string{"-token-file=" + file}, nil},
		} {
			t.Run("the token "+name, func(t *testing.T) {
				var config struct {
					Servers map[string]struct {
						Command string
						Args    []string
					} `json:"mcpServers"`
				}
				require.NoError(t, json.Unmarshal([]byte(x.exportEach(t, "claude-desktop", token.args...)), &config))
				require.Len(t, config.Servers, 2)
				for name, server := range config.Servers {
					require.Equal(t, "npx", server.Command)
					require.Equal(t, []string{"-y", "mcp-remote"}, server.Args[:2])
					session, err := x.Remote(t, "", server.Args[2:], token.env...)
					require.NoError(t, err, name)
					tools, err := session.Tools()
					require.NoError(t, err)
					require.Contains(t, tools, "add")
				}
			})
		}
	})
	// Neither has a program that could be asked here. mcporter imports their servers.
	t.Run("mcporter finds the servers in the files of Cursor and VS Code", func(t *testing.T) {
		x := x.in(t)
		for format, path := range map[string]string{"cursor": ".cursor/mcp.json", "vscode": ".vscode/mcp.json"} {
			t.Run(format, func(t *testing.T) {
				cmd := x.Program(t, "mcporter", "config", "list", "--json", "--source", "import")
				write(t, x.exportEach(t, format), cmd.Dir, path)
				text, err := mcpclient.Output(cmd)
				require.NoError(t, err)
				var list struct {
					Servers []struct {
						Name, BaseURL string
						Source        struct{ ImportKind string }
						Headers       map[string]string
					}
				}
				require.NoError(t, json.Unmarshal([]byte(text), &list))
				require.Len(t, list.Servers, 2)
				for _, server := range list.Servers {
					require.Equal(t, format, server.Source.ImportKind)
					require.Equal(t, x.gateway.ServerURL(server.Name), server.BaseURL)
					require.True(t, strings.HasPrefix(server.Headers["Authorization"], "Bearer ${"))
				}
			})
		}
	})
	t.Run("the file of VS Code has only what its schema knows", func(t *testing.T) {
		x := x.in(t)
		type input struct {
			Type, ID, Description string
			Password              bool
		}
		var config struct {
			Inputs  []input `json:"inputs"`
			Servers map[string]struct {
				Type, URL string
				Headers   map[string]string
			} `json:"servers"`
		}
		decoder := json.NewDecoder(strings.NewReader(x.exportEach(t, "vscode")))
		decoder.DisallowUnknownFields()
		require.NoError(t, decoder.Decode(&config))
		require.Len(t, config.Servers, 2)
		for _, server := range config.Servers {
			require.Contains(t, []string{"http", "sse"}, server.Type)
			require.Regexp(t, `^https?://.+`, server.URL)
			id, found := strings.CutPrefix(strings.TrimSuffix(server.Headers["Authorization"], "}"), "Bearer ${input:")
			require.True(t, found)
			i := slices.IndexFunc(config.Inputs, func(in input) bool { return in.ID == id })
			require.GreaterOrEqual(t, i, 0)
			require.Equal(t, "promptString", config.Inputs[i].Type)
			require.True(t, config.Inputs[i].Password)
		}
	})
	require.Zero(t, x.off.Count())
}
