package pins

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"go.mau.fi/util/confusable"
	"golang.org/x/text/unicode/bidi"
	"golang.org/x/text/unicode/runenames"
)

// speller spells out characters of one text: <U+200B ZERO WIDTH SPACE>. These are
//
//   - those that are not seen: control characters, formats, spaces but the ordinary one,
//     fillers, selectors of variants, code points that Unicode has not assigned,
//   - those that move others: letters that are written from right to left, marks that are put
//     on any letter, and marks beyond the second on one letter,
//   - those that look like characters of ASCII by Unicode's data (UTS 39), in a word that also
//     has letters of ASCII, or that consists of such characters alone,
//   - in names and keys: all beyond ASCII.
type speller struct {
	name  bool // the text is a name
	latin bool // the text has letters of ASCII
	found map[rune]int
}

// typography are characters that look like others, and occur in ordinary texts.
const typography = "‘’‚“”„–—…−×•·′″"

func newSpeller(text string, name bool, found map[rune]int) *speller {
	return &speller{name: name, latin: strings.ContainsFunc(text, isASCIILetter), found: found}
}

// word spells out a token: a word, or one character.
func (s *speller) word(token string) string {
	var out strings.Builder
	mixed := strings.ContainsFunc(token, isASCIILetter)
	alike := s.latin && !strings.ContainsFunc(token, func(r rune) bool { return r < unicode.MaxASCII || likeASCII(r) == "" })
	marks := 0
	for _, r := range token {
		if marks++; !unicode.IsMark(r) {
			marks = 0
		}
		like := likeASCII(r)
		switch {
		case hidden(r), moves(r), marks > 2, s.name && r > unicode.MaxASCII:
		case like != "" && (mixed || alike) && !strings.ContainsRune(typography, r):
		default:
			out.WriteRune(r)
			continue
		}
		s.found[r]++
		out.WriteString("<" + charName(r))
		if like != "" && !hidden(r) {
			out.WriteString(": looks like " + like)
		}
		out.WriteString(">")
	}
	return out.String()
}

// inLine spells out a text that stands in one line. It replaces long runs of spaces by their
// number, since they would push the text after them out of sight.
func (s *speller) inLine(text string) string {
	var out strings.Builder
	for _, token := range tokens(text) {
		if len(token) > maxSpaces && token[0] == ' ' {
			token = manySpaces(token)
		}
		out.WriteString(s.word(token))
	}
	return out.String()
}

// quoted is a name in quotes, spelled out.
func quoted(name string) string {
	text := compact(name)
	return newSpeller(text, true, map[rune]int{}).inLine(text)
}

// compact is a value as JSON in one line, without the escapes that HTML needs.
func compact(value any) string {
	var out strings.Builder
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil {
		panic(err) // values of JSON, and strings, always have this form
	}
	return strings.TrimSuffix(out.String(), "\n")
}

func isASCIILetter(r rune) bool { return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' }

// blanks are invisible letters and symbols: of braille, of hieroglyphs and of musical notes,
// and the characters that replace an object or an unreadable byte.
const blanks = "\u2800\U00013441\U00013442\U0001d159\ufffc\ufffd"

// hidden reports whether a character leaves no ink of its own.
func hidden(r rune) bool {
	return !unicode.IsPrint(r) || strings.ContainsRune(blanks, r) ||
		unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// moves reports whether a character changes where others stand.
func moves(r rune) bool {
	if r <= unicode.MaxASCII {
		return false
	}
	properties, _ := bidi.LookupRune(r)
	switch properties.Class() {
	case bidi.R, bidi.AL, bidi.AN:
		return true
	}
	return unicode.Is(unicode.Inherited, r)
}

// likeASCII returns the ASCII that a character beyond ASCII looks like; "" if it looks like none.
func likeASCII(r rune) string {
	if r <= unicode.MaxASCII {
		return ""
	}
	like := confusable.GetReplacement(r)
	if strings.ContainsFunc(like, func(r rune) bool { return r > unicode.MaxASCII }) {
		return ""
	}
	return like
}

// controls are the names of the control characters that terminals act on. Unicode has none.
var controls = map[rune]string{
	0x00: "NULL", 0x07: "BELL", 0x08: "BACKSPACE", 0x09: "TAB", 0x0a: "LINE FEED", 0x0b: "LINE TABULATION", 0x0c: "FORM FEED",
	0x0d: "CARRIAGE RETURN", 0x0e: "SHIFT OUT", 0x0f: "SHIFT IN", 0x1b: "ESCAPE", 0x7f: "DELETE", 0x85: "NEXT LINE",
	0x90: "DEVICE CONTROL STRING", 0x9b: "CONTROL SEQUENCE INTRODUCER", 0x9c: "STRING TERMINATOR", 0x9d: "OPERATING SYSTEM COMMAND",
}

// charName is a character's number and its name: U+200B ZERO WIDTH SPACE.
func charName(r rune) string {
	name := controls[r]
	if name == "" {
		name = strings.ToUpper(strings.Trim(runenames.Name(r), "<>"))
	}
	return strings.TrimSpace(fmt.Sprintf("U+%04X %s", r, name))
}

// told lists the characters that were spelled out, most frequent first: "3 of U+200B …".
func told(found map[rune]int) string {
	runes := slices.SortedFunc(maps.Keys(found), func(a, b rune) int {
		return cmp.Or(cmp.Compare(found[b], found[a]), cmp.Compare(a, b))
	})
	const shown = 8
	texts := make([]string, 0, shown+1)
	for i, r := range runes {
		if i == shown {
			texts = append(texts, fmt.Sprintf("%d others", len(runes)-shown))
			break
		}
		texts = append(texts, fmt.Sprintf("%d × %s", found[r], charName(r)))
	}
	return strings.Join(texts, ", ")
}
