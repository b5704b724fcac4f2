// Package docrun runs the commands of the pages in docs/, and compares their output with
// the output on the pages.
package docrun

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
)

// updateDocs makes RunPage write the output that it sees into the page, instead of
// comparing it: go test ./test/docs -run Docs -update-docs.
var updateDocs = flag.Bool("update-docs", false, "write the output of the commands in docs/ into the pages")

// Page is a page of docs/, cut at its console blocks.
type Page struct {
	path   string
	parts  []string // text, block, text, block, …
	blocks [][]Command
}

// Command is one "$ …" of a console block with the output that follows it.
type Command struct {
	Text   string
	Output string
}

var consoleBlock = regexp.MustCompile("(?s)```console\n(.*?)```")

// RunPage runs the commands of a page in one shell, beside the harness's Vault, so that
// the next command has a variable that one has set. It compares the output of each with
// the page. A line "…" in the page stands for any lines.
func RunPage(t *testing.T, h *harness.Harness, name string, env []string) {
	t.Helper()
	RunPageIn(t, h, t.TempDir(), name, env)
}

// RunPageIn is RunPage in a folder that has the files for the page.
func RunPageIn(t *testing.T, h *harness.Harness, dir, name string, env []string) {
	t.Helper()
	p := Read(t, name)
	commands := p.Commands()
	require.NotEmpty(t, commands, "the page has no command")
	outputs := runShell(t, h, dir, commands, env)
	if *updateDocs {
		p.update(t, h, outputs)
		return
	}
	WantOutputs(t, commands, outputs)
}

// WantOutputs fails the test if a command's output differs from the page.
func WantOutputs(t *testing.T, commands []Command, outputs []string) {
	t.Helper()
	for i, c := range commands {
		if want, got := normalize(c.Output), normalize(outputs[i]); !matches(want, got) {
			t.Errorf("$ %s\nthe page says:\n%s\nit prints:\n%s", c.Text, want, got)
		}
	}
}

// Commands are those of all blocks.
func (p *Page) Commands() []Command { return slices.Concat(p.blocks...) }

// Section returns the commands under headings of the second level, and those of the rest of
// the page.
func (p *Page) Section(headings ...string) (section, rest []Command) {
	current := ""
	for i, block := range p.blocks {
		for line := range strings.Lines(p.parts[i]) {
			if text, found := strings.CutPrefix(line, "## "); found {
				current = strings.TrimSpace(text)
			}
		}
		if slices.Contains(headings, current) {
			section = append(section, block...)
		} else {
			rest = append(rest, block...)
		}
	}
	return section, rest
}

// Read reads a page by its name in docs/, for a test in a folder of test/.
func Read(t *testing.T, name string) *Page {
	t.Helper()
	path := filepath.Join("..", "..", "docs", name)
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	p := &Page{path: path}
	last := 0
	for _, at := range consoleBlock.FindAllStringSubmatchIndex(string(content), -1) {
		p.parts = append(p.parts, string(content[last:at[2]]))
		p.blocks = append(p.blocks, commandsOf(string(content[at[2]:at[3]])))
		last = at[3]
	}
	p.parts = append(p.parts, string(content[last:]))
	return p
}

func commandsOf(block string) []Command {
	var commands []Command
	for line := range strings.Lines(block) {
		text, isCommand := strings.CutPrefix(line, "$ ")
		more, isContinued := strings.CutPrefix(line, "> ")
		switch n := len(commands) - 1; {
		case isCommand:
			commands = append(commands, Command{Text: strings.TrimSuffix(text, "\n")})
		case n >= 0 && commands[n].Output == "" && isContinued:
			commands[n].Text += "\n" + strings.TrimSuffix(more, "\n")
		case n >= 0:
			commands[n].Output += line
		}
	}
	return commands
}

// RunShell runs the commands with the harness's Vault on the PATH.
func RunShell(t *testing.T, h *harness.Harness, commands []Command, env []string) []string {
	t.Helper()
	return runShell(t, h, t.TempDir(), commands, env)
}

func runShell(t *testing.T, h *harness.Harness, dir string, commands []Command, env []string) []string {
	t.Helper()
	return Run(t, dir, commands, append([]string{
		"PATH=" + filepath.Dir(VaultBinary(t, dir)) + ":" + os.Getenv("PATH"),
		"VAULT_ADDR=" + h.Vault.Address(), "VAULT_TOKEN=" + h.Vault.RootToken,
	}, env...))
}

// Run runs the commands in one bash and returns the text that each printed, both outputs
// together.
func Run(t *testing.T, dir string, commands []Command, env []string) []string {
	t.Helper()
	const marker = "\x01\n"
	var script strings.Builder
	for _, c := range commands {
		fmt.Fprintf(&script, "%s\nprintf '\\001\\n'\n", c.Text)
	}
	cmd := exec.CommandContext(t.Context(), "bash")
	cmd.Dir = dir
	cmd.WaitDelay = time.Second
	cmd.Env = slices.Concat(harness.RaceEnv(), []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "VAULT_CLI_NO_COLOR=1"}, env)
	cmd.Stdin = strings.NewReader(script.String())
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Logf("the shell: %v", err)
	}
	outputs := strings.Split(out.String(), marker)
	require.Len(t, outputs, len(commands)+1, "the shell stopped early:\n%s", out.String())
	return outputs
}

