package commands

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"vault-plugin-secrets-mcp/test/harness"
)

// share is the output of scripts/man.sh, and the way in which shells find it.
type share struct {
	dir string
	env []string // with the programs on the PATH
}

func layOut(t *testing.T) share {
	t.Helper()
	programs := filepath.Dir(harness.FindPrograms(t).Bootstrap)
	s := share{dir: t.TempDir()}
	script := exec.Command("../../scripts/man.sh", s.dir, programs)
	out, err := script.CombinedOutput()
	require.NoError(t, err, "%s", out)
	s.env = append(os.Environ(), "PATH="+programs+":"+os.Getenv("PATH"), "HOME="+t.TempDir(), "TERM=xterm", "XDG_DATA_DIRS="+s.dir)
	return s
}

// need skips a test for want of a program, or fails it if TEST_FIELD is "required".
func need(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		if os.Getenv("TEST_FIELD") == "required" {
			t.Fatalf("%s is missing: scripts/field.sh install shells", program)
		}
		t.Skipf("%s is missing: scripts/field.sh install shells", program)
	}
}

// completions are lines, with their completions by the Tab key.
var completions = [][2]string{
	{"mcp-bootstrap appl", "mcp-bootstrap apply"},
	{"mcp-bootstrap pins d", "mcp-bootstrap pins diff"},
	{"mcp-bootstrap help pins app", "mcp-bootstrap help pins approve"},
	{"mcp-bootstrap doctor --gateway-c", "mcp-bootstrap doctor --gateway-config"},
	{"mcp-bootstrap review -format j", "mcp-bootstrap review -format json"},
	{"mcp-bootstrap review -format=j", "mcp-bootstrap review -format=json"},
	{"mcp-bootstrap apply -token-dir to", "mcp-bootstrap apply -token-dir tokens/"},
	{"mcp-gateway -log-level w", "mcp-gateway -log-level warn"},
	{"mcp-gateway -config gate", "mcp-gateway -config gateway.hcl"},
	{"mcp-gateway -config=gate", "mcp-gateway -config=gateway.hcl"},
	{"mcp-gateway -config my", `mcp-gateway -config my\ file.hcl`},
}

// place is a folder with the files that completions name.
func place(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"gateway.hcl", "my file.hcl", "to.hcl"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
	}
	require.NoError(t, os.Mkdir(filepath.Join(dir, "tokens"), 0o700))
	return dir
}

