package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Kind is the key of an entry: the property by which it identifies a server.
type Kind string

// The kinds of entries.
const (
	ServerURL     Kind = "serverUrl"     // a remote server, with "*" as a wildcard
	ServerCommand Kind = "serverCommand" // a stdio server, by its exact command and arguments
	ServerName    Kind = "serverName"    // any server, by its registered name
)

var kinds = []Kind{ServerURL, ServerCommand, ServerName}

// Entry is one entry of an allow-list or a deny-list. Its JSON form is that of
// Claude Code's managed settings, such as {"serverUrl":"https://h.com/*"}.
type Entry struct {
	Kind    Kind
	Text    string   // of a URL or a name
	Command []string // of a command: the program and its arguments
}

// MarshalJSON returns the entry as the only key of an object.
func (e Entry) MarshalJSON() ([]byte, error) {
	var value any = e.Text
	if e.Kind == ServerCommand {
		value = e.Command
	}
	return encode(map[Kind]any{e.Kind: value})
}

// String returns the entry's JSON form, which is also its canonical form: two
// entries mean the same exactly if their strings are equal.
func (e Entry) String() string {
	text, err := e.MarshalJSON()
	if err != nil {
		return err.Error() // strings always have a JSON form
	}
	return string(text)
}

// encode returns a value's JSON with "&", "<" and ">" as they are.
func encode(value any) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// parseEntry reads one entry. An entry that Claude Code would drop is an error, whose
// text follows the entry's position.
func parseEntry(raw json.RawMessage, deny bool) (entry Entry, ignored []string, err error) {
	object, err := members(raw)
	if err != nil {
		return Entry{}, nil, fmt.Errorf("%w: write an object with one of the keys %s", err, kindNames())
	}
	var value json.RawMessage
	for _, m := range object {
		kind := Kind(m.key)
		switch {
		case !slices.Contains(kinds, kind):
			if err := mistyped(m.key, kinds); err != nil {
				return Entry{}, nil, err
			}
			ignored = append(ignored, m.key)
		case entry.Kind == kind:
			return Entry{}, nil, fmt.Errorf("has the key %q twice: write one entry for each", m.key)
		case entry.Kind != "":
			return Entry{}, nil, fmt.Errorf("has both %q and %q: write one entry for each", entry.Kind, m.key)
		default:
			entry.Kind, value = kind, m.value
		}
	}
	if entry.Kind == "" {
		return Entry{}, nil, fmt.Errorf("has none of the keys %s: write one of them", kindNames())
	}
	if err := entry.setValue(value); err != nil {
		return Entry{}, nil, fmt.Errorf("%s %w", entry.Kind, err)
	}
	if err := entry.check(deny); err != nil {
		return Entry{}, nil, fmt.Errorf("%s %w", entry.Kind, err)
	}
	return entry, ignored, nil
}

func kindNames() string {
	names := make([]string, len(kinds))
	for i, kind := range kinds {
		names[i] = string(kind)
	}
	return strings.Join(names, ", ")
}

// mistyped returns an error if the key is nearly one of the known ones: Claude Code
// would ignore it, which its author cannot have meant.
func mistyped[K ~string](key string, known []K) error {
	names := make([]string, len(known))
	for i, k := range known {
		names[i] = string(k)
	}
	if meant := NearMiss(key, names); meant != "" {
		return fmt.Errorf("has the key %q, which Claude Code ignores: write %q", key, meant)
	}
	return nil
}

// setValue decodes the value of the entry's only key.
func (e *Entry) setValue(raw json.RawMessage) error {
	var value any
	if err := json.Unmarshal(raw, &value); err != nil {
		return err
	}
	if e.Kind != ServerCommand {
		text, ok := value.(string)
		if !ok {
			return fmt.Errorf("is %s: write a string", typeName(value))
		}
		e.Text = text
		return nil
	}
	list, ok := value.([]any)
	if !ok {
		return fmt.Errorf(`is %s: write a list of strings, the program first, such as ["npx","-y","server"]`, typeName(value))
	}
	for i, element := range list {
		text, ok := element.(string)
		if !ok {
			return fmt.Errorf("[%d] is %s: write a string", i, typeName(element))
		}
		e.Command = append(e.Command, text)
	}
	return nil
}

// typeName names a decoded JSON value's type for a reader.
func typeName(value any) string {
	switch value := value.(type) {
	case nil:
		return "null"
	case bool:
		return fmt.Sprint(value)
	case string:
		return "a string"
	case []any:
		return "a list"
	case map[string]any:
		return "an object"
	default:
		return "a number"
	}
}

// check refuses the values that Claude Code would drop, and those that only
// it could give a meaning to.
func (e *Entry) check(deny bool) error {
	switch e.Kind {
	case ServerCommand:
		if len(e.Command) == 0 {
			return errors.New("is empty: write at least the program")
		}
	case ServerURL:
		if len(e.Text) > maxURL {
			return fmt.Errorf("is %d bytes long: at most %d are allowed", len(e.Text), maxURL)
		}
	case ServerName:
		return checkName(e.Text, deny)
	}
	return nil
}

func checkName(name string, deny bool) error {
	switch {
	case name == "":
		return errors.New("is empty: write the server's registered name")
	case deny && strings.TrimFunc(name, isSpace) != name:
		return fmt.Errorf("%q has a space at its start or end: remove it", name)
	case !deny && strings.ContainsFunc(name, func(r rune) bool { return r == '*' || notInServerName(r) }):
		return fmt.Errorf("%q holds characters that no allowed name may have: "+
			"names are letters, digits, \"_\" and \"-\", without wildcards; use serverUrl for patterns", name)
	}
	return nil
}

// isSpace reports whether JavaScript or Go would trim the rune.
func isSpace(r rune) bool { return unicode.IsSpace(r) || r == '\ufeff' }

// checkVariables refuses ${…} where Claude Code would expand it from the environment of
// its machine. The engine has no such environment, and taken literally the entry would
// match nothing. Names are never expanded.
func (e *Entry) checkVariables() error {
	texts := e.Command
	if e.Kind == ServerURL {
		texts = []string{e.Text}
	}
	for _, text := range texts {
		if strings.Contains(text, "${") {
			return fmt.Errorf("%s holds a variable in %q, and there is no environment to expand it from: write its value instead", e.Kind, text)
		}
	}
	return nil
}

// useless says why an entry can match no server, or returns an empty string.
func (e *Entry) useless() string {
	switch e.Kind {
	case ServerURL:
		p := compileURL(e.Text)
		return p.useless()
	case ServerName:
		if strings.ContainsFunc(e.Text, func(r rune) bool { return r == '*' || notInServerName(r) }) {
			return "no server can be registered under that name, and names have no wildcards: use serverUrl for patterns"
		}
	case ServerCommand:
		if e.Command[0] == "" {
			return "no program has an empty name: write its name or path first"
		}
	}
	return ""
}

// validText reports whether a JSON text is one that every reader takes alike.
func validText(data []byte) error {
	if !utf8.Valid(data) {
		return errors.New("is not UTF-8: save it as UTF-8")
	}
	return nil
}
