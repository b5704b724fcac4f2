package jsonscan

import (
	"errors"
	"unicode/utf16"
	"unicode/utf8"
)

// ErrSurrogate: a string has half of a UTF-16 surrogate pair. Parsers disagree about its
// meaning, so no decision may depend on it.
var ErrSurrogate = errors.New("a string has a lone surrogate")

// String is a string as it is in the text.
type String struct {
	raw     []byte // between the quotes
	escaped bool   // has a backslash
}

// Is reports whether the string's value is want.
func (v String) Is(want string) bool {
	if !v.escaped {
		return string(v.raw) == want
	}
	got, err := v.Append(nil)
	return err == nil && string(got) == want
}

// Bytes returns the string's value. Without escapes that is a part of the text.
// [ErrSurrogate] is the only error.
func (v String) Bytes() ([]byte, error) {
	if !v.escaped {
		return v.raw, nil
	}
	return v.Append(make([]byte, 0, len(v.raw)))
}

// Text returns the value of a JSON text that is a string; false if it is none, or could be
// read in two ways.
func Text(raw []byte) (text string, ok bool) {
	s, err := New(raw)
	if err != nil || s.Peek() != '"' {
		return "", false
	}
	value, err := s.String()
	if err != nil {
		return "", false
	}
	bytes, err := value.Bytes()
	return string(bytes), err == nil
}

// Append appends the string's value to dst.
func (v String) Append(dst []byte) ([]byte, error) {
	if !v.escaped {
		return append(dst, v.raw...), nil
	}
	for i := 0; i < len(v.raw); i++ {
		c := v.raw[i]
		if c != '\\' {
			dst = append(dst, c)
			continue
		}
		i++
		switch c = v.raw[i]; c {
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'u':
			r, size := v.unicode(i)
			if size == 0 {
				return nil, ErrSurrogate
			}
			dst = utf8.AppendRune(dst, r)
			i += size - 1
		default: // '"', '\\' or '/': the scan let nothing else through
			dst = append(dst, c)
		}
	}
	return dst, nil
}

// unicode decodes the escape whose 'u' is at i, with the second half of a surrogate
// pair. size counts bytes from the 'u' on; 0 for a lone surrogate.
func (v String) unicode(i int) (r rune, size int) {
	r = hex4(v.raw[i+1:])
	if !utf16.IsSurrogate(r) {
		return r, 5
	}
	rest := v.raw[i+5:]
	if len(rest) < 6 || rest[0] != '\\' || rest[1] != 'u' {
		return 0, 0
	}
	if r = utf16.DecodeRune(r, hex4(rest[2:])); r == utf8.RuneError {
		return 0, 0
	}
	return r, 11
}

// hex4 reads four hexadecimal digits, which the scan has checked.
func hex4(b []byte) rune {
	var r rune
	for _, c := range b[:4] {
		r = r<<4 | rune(unhex(c))
	}
	return r
}

// unhex returns a hexadecimal digit's value, or 0xff.
func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 0xff
}

// String steps over the next string.
func (s *Scanner) String() (String, error) {
	if s.Peek() != '"' {
		return String{}, s.wrong("expected a string")
	}
	start := s.pos + 1
	escaped := false
	for i := plain(s.data, start); i < len(s.data); i = plain(s.data, i) {
		switch s.data[i] {
		case '"':
			s.pos = i + 1
			return String{raw: s.data[start:i:i], escaped: escaped}, nil
		case '\\':
			escaped = true
			size := escape(s.data[i:])
			if size == 0 {
				s.pos = i
				return String{}, s.wrong("unknown escape in a string")
			}
			i += size
		default:
			s.pos = i
			return String{}, s.wrong("control character in a string")
		}
	}
	s.pos = len(s.data)
	return String{}, s.wrong("string without an end")
}

// escape returns the size of the escape at the start of b; 0 if it is not valid.
func escape(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if len(b) < 6 {
			return 0
		}
		for _, c := range b[2:6] {
			if unhex(c) == 0xff {
				return 0
			}
		}
		return 6
	}
	return 0
}
