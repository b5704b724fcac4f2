package apply

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

// position is a place in a file, counted from 1. The zero position is unknown.
type position struct{ line, column int }

func positionAt(content []byte, offset int) position {
	before := content[:min(max(offset, 0), len(content))]
	start := bytes.LastIndexByte(before, '\n') + 1
	return position{line: bytes.Count(before, []byte("\n")) + 1, column: utf8.RuneCount(before[start:]) + 1}
}

// jsonFile is a file that is valid JSON. Its positions are those of keys and of elements
// of lists, by their paths: "[2]", "[2].headers.Authorization", "args[0]".
type jsonFile struct {
	path      string
	content   []byte
	positions map[string]position

	passed int      // the offset of the last position that was noted
	last   position // and that position
	twice  error    // the first key that an object has twice
}

// openJSON checks and indexes a file. Its errors have the position, and never a value, which
// may be a token.
func openJSON(path string, content []byte) (*jsonFile, error) {
	if bytes.HasPrefix(content, []byte("\xff\xfe")) || bytes.HasPrefix(content, []byte("\xfe\xff")) {
		return nil, fmt.Errorf("%s: it is in UTF-16: save it in UTF-8", path)
	}
	f := &jsonFile{path: path, content: withoutMark(content), positions: map[string]position{}, last: position{1, 1}}
	var value json.RawMessage
	var wrong *json.SyntaxError
	switch err := json.Unmarshal(f.content, &value); {
	case errors.As(err, &wrong):
		at := positionAt(f.content, int(wrong.Offset)-1)
		if len(bytes.TrimSpace(f.content)) == 0 {
			return nil, fmt.Errorf("%s: it is empty: write a JSON object, or remove the file", path)
		}
		return nil, fmt.Errorf("%s:%d,%d: it is not valid JSON: %s", path, at.line, at.column, f.explain(wrong))
	case err != nil:
		return nil, fmt.Errorf("%s: it is not valid JSON: %w", path, err)
	}
	decoder := json.NewDecoder(bytes.NewReader(f.content))
	decoder.UseNumber()
	f.index(decoder, "")
	return f, f.twice
}

// withoutMark is a file's content without the byte order mark that Windows puts in front.
func withoutMark(content []byte) []byte { return bytes.TrimPrefix(content, []byte("\xef\xbb\xbf")) }

// advance is positionAt for offsets that rise from call to call, as those of the index do: it
// counts each byte of a large file once.
func (f *jsonFile) advance(offset int) position {
	passed := f.content[f.passed:offset]
	if start := bytes.LastIndexByte(passed, '\n') + 1; start > 0 {
		f.last = position{f.last.line + bytes.Count(passed, []byte("\n")), 1}
		passed = passed[start:]
	}
	f.last.column += utf8.RuneCount(passed)
	f.passed = offset
	return f.last
}

// explain describes the mistake for people who seldom write JSON.
func (f *jsonFile) explain(wrong *json.SyntaxError) string {
	at := int(wrong.Offset) - 1
	if at < 0 || at >= len(f.content) || strings.Contains(wrong.Error(), "unexpected end") {
		return "it ends too early: a bracket or a quotation mark is not closed"
	}
	before := bytes.TrimRight(f.content[:at], " \t\r\n")
	switch c := f.content[at]; {
	case strings.Contains(wrong.Error(), "after top-level value") && c != '/' && c != '#':
		return "something stands after its end: take it out"
	case c == '#', c == '/', c == '*' && bytes.HasSuffix(before, []byte("/")), bytes.HasSuffix(before, []byte("/")):
		return "comments are not allowed: take it out"
	case (c == ']' || c == '}') && bytes.HasSuffix(before, []byte(",")):
		return fmt.Sprintf("a comma stands before the %q: take it out", rune(c))
	case c == '\'':
		return `texts stand in double quotation marks ("), not in single ones`
	}
	return wrong.Error()
}

// index notes where each key and element of the next value stands. The content is valid.
func (f *jsonFile) index(decoder *json.Decoder, path string) {
	token, err := decoder.Token()
	if err != nil {
		return
	}
	next := func() position { // where the next token begins
		offset := int(decoder.InputOffset())
		for offset < len(f.content) && strings.IndexByte(" \t\r\n,:", f.content[offset]) >= 0 {
			offset++
		}
		return f.advance(offset)
	}
	switch token {
	case json.Delim('{'):
		own := map[json.Token]position{}
		for decoder.More() {
			at := next()
			key, err := decoder.Token()
			if err != nil {
				return
			}
			inner := strings.TrimPrefix(fmt.Sprintf("%s.%v", path, key), ".")
			f.positions[inner] = at
			if first, twice := own[key]; twice && f.twice == nil {
				f.twice = fmt.Errorf("%s:%d,%d: the key %q is in line %d already: keep one of them", f.path, at.line, at.column, key, first.line)
			}
			own[key] = at
			f.index(decoder, inner)
		}
	case json.Delim('['):
		for i := 0; decoder.More(); i++ {
			inner := fmt.Sprintf("%s[%d]", path, i)
			f.positions[inner] = next()
			f.index(decoder, inner)
		}
	default:
		return
	}
	_, _ = decoder.Token() // the closing bracket
}

// place is that of an element of a list, "[2]", or of the whole file, "".
func (f *jsonFile) place(element string) place {
	at := place{file: f.path, element: element, fields: map[string]position{}}
	if element == "" {
		at.position = positionAt(f.content, len(f.content)-len(bytes.TrimLeft(f.content, " \t\r\n")))
		at.fields = f.positions
		return at
	}
	at.position = f.positions[element]
	for path, where := range f.positions {
		if field, ok := strings.CutPrefix(path, element+"."); ok {
			at.fields[field] = where
		}
	}
	return at
}

// fieldError is an error about a field, by its path in the thing.
type fieldError struct {
	field string
	err   error
}

func (e *fieldError) Error() string { return e.err.Error() }
func (e *fieldError) Unwrap() error { return e.err }

// leading is the field that a message begins with, such as deniedMcpServers[2].
var leading = regexp.MustCompile(`^[A-Za-z]+(\[\d+\])?`)

// mistakenAt notes the mistakes in a thing, each at its own place.
func (d *desired) mistakenAt(at place, err error) {
	for _, err := range split(err) {
		field := leading.FindString(err.Error())
		var of *fieldError
		if errors.As(err, &of) {
			field = of.field
		}
		d.mistake(at.of(field), err)
	}
}

// split takes errors apart that were joined.
func split(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error }) // an error that wraps others counts as one
	if !ok {
		return []error{err}
	}
	var all []error
	for _, err := range joined.Unwrap() {
		all = append(all, split(err)...)
	}
	return all
}

// decode reads one valid JSON value. Its errors never have the value, which may be a token.
func decode(content []byte, into any, strict bool) error {
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.UseNumber()
	if strict {
		decoder.DisallowUnknownFields()
	}
	err := decoder.Decode(into)
	if err == nil {
		return nil
	}
	var mistyped *json.UnmarshalTypeError
	if errors.As(err, &mistyped) {
		if mistyped.Field == "" {
			return fmt.Errorf("a %s cannot stand here: write an object", mistyped.Value)
		}
		return &fieldError{mistyped.Field, fmt.Errorf("field %q: a %s cannot stand here", mistyped.Field, mistyped.Value)}
	}
	if unknown, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return &fieldError{strings.Trim(unknown, `"`), fmt.Errorf("field %s is not known: correct its name, or take it out", unknown)}
	}
	return fmt.Errorf("it is not valid JSON: %w", err)
}
