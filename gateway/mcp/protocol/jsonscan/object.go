package jsonscan

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
)

// Object reads one object of which only the members with certain keys matter. These keys
// are guarded: no other key may resemble one of them.
//
// The gateway decides on bytes, and then another program with another parser acts on
// them. Parsers differ: which of two equal keys counts, whether letter case matters (not
// for Go's encoding/json, by Unicode's simple folding: the Kelvin sign is a k), whether
// they trim white space, and whether a string ends at a NUL. So an object is ambiguous if
// it has
//
//   - a guarded key twice,
//   - a key that resembles a guarded one by letter case or by white space around it,
//   - a key with a control character.
//
// An object without guarded keys is never ambiguous, with one exception: each parser
// reads a key with half a surrogate pair as another key, so it makes any object
// ambiguous.
//
// This is the only such rule in the gateway.
type Object struct {
	// Key is the key of the member that Next has stepped to.
	Key []byte

	keys      []string
	seen      uint16 // one bit a guarded key
	begun     bool
	ambiguous *AmbiguousError
}

// Other is the index of a key that is not guarded.
const Other = -1

// maxGuarded bounds the guarded keys of an object.
const maxGuarded = 16

// ErrAmbiguous: an object could be read in two ways.
var ErrAmbiguous = errors.New("an object that could be read in two ways")

// An AmbiguousError is an [ErrAmbiguous] with its cause. Its text quotes only guarded
// keys.
type AmbiguousError struct{ Has string }

func (e *AmbiguousError) Error() string { return ErrAmbiguous.Error() + ": it has " + e.Has }

// Unwrap makes it an [ErrAmbiguous].
func (e *AmbiguousError) Unwrap() error { return ErrAmbiguous }

var (
	errTwice     = &AmbiguousError{"a key twice"}
	errControl   = &AmbiguousError{"a key with a control character"}
	errHalfAPair = &AmbiguousError{"a key with half a surrogate pair"}
)

// Object steps into the next object. At most sixteen keys can be guarded.
func (s *Scanner) Object(keys []string) (Object, error) {
	if len(keys) > maxGuarded {
		panic("jsonscan: too many guarded keys")
	}
	return Object{keys: keys}, s.Enter('{')
}

// Next steps to the next member's value, and returns the index of its key among the
// guarded ones, or [Other]. At its end it leaves the object, and more is false. An
// ambiguous object is not an error here: see [Object.Ambiguous].
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

// Ambiguous is the reason why the object, as far as it was read, could be read in two
// ways; nil if it could not.
func (o *Object) Ambiguous() *AmbiguousError { return o.ambiguous }

// classify returns the index of the current key, and notes an ambiguity.
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

// resembles returns the reason why a parser could take a key for a guarded one; nil if
// none could.
func resembles(key []byte, guarded []string) *AmbiguousError {
	for _, c := range key {
		if c < ' ' || c == 0x7f {
			return errControl
		}
	}
	key = bytes.TrimSpace(key)
	for _, g := range guarded {
		// Only longer letters fold to letters of ASCII.
		if len(key) >= len(g) && bytes.EqualFold(key, []byte(g)) {
			return &AmbiguousError{fmt.Sprintf("a key that resembles %q", g)}
		}
	}
	return nil
}

// Resembles reports whether a parser could take a key for the guarded one, which it is not.
func Resembles(key []byte, guarded string) bool {
	return len(key) >= len(guarded) && string(key) != guarded && resembles(key, []string{guarded}) != nil
}

// Watched are keys that matter wherever they stand in a text.
type Watched struct {
	keys  []string
	first [256]bool // bytes with which a key begins that must be looked at
}

// Watch returns those keys, which are of ASCII.
func Watch(keys ...string) *Watched {
	w := &Watched{keys: keys}
	for c := range w.first {
		w.first[c] = c <= ' ' || c > '~'
	}
	for _, key := range keys {
		w.first[key[0]], w.first[key[0]^0x20] = true, true // in both cases, if it is a letter
	}
	return w
}

// has reports whether the key is one of the keys, or a parser could take it for one.
func (w *Watched) has(key String) bool {
	if key.escaped {
		return true // or so it may be
	}
	return len(key.raw) > 0 && w.first[key.raw[0]] && slices.ContainsFunc(w.keys, func(watched string) bool {
		return string(key.raw) == watched || Resembles(key.raw, watched)
	})
}

// Watch has the scanner look for keys at any depth.
func (s *Scanner) Watch(keys *Watched) { s.watched = keys }

// Met reports whether the scanner has stepped over one of the watched keys, or over one that a
// parser could take for it.
func (s *Scanner) Met() bool { return s.met }

// Members reads the next object, and calls member to read the value of each member whose
// key is guarded; key is its index among keys. It skips the others. The error is an
// [*AmbiguousError] if the object could be read in two ways.
func (s *Scanner) Members(keys []string, member func(key int) error) error {
	ambiguous, err := s.members(keys, member)
	if err == nil && ambiguous != nil {
		return ambiguous
	}
	return err
}

// MembersAnyway is Members for an object that the caller can leave out. If the object
// could be read in two ways, certain is false, and the scanner steps over it as well.
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

// MembersIfAny is Members for a value that need not be an object. It skips others.
func (s *Scanner) MembersIfAny(keys []string, member func(key int) error) error {
	if s.Peek() != '{' {
		return s.Skip()
	}
	return s.Members(keys, member)
}

// Each calls element to read each element of the next array, or the next value if that
// is not an array.
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
