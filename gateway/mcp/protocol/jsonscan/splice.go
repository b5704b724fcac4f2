package jsonscan

import (
	"slices"
)

// Span is a part of a text's bytes: [Start, End). The zero Span is none.
type Span struct{ Start, End int }

// None reports whether there is no such part.
func (p Span) None() bool { return p.End == 0 }

// Of returns the part of the text.
func (p Span) Of(text []byte) []byte { return text[p.Start:p.End:p.End] }

// Value steps over the next value, and returns where it stands.
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

// Part is a part of a text, and what to put in its place. An empty part at an offset
// inserts.
type Part struct {
	Span
	Text []byte
}

// Replace appends the text to dst, with the parts replaced and all other bytes kept.
// Parts that are [Span.None] are passed over; the others must not overlap. Parts are
// put in order.
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

// Splicer copies a text and changes parts of it on the way.
type Splicer struct {
	Out []byte // what was written

	text []byte
	at   int // what was copied or replaced
}

// Splice starts a copy of the text behind dst.
func Splice(dst, text []byte) Splicer { return Splicer{Out: dst, text: text} }

// Put writes the text up to the part, and the replacement in the part's place. Parts
// come in order.
func (s *Splicer) Put(part Span, replacement []byte) {
	s.Out = append(append(s.Out, s.text[s.at:part.Start]...), replacement...)
	s.at = part.End
}

// End writes the rest of the text, and returns all that was written.
func (s *Splicer) End() []byte { return append(s.Out, s.text[s.at:]...) }
