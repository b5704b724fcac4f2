package jsonscan

import (
	"bytes"
	"errors"
	"fmt"
)

// Object is the reading of one object of which only the members with certain keys
// matter. These keys are guarded: no other key may resemble one of them.
//
// The gateway decides on bytes that another program, with another parser, acts on.
// Parsers differ in which of two equal keys counts, in whether letter case matters
// (it does not for Go's encoding/json, by Unicode's simple folding: the Kelvin sign
// is a k), in whether white space is trimmed, and in whether a string ends at a NUL.
// So an object is ambiguous if it has
//
//   - a guarded key twice,
//   - a key that resembles a guarded one by letter case or by white space around it,
//   - a key with a control character.
//
// An object without guarded keys is the sender's own affair. A key with half a
// surrogate pair is another one to each parser, and makes any object ambiguous.
//
// This is the only such rule in the gateway.
type Object struct {
	// Key is that of the member that Next has stepped to.
	Key []byte

	keys      []string
	seen      uint16 // one bit a guarded key
	begun     bool
	ambiguous *AmbiguousError
}

// Other is the index of a key that is not guarded.
const Other = -1

// maxGuarded is how many keys of an object can be guarded.
const maxGuarded = 16

// ErrAmbiguous: an object could be read in two ways.
var ErrAmbiguous = errors.New("an object that could be read in two ways")

// An AmbiguousError is an [ErrAmbiguous] that says what the object has. Its text
// quotes only guarded keys.
type AmbiguousError struct{ Has string }

func (e *AmbiguousError) Error() string { return ErrAmbiguous.Error() + ": it has " + e.Has }

// Unwrap makes it an [ErrAmbiguous].
func (e *AmbiguousError) Unwrap() error { return ErrAmbiguous }

var (
	errTwice     = &AmbiguousError{"a key twice"}
	errControl   = &AmbiguousError{"a key with a control character"}
	errHalfAPair = &AmbiguousError{"a key with half a surrogate pair"}
)

// Object steps into the object that comes next. At most sixteen keys can be guarded.
func (s *Scanner) Object(keys []string) (Object, error) {
	if len(keys) > maxGuarded {
		panic("jsonscan: too many guarded keys")
	}
	return Object{keys: keys}, s.Enter('{')
}

// Next steps to the next member's value, and returns the index of its key among the
// guarded ones, or [Other]. At the object's end it leaves it, and more is false.
// Whether the object is ambiguous is not an error here: ask [Object.Ambiguous].
func (s *Scanner) Next(o *Object) (key int, more bool, err error) {
	name, more, err := s.Member(!o.begun)
	o.begun = true
	if err != nil || !more {
		return Other, false, err
	}
	if o.Key, err = name.Bytes(); err != nil {
		o.note(errHalfAPair)
		return Other, true, nil //nolint:nilerr // noted
	}
	return o.classify(), true, nil
}

// Ambiguous says why what was read so far could be read in two ways; nil if it could
// not.
func (o *Object) Ambiguous() *AmbiguousError { return o.ambiguous }

// classify returns the index of the present key, and notes an ambiguity.
func (o *Object) classify() int {
	for i, key := range o.keys {
		if string(o.Key) == key {
			if o.seen&(1<<i) != 0 {
				o.note(errTwice)
			}
			o.seen |= 1 << i
			return i
		}
	}
	if len(o.keys) > 0 && o.ambiguous == nil {
		o.ambiguous = resembles(o.Key, o.keys)
	}
	return Other
}

func (o *Object) note(e *AmbiguousError) {
	if o.ambiguous == nil {
		o.ambiguous = e
	}
}

// resembles returns why a key that is not guarded could be taken for one that is;
// nil if it could not.
func resembles(key []byte, guarded []string) *AmbiguousError {
	for _, c := range key {
		if c < ' ' || c == 0x7f {
			return errControl
		}
	}
	key = bytes.TrimSpace(key)
	for _, g := range guarded {
		// Folding makes letters of ASCII only of others that are longer.
		if len(key) >= len(g) && bytes.EqualFold(key, []byte(g)) {
			return &AmbiguousError{fmt.Sprintf("a key that resembles %q but is not it", g)}
		}
	}
	return nil
}

// Members reads the object that comes next, and has member read the values of those
// members whose keys are guarded; key is the index among keys. Others are skipped.
// The error is an [*AmbiguousError] where the object could be read in two ways.
func (s *Scanner) Members(keys []string, member func(key int) error) error {
	ambiguous, err := s.members(keys, member)
	if err == nil && ambiguous != nil {
		return ambiguous
	}
	return err
}

// MembersAnyway is Members for an object that can be left out: where it could be read in
// two ways, certain is false, and the scanner is behind it all the same.
func (s *Scanner) MembersAnyway(keys []string, member func(key int) error) (certain bool, err error) {
	ambiguous, err := s.members(keys, member)
	return err == nil && ambiguous == nil, err
}

func (s *Scanner) members(keys []string, member func(key int) error) (*AmbiguousError, error) {
	o, err := s.Object(keys)
	for err == nil {
		key, more, next := s.Next(&o)
		switch {
		case next != nil || !more:
			return o.ambiguous, next
		case key == Other:
			err = s.Skip()
		default:
			err = member(key)
		}
	}
	return nil, err
}

// MembersIfAny is Members for what need not be an object: anything else is skipped.
func (s *Scanner) MembersIfAny(keys []string, member func(key int) error) error {
	if s.Peek() != '{' {
		return s.Skip()
	}
	return s.Members(keys, member)
}

// Each has element read every element of the array that comes next, or the value
// that stands in its place.
func (s *Scanner) Each(element func() error) error {
	if s.Peek() != '[' {
		return element()
	}
	if err := s.Enter('['); err != nil {
		return err
	}
	for first := true; ; first = false {
		more, err := s.Element(first)
		if err != nil || !more {
			return err
		}
		if err := element(); err != nil {
			return err
		}
	}
}
