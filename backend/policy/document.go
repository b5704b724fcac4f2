package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// The settings of a policy, as Claude Code's managed settings name them.
const (
	AllowedSetting     = "allowedMcpServers"
	DeniedSetting      = "deniedMcpServers"
	ManagedOnlySetting = "allowManagedMcpServersOnly"
)

var settings = []string{AllowedSetting, DeniedSetting, ManagedOnlySetting}

// maxProblems bounds how many mistakes one error lists.
const maxProblems = 10

// Document is one policy as an administrator writes it. The JSON form is that
// of Claude Code's managed settings, and reading it is as strict as [Parse].
type Document struct {
	// Allowed is the allow-list. Nil means unset, which allows each server;
	// an empty list allows none.
	Allowed []Entry `json:"allowedMcpServers,omitzero"`
	// Denied is the deny-list. Nil and empty mean the same, and are told
	// apart only to be read back as they were written.
	Denied []Entry `json:"deniedMcpServers,omitzero"`
	// ManagedOnly makes the allow-lists of managed policies the only ones
	// that count. It has an effect in managed policies only.
	ManagedOnly bool `json:"allowManagedMcpServersOnly,omitempty"`
}

// UnmarshalJSON is [Parse] without its warnings, so that nothing invalid ever
// becomes a Document.
func (d *Document) UnmarshalJSON(data []byte) error {
	parsed, _, err := Parse(data)
	if err == nil {
		*d = parsed
	}
	return err
}

// Parse reads a policy in the JSON form of Claude Code's managed settings: the
// whole settings file, or only the part about MCP servers.
//
// Claude Code silently drops entries that it cannot read, and so admits every server or
// none. Here such an entry is an error that names list, index and cause, for all
// mistakes at once. So is ${…} in a URL or a command. The warnings are sentences about
// parts without an effect: settings that are not part of a policy, and entries that no
// server can match.
func Parse(data []byte) (Document, []string, error) {
	d, warnings, err := decode(data)
	if err != nil {
		return Document{}, nil, err
	}
	var problems []error
	d.each(func(place string, e *Entry) {
		if err := e.checkVariables(); err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", place, err))
			return
		}
		if why := e.useless(); why != "" {
			warnings = append(warnings, fmt.Sprintf("%s: %s matches no server: %s", place, e, why))
		}
	})
	if err := joinProblems(problems); err != nil {
		return Document{}, nil, err
	}
	return d, warnings, nil
}

// ParseFields reads a policy from separate fields, as they come with a request
// to Vault: as JSON values or, from a command line, a list as its JSON text.
// Errors and warnings are those of [Parse].
func ParseFields(fields map[string]any) (Document, []string, error) {
	plain := make(map[string]any, len(fields))
	for name, value := range fields {
		if text, ok := value.(string); ok && name != ManagedOnlySetting && slices.Contains(settings, name) {
			if list := strings.TrimSpace(text); strings.HasPrefix(list, "[") {
				if !json.Valid([]byte(list)) {
					return Document{}, nil, fmt.Errorf("%s is not valid JSON: write a list of entries, such as [{\"serverName\":\"github\"}]", name)
				}
				value = json.RawMessage(list)
			}
		}
		plain[name] = value
	}
	data, err := encode(plain)
	if err != nil {
		return Document{}, nil, fmt.Errorf("the policy has no JSON form: %w", err)
	}
	return Parse(data)
}

// decode reads a policy as Claude Code does, except that entries that it would drop are
// errors.
func decode(data []byte) (d Document, warnings []string, err error) {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	if len(bytes.TrimSpace(data)) == 0 {
		data = []byte("{}")
	}
	if err := validText(data); err != nil {
		return Document{}, nil, fmt.Errorf("the policy %w", err)
	}
	object, err := members(data)
	if err != nil {
		return Document{}, nil, fmt.Errorf("the policy %w: write a JSON object with the settings %s", err, strings.Join(settings, ", "))
	}

	var problems []error
	var unknown []string
	seen := map[string]bool{}
	for _, m := range object {
		if !slices.Contains(settings, m.key) {
			if err := mistyped(m.key, settings); err != nil {
				problems = append(problems, fmt.Errorf("the policy %w", err))
			}
			if m.key == ServersKey {
				warnings = append(warnings, AboutServers)
			}
			unknown = append(unknown, fmt.Sprintf("%q", m.key))
			continue
		}
		if seen[m.key] {
			problems = append(problems, fmt.Errorf("the policy has %s twice: join the two", m.key))
			continue
		}
		seen[m.key] = true
		notes, errs := d.set(m.key, m.value)
		warnings = append(warnings, notes...)
		problems = append(problems, errs...)
	}
	if len(unknown) > 0 {
		slices.Sort(unknown)
		warnings = append(warnings, "ignored, since they are not part of a policy: "+strings.Join(slices.Compact(unknown), ", "))
	}
	return d, warnings, joinProblems(problems)
}

