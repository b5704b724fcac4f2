package pins

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/aymanbagabas/go-udiff/lcs"
	"golang.org/x/text/width"
)

// tokens parts a text into words, runs of spaces or line feeds, and single characters. A character that is
// spelled out for itself stands alone, so that it is a change of its own.
func tokens(text string) []string {
	const (
		single = iota
		word
		space
		feed
	)
	class := func(r rune) int {
		switch {
		case r == ' ':
			return space
		case r == '\n':
			return feed
		case hidden(r), moves(r):
			return single
		case r == '_', unicode.In(r, unicode.L, unicode.M, unicode.N):
			return word
		}
		return single
	}
	var all []string
	begin, last := 0, single
	for i, r := range text {
		if now := class(r); i > 0 && (now != last || now == single) {
			all = append(all, text[begin:i])
			begin = i
		}
		last = class(r)
	}
	if begin < len(text) {
		all = append(all, text[begin:])
	}
	return all
}

// token is a token with its place in the comparison.
type token struct {
	text   string
	marked bool // it is not in the other text
	note   bool // it stands for tokens that are left out
}

// plainTokens are tokens without marks.
func plainTokens(text string) []token {
	var all []token
	for _, t := range tokens(text) {
		all = append(all, token{text: t})
	}
	return all
}

// compareWords marks the differences of two texts, and shortens the long parts that they have in
// common.
func compareWords(was, is string) (before, after []token) {
	a, b := tokens(was), tokens(is)
	i := 0
	same := func(until int) {
		kept := shorten(a[i:until])
		before, after = append(before, kept...), append(after, kept...)
	}
	for _, d := range lcs.DiffLines(a, b) {
		same(d.Start)
		before, after = mark(before, a[d.Start:d.End]), mark(after, b[d.ReplStart:d.ReplEnd])
		i = d.End
	}
	same(len(a))
	return before, after
}

func mark(to []token, texts []string) []token {
	for _, text := range texts {
		to = append(to, token{text: text, marked: true})
	}
	return to
}

// Parts that two texts have in common are shown for so many tokens before and behind a change.
const (
	around     = 40
	leastShort = 3 * around // shorter parts are shown whole
)

func shorten(texts []string) []token {
	var all []token
	add := func(texts []string) {
		for _, text := range texts {
			all = append(all, token{text: text})
		}
	}
	if len(texts) < leastShort {
		add(texts)
		return all
	}
	left := texts[around : len(texts)-around]
	add(texts[:around])
	all = append(all, token{note: true, text: fmt.Sprintf(" […%d characters as approved…] ", len([]rune(strings.Join(left, ""))))})
	add(texts[len(texts)-around:])
	return all
}

// run is a part of a line that is shown in one way.
type run struct {
	text   string
	marked bool
}

// line is a line of a text, as it is shown.
type line []run

// columns is the number of columns that a text takes.
func columns(text string) int {
	n := 0
	for _, r := range text {
		switch {
		case unicode.In(r, unicode.Mn, unicode.Me):
		case width.LookupRune(r).Kind() == width.EastAsianWide, width.LookupRune(r).Kind() == width.EastAsianFullwidth:
			n += 2
		default:
			n++
		}
	}
	return n
}

func (l line) width() int {
	n := 0
	for _, r := range l {
		n += columns(r.text)
	}
	return n
}

// Longer runs are told by their number.
const (
	maxSpaces     = 8
	maxEmptyLines = 2
)

// setter sets tokens in lines of a width.
type setter struct {
	*speller

	room  int // 0: lines have no end
	lines []line
	line  line
	used  int
	chunk line // a word, which no line may part unless it is longer than one
	empty int  // lines before that have nothing in them
}

// set breaks tokens into lines: at line feeds, and between words where the room ends.
func (s *speller) set(all []token, room int) []line {
	t := &setter{speller: s, room: room}
	for i, token := range all {
		switch {
		case token.note:
			t.flush()
			t.hold(run{text: token.text})
			t.flush()
		case strings.HasPrefix(token.text, "\n"):
			t.feeds(token)
		case strings.HasPrefix(token.text, " "):
			t.spaces(token, alone(all, i))
		default:
			t.hold(run{t.word(token.text), token.marked})
		}
	}
	t.end()
	return t.lines
}

// feeds ends paragraphs. Line feeds that came or went are spelled out.
func (t *setter) feeds(token token) {
	n := len(token.text)
	switch {
	case token.marked && n > 1:
		t.hold(run{fmt.Sprintf("<%d LINE FEEDS>", n), true})
		n = 1
	case token.marked:
		t.hold(run{"<" + charName('\n') + ">", true})
	}
	for range n {
		t.end()
	}
}

// alone reports whether the change at i is one of white space and nothing else.
func alone(all []token, i int) bool {
	return (i == 0 || !all[i-1].marked) && (i+1 == len(all) || !all[i+1].marked)
}

func (t *setter) spaces(token token, alone bool) {
	t.flush()
	n := len(token.text)
	switch {
	case n > maxSpaces || token.marked && alone && n > 1:
		t.hold(run{manySpaces(token.text), token.marked})
		t.flush()
	case token.marked && alone:
		t.hold(run{"<" + charName(' ') + ">", true})
		t.flush()
	case t.room > 0 && t.used+n > t.room:
		t.wrap()
	default:
		t.put(run{token.text, token.marked})
	}
}

func manySpaces(spaces string) string { return fmt.Sprintf("<%d SPACES>", len(spaces)) }

func (t *setter) hold(r run) { t.chunk = append(t.chunk, r) }

// put adds to the line.
func (t *setter) put(r run) {
	t.used += columns(r.text)
	t.line = append(t.line, r)
}

// flush puts the chunk into the line, or into the next one where it has no room.
func (t *setter) flush() {
	if t.room > 0 && t.used > 0 && t.used+t.chunk.width() > t.room {
		t.wrap()
	}
	for _, r := range t.chunk {
		if t.room > 0 && t.used >= t.room {
			t.wrap()
		}
		for t.room > 0 {
			fits := cut(r.text, t.room-t.used)
			if fits == len(r.text) {
				break
			}
			t.put(run{r.text[:fits], r.marked})
			t.wrap()
			r.text = r.text[fits:]
		}
		t.put(r)
	}
	t.chunk = nil
}

// cut is the number of bytes that fit into so many columns, at least those of one character.
func cut(text string, room int) int {
	used := 0
	for i, r := range text {
		if used += columns(string(r)); used > room && i > 0 {
			return i
		}
	}
	return len(text)
}

// wrap begins another line. Spaces at the end of a line are not shown.
func (t *setter) wrap() {
	if t.empty > maxEmptyLines {
		t.lines = append(t.lines, line{{text: fmt.Sprintf("<%d EMPTY LINES>", t.empty)}})
	} else {
		t.lines = append(t.lines, make([]line, t.empty)...)
	}
	for last := len(t.line) - 1; last >= 0 && strings.Trim(t.line[last].text, " ") == ""; last-- {
		t.line = t.line[:last]
	}
	t.lines = append(t.lines, t.line)
	t.line, t.used, t.empty = nil, 0, 0
}

// end ends a paragraph.
func (t *setter) end() {
	if t.flush(); len(t.line) == 0 {
		t.empty++
		return
	}
	t.wrap()
}