// VaultBinary makes the Vault under test callable as "vault".
func VaultBinary(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "bin", "vault")
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.Symlink(harness.FindPrograms(t).Vault, path))
	return path
}

// volatile lists the texts that differ from run to run.
var volatile = []struct {
	form  *regexp.Regexp
	stand string
}{
	{regexp.MustCompile(`(mcp[tk]_)([0-9A-Za-z_-]{49,}|…)`), "${1}…"},
	{regexp.MustCompile(`\bhv[sb]\.[0-9A-Za-z_-]+|hvs\.…`), "hvs.…"},
	{regexp.MustCompile(`\b(vault-plugin-secrets-mcp)_[0-9a-f]{8}\b`), "${1}_ID"},
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "UUID"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`), "TIME"},
	{regexp.MustCompile(`\b[0-9a-f]{64}\b`), "DIGEST"},
	{regexp.MustCompile(`\b[0-9A-Za-z]{32}\b`), "ACCESSOR"},
	{regexp.MustCompile(`(mcp/creds/[a-z-]+/)[0-9A-Za-z]{24}`), "${1}LEASE"},
	{regexp.MustCompile(`\b[0-9A-Za-z]{24}\b`), "VAULT_ACCESSOR"},
	{regexp.MustCompile(`\b[0-9A-Za-z]{16}(\.\d+)?\b`), "ID${1}"},
	{regexp.MustCompile(`[A-Za-z0-9+/]{43}=`), "KEY"},
	{regexp.MustCompile(`(?m)("?index"?:?\s*)\d+`), "${1}N"},
	{regexp.MustCompile(`("(exp|iat)":)\d+`), "${1}N"},
	{regexp.MustCompile(`\b\d{4}-\d\d-\d\d( \d\d:\d\d)?\b`), "DAY"},
	{regexp.MustCompile(`\bvault-cluster-[0-9a-f]{8}\b`), "vault-cluster-ID"},
	{regexp.MustCompile(`http://127\.0\.0\.1:\d+`), "http://127.0.0.1:PORT"},
	{regexp.MustCompile(`(?m)[ \t]+$`), ""},
}

func normalize(s string) string {
	for _, v := range volatile {
		s = v.form.ReplaceAllString(s, v.stand)
	}
	s = remaining.ReplaceAllStringFunc(s, func(line string) string {
		parts := remaining.FindStringSubmatch(line)
		d, err := time.ParseDuration(parts[2])
		if err != nil {
			return line
		}
		return parts[1] + d.Round(time.Minute).String()
	})
	return strings.TrimSpace(s)
}

// remaining is a remaining time of at least minutes: a second or more may pass from one
// command to the next.
var remaining = regexp.MustCompile(`(?m)^((?:ttl|lease_duration) +)(\d\S*[hm]\S*)$`)

// matches compares; a line "…" stands for any lines.
func matches(want, got string) bool {
	var pattern strings.Builder
	pattern.WriteString(`(?s)\A`)
	for i, line := range strings.Split(want, "\n") {
		if line == "…" {
			pattern.WriteString(`.*`)
			continue
		}
		if i > 0 {
			pattern.WriteString(`\n?`)
		}
		pattern.WriteString(regexp.QuoteMeta(line))
	}
	pattern.WriteString(`\z`)
	return regexp.MustCompile(pattern.String()).MatchString(got)
}

// update writes the real outputs into the page. It shortens tokens, and keeps "…" where
// the page has that for an output.
func (p *Page) update(t *testing.T, h *harness.Harness, outputs []string) {
	t.Helper()
	var b strings.Builder
	next := 0
	for i, part := range p.parts {
		b.WriteString(part)
		if i == len(p.blocks) {
			break
		}
		for _, c := range p.blocks[i] {
			output := volatile[0].form.ReplaceAllString(outputs[next], volatile[0].stand)
			output = volatile[1].form.ReplaceAllString(output, volatile[1].stand)
			output = strings.ReplaceAll(output, h.Vault.Address(), "http://127.0.0.1:8200")
			output = regexp.MustCompile(`(?m)[ \t]+$`).ReplaceAllString(output, "")
			if strings.HasPrefix(c.Output, "…\n") || strings.Contains(c.Output, "\n…\n") {
				output = c.Output
			}
			if output != "" && !strings.HasSuffix(output, "\n") {
				output += "\n"
			}
			fmt.Fprintf(&b, "$ %s\n%s", strings.ReplaceAll(c.Text, "\n", "\n> "), output)
			next++
		}
	}
	require.NoError(t, os.WriteFile(p.path, []byte(b.String()), 0o644))
}
