package export

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the files in testdata/ again")

func TestEveryFormatIsAsItsClientDocumentsIt(t *testing.T) {
	const gateway = "https://mcp.example.com"
	for name, in := range map[string]Input{
		"env":  {TokenEnv: "MCP_TOKEN"},
		"file": {TokenEnv: "MCP_TOKEN", PerServer: true, TokenFile: "/run/mcp-client/token", Helper: "/usr/local/bin/mcp-headers.sh"},
	} {
		in.Client, in.GatewayURL, in.Servers = "cursor-local", gateway, []string{"calculator", "github"}
		for _, f := range formats {
			if in.TokenFile != "" && !f.readsFile {
				continue
			}
			format := f.name
			t.Run(format+", token in the "+name, func(t *testing.T) {
				file, err := Write(format, in)
				require.NoError(t, err)
				require.NotEmpty(t, file.Notes)
				if format != "codex" {
					require.True(t, json.Valid([]byte(file.Content)))
				}
				golden := filepath.Join("testdata", format+"-"+name+".golden")
				if *update {
					require.NoError(t, os.WriteFile(golden, []byte(file.Content), 0o644))
				}
				want, err := os.ReadFile(golden)
				require.NoError(t, err)
				require.Equal(t, string(want), file.Content)
			})
		}
	}
}

func TestWhatCannotBeExportedIsSaid(t *testing.T) {
	good := Input{Client: "c", GatewayURL: "http://127.0.0.1:8080/", Servers: []string{"s"}, TokenEnv: "MCP_TOKEN"}
	for _, test := range []struct {
		name, format string
		change       func(*Input)
		want         string
	}{
		{"an unknown format", "emacs", func(*Input) {}, `no format "emacs": use one of claude-code`},
		{"an address without a scheme", "cursor", func(in *Input) { in.GatewayURL = "mcp.example.com" }, "-gateway-url"},
		{"an address with a user", "cursor", func(in *Input) { in.GatewayURL = "http://u@h" }, "-gateway-url"},
		{"a client that reaches nothing", "cursor", func(in *Input) { in.Servers = nil }, "may reach no server"},
		{"a variable that Claude Code sends empty", "claude-code", func(in *Input) { in.TokenEnv = "VAULT_TOKEN" }, "sends it empty"},
		{"a token's file, for a program that reads none", "codex", func(in *Input) { in.TokenFile = "/t" }, "codex cannot read a token from a file"},
		{"a variable that is not valid", "cursor", func(in *Input) { in.TokenEnv = "a b" }, "-token-env"},
	} {
		t.Run(test.name, func(t *testing.T) {
			in := good
			test.change(&in)
			_, err := Write(test.format, in)
			require.ErrorContains(t, err, test.want)
		})
	}
	file, err := Write("claude-desktop", good)
	require.NoError(t, err)
	require.Contains(t, file.Content, "--allow-http")
	require.NotContains(t, file.Content, "8080//", "the slash at the end of the address")
	require.True(t, strings.HasSuffix(file.Content, "\n"))
	good.GatewayURL = "http://127.0.0.1:8080/mcp"
	file, err = Write("cursor", good)
	require.NoError(t, err)
	require.Contains(t, file.Content, `"http://127.0.0.1:8080/mcp"`, "the URL of a client's configuration")
}
