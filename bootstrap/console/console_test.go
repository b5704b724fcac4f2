package console

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestLinesBreakBetweenWords(t *testing.T) {
	for _, test := range []struct {
		width        int
		indent, text string
		want         string
	}{
		{0, "  ", "a text that is as long as it likes", "a text that is as long as it likes"},
		{20, "      ", "run `mcp-bootstrap apply`, or name it", "run\n      `mcp-bootstrap\n      apply`, or\n      name it"},
		{20, "", "12345678901234567890 1234567890123456789012345 x", "12345678901234567890\n1234567890123456789012345\nx"},
		{20, "  ", "→→→→ →→→→ →→→→ →→→", "→→→→ →→→→ →→→→ →→→"},
		{20, "  ", "one\ntwo", "one\n  two"},
		{20, strings.Repeat(" ", 30), "no room at all", "no room at all"},
	} {
		if got := (Terminal{width: test.width}).Wrap(test.indent, test.text); got != test.want {
			t.Errorf("%d, %q:\n%s\nwant\n%s", test.width, test.text, got, test.want)
		}
	}
}

func TestColoursAreForTerminalsAlone(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var text strings.Builder
	if got := Of(file).Paint(Red, "x") + Of(&text).Paint(Red, "x"); got != "xx" {
		t.Errorf("%q", got)
	}
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	terminal := openTerminal(t, 40)
	if got := Of(terminal).Paint(Red, "x"); got != "\x1b[1;31mx\x1b[0m" {
		t.Errorf("%q", got)
	}
	if got := Of(terminal).Wrap("", strings.Repeat("word ", 10)); !strings.Contains(got, "\n") {
		t.Errorf("%q", got)
	}
	t.Setenv("NO_COLOR", "1")
	if got := Of(terminal).Paint(Red, "x"); got != "x" {
		t.Errorf("%q", got)
	}
}

// openTerminal is a terminal of so many columns.
func openTerminal(t *testing.T, columns uint16) *os.File {
	t.Helper()
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = terminal.Close() })
	if err := unix.IoctlSetWinsize(int(terminal.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns}); err != nil {
		t.Fatal(err)
	}
	return terminal
}
