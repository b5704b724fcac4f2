package jsonscan

import (
	"slices"
)

// Span is a part of a text's bytes: [Start, End). The zero Span is none.
type Span struct{ Start, End int }

// None reports whether the span is the zero Span.
func (p Span) None() bool { return p.End == 0 }

// Of returns the part of the text.
func (p Span) Of(text []byte) []byte { return text[p.Start:p.End:p.End] }

// Value steps over the next value, and returns its place.
func (s *Scanner) Value() (Span, error) {
	s.Peek()
	start := s.pos
	err := s.Skip()
	return Span{Start: start, End: s.pos}, err
}

// At returns a scanner at the start of a value that this one has stepped over. It
// ends with that value.
func (s *Scanner) At(value Span) Scanner {
	return Scanner{data: s.data[:value.End], pos: value.Start}
}

// Part is a part of a text, and its replacement. An empty part at an offset inserts.
type Part struct {
	Span
	Text []byte
}

// Replace appends the text to dst, with the parts replaced and all other bytes kept.
// It skips parts that are [Span.None]. The others must not overlap, and may come in any
// order.
func Replace(dst, text []byte, parts ...Part) []byte {
	slices.SortStableFunc(parts, func(a, b Part) int { return a.Start - b.Start })
	s := Splicer{Out: dst, text: text}
	for i := range parts {
		if p := &parts[i]; !p.None() {
			s.Put(p.Span, p.Text)
		}
	}
	return s.End()
}

// Splicer copies a text and replaces parts of it.
type Splicer struct {
	Out []byte // the copy so far

	text []byte
	at   int // end of the text that was copied or replaced
}

// Splice starts a copy of the text, appended to dst.
func Splice(dst, text []byte) Splicer { return Splicer{Out: dst, text: text} }

// Put copies the text up to the part, and then writes the replacement. Call it for parts
// in their order.
func (s *Splicer) Put(part Span, replacement []byte) {
	s.Out = append(append(s.Out, s.text[s.at:part.Start]...), replacement...)
	s.at = part.End
}

// End copies the rest of the text, and returns the whole.
func (s *Splicer) End() []byte { return append(s.Out, s.text[s.at:]...) }
