package pins

import (
	"fmt"
	"io"
	"strings"
	"time"

	"vault-plugin-secrets-mcp/bootstrap/console"
)

// Colours of words that are not in the other text: they are underlined, too.
const (
	markOld = "4;31"
	markNew = "4;32"
	bold    = "1"
	warning = "33"
)

// Widths of a terminal.
const (
	wide    = 100 // from here on two texts stand side by side
	indent  = "      "
	divider = " │ "
)

// shower writes differences for people.
type shower struct {
	out   io.Writer
	term  console.Terminal
	found map[rune]int // characters that were spelled out in the present definition
}

func (w *shower) print(format string, values ...any) { fmt.Fprintf(w.out, format, values...) }

// item shows a definition: its head, and its changes.
func (w *shower) item(server string, it *Item) {
	w.found = map[rune]int{}
	w.print("%s\n", w.term.Paint(bold, fmt.Sprintf("%s: %s, %s", server, title(it.Name), it.Change)))
	if it.Approved != nil {
		w.print("  approved %s, %s\n", it.Approved.Digest, approvedBy(it.Approved))
	}
	if it.Reported != nil {
		w.print("  reported %s, %s\n", it.Reported.Digest, day(it.Reported.At))
	}
	for _, note := range it.Notes {
		w.print("  %s\n", w.term.Paint(warning, w.term.Wrap("  ", note)))
	}
	for i := range it.Changes {
		w.change(&it.Changes[i])
	}
	if len(w.found) > 0 {
		w.print("  %s\n", w.term.Paint(warning, w.term.Wrap("  ", "Spelled out above: "+told(w.found)+".")))
	}
	w.print("\n")
}

// title names a definition: tool "search".
func title(n Name) string {
	if !n.Kind.Named() {
		return string(n.Kind)
	}
	return string(n.Kind) + " " + quoted(n.Name)
}

func approvedBy(e *Entry) string {
	switch {
	case e.FirstSeen:
		return day(e.At) + ", first seen"
	case e.By != "":
		return day(e.At) + " by " + quoted(e.By)
	}
	return day(e.At)
}

func day(at time.Time) string { return at.UTC().Format("2006-01-02 15:04") }

func (w *shower) change(c *Change) {
	path := c.Path
	if path != "" {
		path += ": "
	}
	switch c.What {
	case Added:
		w.value("+", console.Green, path, c.Is)
	case Removed:
		w.value("-", console.Red, path, c.Was)
	case Changed:
		w.oneLine("~", "", path+w.short(c.Was)+" → "+w.short(c.Is))
	case Members:
		w.oneLine("~", "", path+strings.TrimSpace(w.members("-", c.Was)+" "+w.members("+", c.Is)))
	case Reordered:
		w.oneLine("~", "", path+"in another order: "+w.asJSON(c.Was)+" → "+w.asJSON(c.Is))
	case Text:
		w.oneLine("~", "", strings.TrimSuffix(path, " "))
		w.texts(c.Was.(string), c.Is.(string)) //nolint:forcetypeassert // see values
	}
}

// value shows a value of one definition alone. Prose is set in lines.
func (w *shower) value(sign, color, path string, value any) {
	text, ok := value.(string)
	if !ok || !isProse(text) {
		w.oneLine(sign, color, path+w.short(value))
		return
	}
	w.oneLine(sign, color, strings.TrimSuffix(path, " "))
	speller := newSpeller(text, false, w.found)
	for _, l := range speller.set(plainTokens(text), w.room(len(indent))) {
		w.print("%s\n", strings.TrimRight(indent+w.paint(l, ""), " "))
	}
}

func (w *shower) oneLine(sign, color, text string) {
	if text == "" {
		return
	}
	text = w.term.Wrap(indent, text)
	if color != "" {
		text = w.term.Paint(color, text)
	}
	w.print("  %s %s\n", sign, text)
}

// short is a value in one line: one word without quotes, everything else as JSON.
func (w *shower) short(value any) string {
	if text, ok := value.(string); ok && word.MatchString(text) && text != "true" && text != "false" && text != "null" {
		return text
	}
	return w.asJSON(value)
}

func (w *shower) asJSON(value any) string {
	text := compact(value)
	return newSpeller(text, false, w.found).inLine(text)
}

func (w *shower) members(sign string, list any) string {
	values, _ := list.([]any)
	texts := make([]string, 0, len(values))
	for _, value := range values {
		texts = append(texts, sign+" "+w.asJSON(value))
	}
	return strings.Join(texts, " ")
}

// texts shows two texts, side by side where there is room.
func (w *shower) texts(was, is string) {
	before, after := compareWords(was, is)
	old, current := newSpeller(was, false, w.found), newSpeller(is, false, w.found)
	if w.term.Width() >= wide {
		room := (w.room(len(indent)) - columns(divider)) / 2
		w.beside(old.set(before, room), current.set(after, room), room)
		return
	}
	room := w.room(len(indent) + len("- "))
	w.below(indent+w.term.Paint(console.Red, "-")+" ", old.set(before, room), markOld)
	w.below(indent+w.term.Paint(console.Green, "+")+" ", current.set(after, room), markNew)
}

// room is the width of a text behind an indent; 0 where lines have no end.
func (w *shower) room(indent int) int { return max(w.term.Width()-indent, 0) }

// below shows one of two texts.
func (w *shower) below(sign string, lines []line, mark string) {
	for _, l := range lines {
		w.print("%s\n", strings.TrimRight(sign+w.paint(l, mark), " "))
		if carets := w.carets(l); carets != "" {
			w.print("%s  %s\n", indent, carets)
		}
	}
}

// beside shows two texts in two columns.
func (w *shower) beside(left, right []line, room int) {
	nth := func(lines []line, i int) line {
		if i < len(lines) {
			return lines[i]
		}
		return nil
	}
	row := func(left string, used int, right string) {
		w.print("%s\n", strings.TrimRight(indent+left+strings.Repeat(" ", max(room-used, 0))+divider+right, " "))
	}
	for i := range max(len(left), len(right)) {
		l, r := nth(left, i), nth(right, i)
		row(w.paint(l, markOld), l.width(), w.paint(r, markNew))
		if a, b := w.carets(l), w.carets(r); a != "" || b != "" {
			row(a, len(a), b)
		}
	}
}

// paint is a line with its marks in colour.
func (w *shower) paint(l line, mark string) string {
	var out, same strings.Builder
	for i, r := range l {
		same.WriteString(r.text)
		if i+1 < len(l) && l[i+1].marked == r.marked {
			continue
		}
		if r.marked {
			out.WriteString(w.term.Paint(mark, same.String()))
		} else {
			out.WriteString(same.String())
		}
		same.Reset()
	}
	return out.String()
}

// carets is the line of marks below a line, used without colours; "" if no part is marked.
func (w *shower) carets(l line) string {
	var out strings.Builder
	for _, r := range l {
		mark := " "
		if r.marked {
			mark = "^"
		}
		out.WriteString(strings.Repeat(mark, columns(r.text)))
	}
	if w.term.Colored() {
		return ""
	}
	return strings.TrimRight(out.String(), " ")
}
