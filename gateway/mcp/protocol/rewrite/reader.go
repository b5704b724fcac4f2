package rewrite

import (
	"bytes"
	"errors"

	"vault-plugin-secrets-mcp/gateway/mcp/protocol/jsonscan"
)

// ErrAmbiguous: the message could be read in two ways.
var ErrAmbiguous = errors.New("a message that could be read in two ways")

// reader is a run over one JSON text.
type reader struct{ jsonscan.Scanner }

func newReader(text []byte) (reader, error) {
	scanner, err := jsonscan.New(text)
	return reader{scanner}, err
}

// object is the reading of one object, of which only the members with these
// keys matter, at most eight.
type object struct {
	keys  []string
	seen  uint8 // one bit a key
	begun bool

	// ambiguous: one of the keys is there twice, or another key that a parser
	// may take for it.
	ambiguous bool
}

// other is the index of a member that does not matter.
const other = -1

// enter steps into the object that comes next.
func (r *reader) enter(keys []string) (object, error) {
	return object{keys: keys}, r.Enter('{')
}

// next steps to the next member's value and returns the index of its key, or
// [other]. At the object's end more is false.
func (r *reader) next(o *object) (key int, more bool, err error) {
	name, more, err := r.Member(!o.begun)
	o.begun = true
	if err != nil || !more {
		return other, false, err
	}
	key, ok := find(name, o.keys)
	switch {
	case !ok:
		o.ambiguous = true
	case key != other:
		if o.seen&(1<<key) != 0 {
			o.ambiguous = true
		}
		o.seen |= 1 << key
	}
	return key, true, nil
}

// object reads the object that comes next, and has member read the values of those
// members whose keys matter; key is the index among keys. The error is
// [ErrAmbiguous] where the object could be read in two ways.
func (r *reader) object(keys []string, member func(key int) error) error {
	o, err := r.enter(keys)
	if err != nil {
		return err
	}
	for {
		key, more, err := r.next(&o)
		switch {
		case err != nil:
			return err
		case !more && o.ambiguous:
			return ErrAmbiguous
		case !more:
			return nil
		case key == other:
			err = r.Skip()
		default:
			err = member(key)
		}
		if err != nil {
			return err
		}
	}
}

// members is object for what need not be one: anything else is passed over.
func (r *reader) members(keys []string, member func(key int) error) error {
	if r.Peek() != '{' {
		return r.Skip()
	}
	return r.object(keys, member)
}

// find returns the key's index among keys, or [other]. ok is false for one that
// only resembles one of them: by letter case, by space around it, or up to a NUL.
func find(name jsonscan.String, keys []string) (key int, ok bool) {
	value, err := name.Bytes()
	if err != nil {
		return other, false
	}
	for i, want := range keys {
		if string(value) == want {
			return i, true
		}
	}
	if cut := bytes.IndexByte(value, 0); cut >= 0 {
		value = value[:cut]
	}
	value = bytes.TrimSpace(value)
	for _, want := range keys {
		if len(value) >= len(want) && bytes.EqualFold(value, []byte(want)) {
			return other, false
		}
	}
	return other, true
}

// value steps over the next value and returns where it stands.
func (r *reader) value() (start, end int, err error) {
	r.Peek()
	start = r.Pos()
	err = r.Skip()
	return start, r.Pos(), err
}

// stringAt steps over the next value. If it is a string, ok is true and start
// is the offset of its first byte, behind the quote.
func (r *reader) stringAt() (start int, ok bool, err error) {
	if r.Peek() != '"' {
		return 0, false, r.Skip()
	}
	start = r.Pos() + 1
	return start, true, r.Skip()
}
