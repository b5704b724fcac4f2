// Package console writes for people at a terminal: lines that break between words, and
// colour. A file or a pipe gets each message as one plain line.
package console

import (
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// Terminal has the properties of an output.
type Terminal struct {
	width int // 0: not a terminal, or one that does not say
	color bool
}

// Colours, as terminals know them.
const (
	Green  = "32"
	Red    = "1;31"
	Yellow = "33"
)

// narrowest is the width below which lines are not broken: some terminals report 0 or 1.
const narrowest = 20

// Of examines an output. It respects NO_COLOR and TERM=dumb.
func Of(out io.Writer) Terminal {
	file, ok := out.(*os.File)
	if !ok {
		return Terminal{}
	}
	size, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return Terminal{}
	}
	term := os.Getenv("TERM")
	t := Terminal{color: os.Getenv("NO_COLOR") == "" && term != "dumb" && term != ""}
	if size.Col >= narrowest {
		t.width = int(size.Col)
	}
	return t
}

// Paint colours a text, where the output shows colours.
func (t Terminal) Paint(color, text string) string {
	if !t.color {
		return text
	}
	return "\x1b[" + color + "m" + text + "\x1b[0m"
}

// Wrap breaks a text between words so that each line fits behind indent, which stands
// before every line but the first. The text's own line breaks are kept.
func (t Terminal) Wrap(indent, text string) string {
	room := t.width - utf8.RuneCountInString(indent)
	var out strings.Builder
	for i, line := range strings.Split(text, "\n") {
		if i > 0 {
			out.WriteString("\n" + indent)
		}
		if t.width == 0 || room <= 0 {
			out.WriteString(line)
			continue
		}
		used := 0
		for j, word := range strings.Split(line, " ") {
			length := utf8.RuneCountInString(word)
			switch {
			case j == 0:
			case used+1+length > room: // a word that is longer than a line has one of its own
				out.WriteString("\n" + indent)
				used = 0
			default:
				out.WriteString(" ")
				used++
			}
			out.WriteString(word)
			used += length
		}
	}
	return out.String()
}

// Fixed is a terminal of so many columns, for output that is not measured.
func Fixed(width int, color bool) Terminal { return Terminal{width: width, color: color} }

// Width is the number of columns; 0 where lines have no end.
func (t Terminal) Width() int { return t.width }

// Colored reports whether the output shows colours.
func (t Terminal) Colored() bool { return t.color }

// IsTerminal reports whether a file is a terminal, at which a person can be asked.
func IsTerminal(file *os.File) bool {
	_, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ)
	return err == nil
}