// set takes over one known setting.
func (d *Document) set(name string, raw json.RawMessage) (warnings []string, problems []error) {
	switch name {
	case AllowedSetting:
		d.Allowed, warnings, problems = parseList(name, raw, false)
	case DeniedSetting:
		d.Denied, warnings, problems = parseList(name, raw, true)
	case ManagedOnlySetting:
		var err error
		if d.ManagedOnly, err = parseLock(raw); err != nil {
			problems = append(problems, err)
		}
	}
	return warnings, problems
}

func parseList(name string, raw json.RawMessage, deny bool) (list []Entry, warnings []string, problems []error) {
	var elements []json.RawMessage
	if raw[0] != '[' || json.Unmarshal(raw, &elements) != nil {
		effect := "admit every server"
		if !deny {
			effect = "block every server"
		}
		var value any
		if err := json.Unmarshal(raw, &value); err != nil {
			return nil, nil, []error{fmt.Errorf("%s: %w", name, err)}
		}
		return nil, nil, []error{fmt.Errorf("%s is %s, which would %s: write a list of entries, [] for an empty one, or leave it out",
			name, typeName(value), effect)}
	}
	list = make([]Entry, 0, len(elements))
	for i, element := range elements {
		place := fmt.Sprintf("%s[%d]", name, i)
		entry, ignored, err := parseEntry(element, deny)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", place, err))
			continue
		}
		for _, key := range ignored {
			warnings = append(warnings, fmt.Sprintf("%s: the key %q is ignored", place, key))
		}
		list = append(list, entry)
	}
	return list, warnings, problems
}

// parseLock reads the lock. Claude Code takes the text "true", and every value that it
// cannot read, for true. Here only the text "true" counts as true; other such values
// are errors.
func parseLock(raw json.RawMessage) (bool, error) {
	switch string(raw) {
	case "true", `"true"`:
		return true, nil
	case "false", "null":
		return false, nil
	}
	var value any
	if err := json.Unmarshal(raw, &value); err != nil {
		return false, fmt.Errorf("%s: %w", ManagedOnlySetting, err)
	}
	return false, fmt.Errorf("%s is %s, which Claude Code reads as true: write true, or leave the setting out", ManagedOnlySetting, typeName(value))
}

// each calls f for each entry with its place in the document.
func (d *Document) each(f func(place string, e *Entry)) {
	for i := range d.Allowed {
		f(fmt.Sprintf("%s[%d]", AllowedSetting, i), &d.Allowed[i])
	}
	for i := range d.Denied {
		f(fmt.Sprintf("%s[%d]", DeniedSetting, i), &d.Denied[i])
	}
}

func joinProblems(problems []error) error {
	if extra := len(problems) - maxProblems; extra > 0 {
		problems = append(slices.Clone(problems[:maxProblems]), fmt.Errorf("and %d more mistakes", extra))
	}
	return errors.Join(problems...)
}

// member is one key of a JSON object with its value, in the object's order.
type member struct {
	key   string
	value json.RawMessage
}

// members splits a JSON object without losing a key that stands twice in it.
func members(data []byte) ([]member, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	switch token, err := decoder.Token(); {
	case err != nil:
		return nil, notJSON(err)
	case token != json.Delim('{'):
		return nil, errors.New("is not a JSON object")
	}
	var object []member
	for decoder.More() {
		key, err := decoder.Token()
		if err != nil {
			return nil, notJSON(err)
		}
		m := member{key: fmt.Sprint(key)}
		if err := decoder.Decode(&m.value); err != nil {
			return nil, notJSON(err)
		}
		object = append(object, m)
	}
	if _, err := decoder.Token(); err != nil {
		return nil, notJSON(err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("has more text after its JSON object")
	}
	return object, nil
}

func notJSON(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("is not valid JSON: it ends too early")
	}
	return fmt.Errorf("is not valid JSON (%w)", err)
}
