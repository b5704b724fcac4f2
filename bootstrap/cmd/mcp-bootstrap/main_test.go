package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vault-plugin-secrets-mcp/backend/version"
	"vault-plugin-secrets-mcp/gateway/commandline"
	"vault-plugin-secrets-mcp/gateway/commandline/commandlinetest"
)

func TestArguments(t *testing.T) {
	t.Setenv("MCP_GATEWAY_URL", "")
	for _, test := range []struct {
		name   string
		args   []string
		status int
		want   string // on standard output where the status is 0, else on standard error
	}{
		{"none: the usage", nil, 2, "Usage: mcp-bootstrap"},
		{"an unknown command is named, and the one that was meant", []string{"devv"}, 2, `there is no command "devv"; did you mean dev?`},
		{"a failure is told", []string{"dev", "-vault-binary", "/no/vault"}, 1, "mcp-bootstrap: cannot run Vault"},
		{"an unknown flag", []string{"dev", "-x"}, 2, "mcp-bootstrap dev: flag provided but not defined: -x; there are -admin-address, -agent"},
		{"a flag without its value", []string{"dev", "-dir"}, 2, "needs an argument"},
		{"an argument too many", []string{"dev", "x"}, 2, `it takes no argument "x"`},
		{"an unknown demo", []string{"demo", "x"}, 2, "Usage: mcp-bootstrap demo"},
		{"an address in use or wrong", []string{"demo", "calculator", "-address", "nowhere"}, 1, "cannot listen"},
		{
			"a form and a time that no review has",
			[]string{"review", "-format", "xml", "-days", "0"},
			2,
			"mcp-bootstrap review: there is no -format xml: take one of text, csv, json, html\n" +
				"mcp-bootstrap review: -days 0 is not between 1 and 366",
		},
		{"an earlier review that is missing", []string{"review", "-against", "/no/review"}, 1, "cannot read the earlier review: open /no/review"},
		{"no command about pins", []string{"pins", "x"}, 2, "Usage: mcp-bootstrap pins list"},
		{"how to withdraw", []string{"pins", "-h"}, 0, "vault write mcp/pins/SERVER withdraw=NAME kind=KIND digest=DIGEST"},
		{"pins of no server", []string{"pins", "diff"}, 2, "mcp-bootstrap pins diff: SERVER is missing"},
		{"a name of no server", []string{"pins", "diff", "a/b"}, 2, `"a/b" is not a valid server name`},
		{"an approval without a look", []string{"pins", "approve", "github", "search", "-yes"}, 2, "-yes alone approves definitions that nobody has looked at"},
		{
			"flags about pins, behind the names",
			[]string{"pins", "approve", "github", "-kind", "tools", "search", "-digest=sha256:00", "-format", "json"},
			2,
			"flag provided but not defined: -format; there are -digest, -kind, -mount, -shown, -yes",
		},
		{
			"all mistakes about pins",
			[]string{"pins", "list", "github", "-kind", "tools", "search", "-digest=sha256:00", "-format", "xml"},
			2,
			"mcp-bootstrap pins list: there is no -format xml: take one of text, json\n" +
				`mcp-bootstrap pins list: "tools" is not a valid kind: it is tool, prompt, resource, template, instructions, server or page` + "\n" +
				`mcp-bootstrap pins list: "sha256:00" is not a valid digest`,
		},
		{"a folder that is missing", []string{"apply"}, 2, "mcp-bootstrap apply: -f DIR is missing"},
		{"all flags that are missing", []string{"export"}, 2, "-client NAME is missing: the client's name\n" +
			"mcp-bootstrap export: -format FORMAT is missing: the format, one of: claude-code, cursor, vscode, claude-desktop, codex, gemini, managed-mcp, managed-settings\n" +
			"mcp-bootstrap export: -gateway-url URL is missing"},
		{"some flags that are missing, and a wrong one", []string{"export", "-client", "a", "-format", "emacs"}, 2, "-gateway-url URL is missing: the gateway's URL, " +
			"such as https://mcp.example.com (default: MCP_GATEWAY_URL)\nmcp-bootstrap export: there is no -format emacs"},
		{"help for a command that is none", []string{"help", "x"}, 2, `there is no command "x"`},
		{"a version of something", []string{"version", "x"}, 2, `takes no argument "x"`},

		{"-h", []string{"-h"}, 0, "Usage: mcp-bootstrap COMMAND"},
		{"-help", []string{"-help"}, 0, "Usage: mcp-bootstrap COMMAND"},
		{"--help", []string{"--help"}, 0, "Usage: mcp-bootstrap COMMAND"},
		{"help", []string{"help"}, 0, "Usage: mcp-bootstrap COMMAND"},
		{"help for help", []string{"help", "help"}, 0, "Usage: mcp-bootstrap COMMAND"},
		{"version", []string{"version"}, 0, version.String() + "\n"},
		{"-version", []string{"-version"}, 0, version.String() + "\n"},
		{"--version", []string{"--version"}, 0, version.String() + "\n"},
		{"help for the version", []string{"help", "version"}, 0, "Usage: mcp-bootstrap version"},
	} {
		t.Run(test.name, func(t *testing.T) { checkRun(t, test.args, test.status, test.want) })
	}
}

func TestEachCommandAndFlagIsInHelpCompletionAndManual(t *testing.T) {
	commandlinetest.Check(t, program)
	checkRun(t, []string{"help", "demo", "calculator"}, 0, "-address")
	checkRun(t, []string{"help", "pins", "approve"}, 0, "-shown")
	checkRun(t, []string{"help", "apply"}, 0, "-dry-run")
}

// TestThePageIsTheSameOnEveryMachine: packages of one commit are.
func TestThePageIsTheSameOnEveryMachine(t *testing.T) {
	var here, there strings.Builder
	if err := program().Man(&here); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"MCP_GATEWAY_URL", "MCP_GATEWAY_ADMIN_URL", "MCP_TOKEN", "VAULT_ADDR", "VAULT_TOKEN"} {
		t.Setenv(name, "https://there.example.com")
	}
	if err := program().Man(&there); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if here.String() != there.String() || strings.Contains(strings.ReplaceAll(here.String(), `\-`, "-"), filepath.Dir(self)) {
		t.Errorf("the page has something of this machine:\n%s", there.String())
	}
}

// checkRun wants text on standard output alone where the status is 0, and on standard
// error alone otherwise.
func checkRun(t *testing.T, args []string, status int, want string) {
	t.Helper()
	var stdout, stderr strings.Builder
	if got := program().Main(t.Context(), args, commandline.Streams{Stdout: &stdout, Stderr: &stderr}); got != status {
		t.Errorf("status %d, want %d", got, status)
	}
	text, other := stdout.String(), stderr.String()
	if status != 0 {
		text, other = other, text
	}
	if !strings.Contains(text, want) {
		t.Errorf("%q is missing in %q", want, text)
	}
	if other != "" {
		t.Errorf("the other stream has %q", other)
	}
}