// TestShellsCompleteCommandsFlagsAndValues types at real shells, which find the completion
// where packages put it.
func TestShellsCompleteCommandsFlagsAndValues(t *testing.T) {
	s := layOut(t)
	t.Run("bash", func(t *testing.T) {
		need(t, "bash")
		start := filepath.Join(t.TempDir(), "bashrc")
		require.NoError(t, os.WriteFile(start, fmt.Appendf(nil, "PS1='READY '\n"+
			"for file in %s/bash-completion/completions/*; do . $file; done\n"+
			`shown() { echo "<$READLINE_LINE>"; READLINE_LINE=; }`+"\nbind -x '\"\\C-t\": shown'\n", s.dir), 0o600))
		typeAt(t, s, "bash", "--noprofile", "--rcfile", start, "-i")
	})
	t.Run("zsh", func(t *testing.T) {
		need(t, "zsh")
		home := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(home, ".zshrc"), fmt.Appendf(nil, "PS1='READY '\n"+
			"fpath=(%s/zsh/vendor-completions $fpath)\nautoload -U compinit\ncompinit -u -d %s/dump\n"+
			`shown() { print -r -- "<$BUFFER>"; BUFFER= }`+"\nzle -N shown\nbindkey '^T' shown\n", s.dir, home), 0o600))
		s.env = append(s.env, "ZDOTDIR="+home)
		typeAt(t, s, "zsh", "-o", "no_global_rcs", "-i")
	})
	t.Run("fish", func(t *testing.T) {
		need(t, "fish")
		dir := place(t)
		for _, one := range completions {
			cmd := exec.Command("fish", "-c", "complete -C $argv[1]", one[0])
			if testing.Verbose() {
				cmd.Stderr = os.Stderr
			}
			cmd.Dir, cmd.Env = dir, s.env
			out, err := cmd.Output()
			require.NoError(t, err)
			word, _, _ := strings.Cut(strings.TrimSuffix(string(out), "\n"), "\t")
			before := one[0][:strings.LastIndex(one[0], " ")+1]
			require.Equal(t, strings.ReplaceAll(one[1], `\`, ""), before+word, "%s", out)
		}
	})
}

// typeAt types each line at a shell's terminal, and then Tab. Ctrl-T shows what the line is
// then.
func typeAt(t *testing.T, s share, shell string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	terminal, inside := openTerminal(t)
	cmd := exec.CommandContext(ctx, shell, args...)
	cmd.Dir, cmd.Env = place(t), s.env
	cmd.Stdin, cmd.Stdout, cmd.Stderr = inside, inside, inside
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	require.NoError(t, cmd.Start())
	require.NoError(t, inside.Close()) // so that reading ends with the shell
	defer func() {
		cancel()
		_ = cmd.Wait()
	}()
	read(t, terminal, regexp.MustCompile(`READY `))
	for _, one := range completions {
		_, err := terminal.WriteString(one[0] + "\t\x14")
		require.NoError(t, err)
		shown := read(t, terminal, regexp.MustCompile(`<([^>]*)>`))
		require.Equal(t, one[1], strings.TrimRight(shown[1], " "))
	}
}

// read reads until a pattern is there.
func read(t *testing.T, terminal *os.File, pattern *regexp.Regexp) []string {
	t.Helper()
	var seen bytes.Buffer
	for chunk := make([]byte, 1024); ; {
		if found := pattern.FindStringSubmatch(seen.String()); found != nil {
			return found
		}
		n, err := terminal.Read(chunk)
		require.NoError(t, err, "%q", seen.String())
		seen.Write(chunk[:n])
	}
}

// openTerminal opens a terminal: the side of the person who types, and the side of a
// program.
func openTerminal(t *testing.T) (outside, inside *os.File) {
	t.Helper()
	outside, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = outside.Close() })
	require.NoError(t, unix.IoctlSetPointerInt(int(outside.Fd()), unix.TIOCSPTLCK, 0))
	require.NoError(t, unix.IoctlSetWinsize(int(outside.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 200}))
	number, err := unix.IoctlGetInt(int(outside.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	inside, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	require.NoError(t, err)
	return outside, inside
}

// TestThePageSaysHowToCompleteAndReadTheManual runs the block of docs/bootstrap.md.
func TestThePageSaysHowToCompleteAndReadTheManual(t *testing.T) {
	need(t, "man")
	s := layOut(t)
	page, err := os.ReadFile("../../docs/bootstrap.md")
	require.NoError(t, err)
	_, section, found := strings.Cut(string(page), "\n## Completion and manual\n")
	require.True(t, found)
	_, block, found := strings.Cut(section, "\n```sh\n")
	require.True(t, found)
	block, _, _ = strings.Cut(block, "\n```\n")
	cmd := exec.Command("bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", block+"\ncomplete -p mcp-bootstrap mcp-gateway")
	cmd.Env = slices.Concat(s.env, []string{"MANPAGER=cat"})
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	for _, want := range []string{"complete -F _mcp_bootstrap mcp-bootstrap\n", "complete -F _mcp_gateway mcp-gateway\n", "MCP-GATEWAY(1)", "MCP-BOOTSTRAP(1)"} {
		require.Contains(t, string(out), want)
	}
}

// TestManualPagesAreWithoutMistakes has groff read the pages, with all of its warnings.
func TestManualPagesAreWithoutMistakes(t *testing.T) {
	need(t, "groff")
	s := layOut(t)
	for _, name := range []string{"mcp-bootstrap", "mcp-gateway"} {
		cmd := exec.Command("groff", "-ww", "-man", "-Tutf8", "-P-cbou", filepath.Join(s.dir, "man1", name+".1"))
		var warnings bytes.Buffer
		cmd.Stderr = &warnings
		page, err := cmd.Output()
		require.NoError(t, err)
		require.Empty(t, warnings.String())
		require.Contains(t, string(page), "vault-plugin-secrets-mcp")
		for _, part := range []string{"NAME", "SYNOPSIS", "COMMANDS", "ENVIRONMENT", "EXIT STATUS", "SEE ALSO"} {
			require.Contains(t, string(page), part)
		}
	}
}
