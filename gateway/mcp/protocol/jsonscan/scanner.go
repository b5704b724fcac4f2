// Package jsonscan steps over JSON text without building values. It returns the places
// of values in the bytes, so that a caller can decide on a few members and then forward,
// or cut, the very bytes that it looked at.
//
// It is stricter than encoding/json: the text must be valid UTF-8, nesting is bounded,
// and where its value matters, a string must not have lone surrogates, which parsers
// read differently. encoding/json accepts everything that it accepts.
package jsonscan

import (
	"bytes"
	"errors"
	"fmt"
	"unicode/utf8"
)

// MaxDepth bounds the nesting of objects and arrays. Real messages stay below 40, and
// recursive parsers crash somewhere beyond a few thousand.
const MaxDepth = 256

// ErrTooDeep: the text is nested deeper than [MaxDepth].
var ErrTooDeep = fmt.Errorf("nested deeper than %d levels", MaxDepth)

// ErrUTF8: the text is not valid UTF-8.
var ErrUTF8 = errors.New("not valid UTF-8")

// A SyntaxError is the place where the text stops being JSON. It quotes nothing of the
// text.
type SyntaxError struct {
	Offset int    // bytes before the mistake
	What   string // the mistake
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("not JSON at byte %d: %s", e.Offset, e.What)
}

// Scanner is a position in a JSON text. Do not use it after an error. The zero value is
// an empty text.
type Scanner struct {
	data []byte
	pos  int

	// One bit a level: set in an object, clear in an array.
	objects [MaxDepth / 64]uint64
	depth   int

	watched *Watched
	met     bool
}

// New returns a scanner at the start of data, or [ErrUTF8].
func New(data []byte) (Scanner, error) {
	if !utf8.Valid(data) {
		return Scanner{}, ErrUTF8
	}
	return Scanner{data: data}, nil
}

// WithoutMark returns the text without the byte order mark with which some servers begin
// it. A client's message must not have one: see [New].
func WithoutMark(data []byte) []byte { return bytes.TrimPrefix(data, []byte("\ufeff")) }

// Pos is the offset of the next byte.
func (s *Scanner) Pos() int { return s.pos }

// Peek skips white space, and returns the next byte; 0 at the end of the text.
func (s *Scanner) Peek() byte {
	for s.pos < len(s.data) {
		c := s.data[s.pos]
		if !isSpace(c) {
			return c
		}
		s.pos++
	}
	return 0
}

// End returns an error unless only white space is left.
func (s *Scanner) End() error {
	if s.Peek() != 0 || s.pos < len(s.data) {
		return s.wrong("data behind the first value")
	}
	return nil
}

// Enter steps into the next object ('{') or array ('[').
func (s *Scanner) Enter(open byte) error {
	if s.Peek() != open {
		if open == '{' {
			return s.wrong("expected an object")
		}
		return s.wrong("expected an array")
	}
	s.pos++
	return s.push(open == '{')
}

// Member steps to the value of the next member of the current object, and returns its
// key. At its end it leaves the object, and more is false. first is true until a member
// was read.
func (s *Scanner) Member(first bool) (key String, more bool, err error) {
	c := s.Peek()
	if c == '}' {
		s.pos++
		s.depth--
		return String{}, false, nil
	}
	if !first {
		if c != ',' {
			return String{}, false, s.wrong("expected ',' or '}'")
		}
		s.pos++
	}
	if key, err = s.key(); err != nil {
		return String{}, false, err
	}
	s.Peek()
	return key, true, nil
}

// Element steps to the next element of the current array. At its end it leaves the
// array, and more is false. first is true until an element was read.
func (s *Scanner) Element(first bool) (more bool, err error) {
	c := s.Peek()
	if c == ']' {
		s.pos++
		s.depth--
		return false, nil
	}
	if first {
		return true, nil
	}
	if c != ',' {
		return false, s.wrong("expected ',' or ']'")
	}
	s.pos++
	if s.Peek() == ']' {
		return false, s.wrong("expected a value")
	}
	return true, nil
}

// Skip steps over the next value of any kind, and checks all of it.
func (s *Scanner) Skip() error {
	floor := s.depth
	for {
		if err := s.scalarOrOpen(); err != nil {
			return err
		}
		again, err := s.close(floor)
		if err != nil || !again {
			return err
		}
	}
}

// Raw steps over the next value and returns its bytes.
func (s *Scanner) Raw() ([]byte, error) {
	s.Peek()
	start := s.pos
	if err := s.Skip(); err != nil {
		return nil, err
	}
	return s.data[start:s.pos:s.pos], nil
}

// scalarOrOpen reads values until one is complete: a scalar, or an empty object or
// array. It leaves open what it enters on the way.
func (s *Scanner) scalarOrOpen() error {
	for {
		switch c := s.Peek(); {
		case c == '"':
			_, err := s.String()
			return err
		case c == '{':
			s.pos++
			if err := s.push(true); err != nil {
				return err
			}
			if s.Peek() == '}' {
				return nil
			}
			if _, err := s.key(); err != nil {
				return err
			}
		case c == '[':
			s.pos++
			if err := s.push(false); err != nil {
				return err
			}
			if s.Peek() == ']' {
				return nil
			}
		case c == '-' || '0' <= c && c <= '9':
			return s.number()
		case c == 't':
			return s.literal("true")
		case c == 'f':
			return s.literal("false")
		case c == 'n':
			return s.literal("null")
		default:
			return s.wrong("expected a value")
		}
	}
}

// close reads on after a complete value: the ends of objects and arrays down to floor
// (then again is false), or a comma and a key (then another value comes).
func (s *Scanner) close(floor int) (again bool, err error) {
	for s.depth > floor {
		object := s.inObject()
		c := s.Peek()
		switch {
		case object && c == '}', !object && c == ']':
			// This also reads the end of an empty one.
			s.pos++
			s.depth--
		case c == ',':
			s.pos++
			if object {
				_, err = s.key()
			}
			return true, err
		case object:
			return false, s.wrong("expected ',' or '}'")
		default:
			return false, s.wrong("expected ',' or ']'")
		}
	}
	return false, nil
}

// key steps over the next key and the colon behind it.
func (s *Scanner) key() (key String, err error) {
	if s.Peek() != '"' {
		return String{}, s.wrong("expected a key")
	}
	if key, err = s.String(); err != nil {
		return String{}, err
	}
	if s.Peek() != ':' {
		return String{}, s.wrong("expected ':'")
	}
	s.pos++
	s.met = s.met || s.watched != nil && s.watched.has(key)
	return key, nil
}

func (s *Scanner) push(object bool) error {
	if s.depth == MaxDepth {
		return ErrTooDeep
	}
	word, bit := s.depth/64, uint64(1)<<(s.depth%64)
	if object {
		s.objects[word] |= bit
	} else {
		s.objects[word] &^= bit
	}
	s.depth++
	return nil
}

func (s *Scanner) inObject() bool {
	top := s.depth - 1
	return s.objects[top/64]&(1<<(top%64)) != 0
}

func (s *Scanner) wrong(what string) error {
	return &SyntaxError{Offset: s.pos, What: what}
}

func isSpace(c byte) bool {
	return c == ' ' || c == '\n' || c == '\r' || c == '\t'
}
