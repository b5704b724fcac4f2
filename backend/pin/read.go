package pin

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Bounds of a definition.
const (
	MaxText = 1 << 20 // bytes of a definition
	MaxName = 2 << 10 // bytes of its name
	maxDeep = 128     // objects and arrays within each other
)

// UIScheme begins the URIs of apps' pages.
const UIScheme = "ui://"

// Definition is a server's description of one thing.
type Definition struct {
	Kind   Kind
	Name   string
	Text   []byte // canonical JSON
	Digest Digest
}

// Read reads a definition as the server wrote it. Its name is the member name of a tool or a
// prompt, uriTemplate of a resource template, and uri of a resource or a page.
//
// Everything is in the digest except
//
//   - of a resource: size, if it is a number, and annotations.lastModified, if it is a time.
//     They change with the content;
//   - of a serverInfo: version. It changes with each release of the server, and a program that
//     shows it must refuse one that is not a [PlainVersion].
//
// An error means that the text cannot be approved: it is not the JSON of such a definition, it
// could be read in two ways, or it is beyond the bounds.
func Read(kind Kind, raw []byte) (*Definition, error) {
	if len(raw) > MaxText {
		return nil, fmt.Errorf("it is longer than %d bytes", MaxText)
	}
	text, err := canonical(raw)
	if err != nil {
		return nil, err
	}
	d := &Definition{Kind: kind}
	if kind == Instructions {
		if text[0] != '"' {
			return nil, errors.New("instructions are not a string")
		}
	} else if text, err = d.readMembers(text); err != nil {
		return nil, err
	}
	d.Text, d.Digest = text, sha256.Sum256(text)
	return d, nil
}

// readMembers reads the name of a definition that is an object, and returns the text of its
// digest.
func (d *Definition) readMembers(text []byte) ([]byte, error) {
	members := map[string]json.RawMessage{}
	if text[0] != '{' || json.Unmarshal(text, &members) != nil {
		return nil, errors.New("it is not an object")
	}
	if err := unambiguous(members); err != nil {
		return nil, err
	}
	key := map[Kind]string{Tool: "name", Prompt: "name", Resource: "uri", Template: "uriTemplate", Page: "uri"}[d.Kind]
	switch {
	case key == "" && d.Kind != Server:
		return nil, fmt.Errorf("%q is not a kind of definition", d.Kind)
	case key == "":
	case json.Unmarshal(members[key], &d.Name) != nil || d.Name == "":
		return nil, fmt.Errorf("its member %q is not a text", key)
	case len(d.Name) > MaxName:
		return nil, fmt.Errorf("its member %q is longer than %d bytes", key, MaxName)
	case d.Kind == Page && !strings.HasPrefix(d.Name, UIScheme):
		return nil, fmt.Errorf("its uri does not begin with %s", UIScheme)
	}
	if !leaveOut(d.Kind, members) {
		return text, nil
	}
	return marshal(members)
}

// unambiguous refuses keys that a parser could take for one by which the definition is called:
// parsers differ about letter case, about white space and about control characters in keys.
func unambiguous(members map[string]json.RawMessage) error {
	for key := range members {
		if strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return errors.New("it has a key with a control character")
		}
		for _, guarded := range []string{"name", "uri", "uriTemplate"} {
			if key != guarded && strings.EqualFold(strings.TrimSpace(key), guarded) {
				return fmt.Errorf("it has a key that resembles %q", guarded)
			}
		}
	}
	return nil
}

// leaveOut removes the members that are not in the digest, and reports whether there were any. A
// member with a value of another kind stays: a model might read it.
func leaveOut(kind Kind, members map[string]json.RawMessage) (changed bool) {
	remove := func(from map[string]json.RawMessage, key string, is bool) {
		if _, has := from[key]; has && is {
			delete(from, key)
			changed = true
		}
	}
	switch kind {
	case Server:
		remove(members, "version", true)
	case Resource:
		remove(members, "size", isNumber(members["size"]))
		annotations := map[string]json.RawMessage{}
		if json.Unmarshal(members["annotations"], &annotations) != nil || !isTime(annotations["lastModified"]) {
			break
		}
		remove(annotations, "lastModified", true)
		members["annotations"], _ = json.Marshal(annotations)
		// A server that gives the time of some resources alone says no more of these.
		remove(members, "annotations", len(annotations) == 0)
	}
	return changed
}

func isNumber(value json.RawMessage) bool {
	return len(value) > 0 && (value[0] == '-' || '0' <= value[0] && value[0] <= '9')
}

// isTime reports whether a value is a time of ISO 8601, as MCP wants it for lastModified. More
// digits than those of a nanosecond could carry a message to a model.
func isTime(value json.RawMessage) bool {
	var text string
	if json.Unmarshal(value, &text) != nil || len(text) > len(time.RFC3339Nano) {
		return false
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", time.DateOnly} {
		if _, err := time.Parse(layout, text); err == nil {
			return true
		}
	}
	return false
}

func marshal(members map[string]json.RawMessage) ([]byte, error) {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	if err := e.Encode(members); err != nil {
		return nil, err
	}
	return canonical(text.Bytes())
}

// maxVersion bounds a version that is shown without being in the digest.
const maxVersion = 64

// PlainVersion reports whether a version of a serverInfo is too plain to carry a message to a
// model: at most 64 letters, digits and the characters . + _ and -.
func PlainVersion(version string) bool {
	return version != "" && len(version) <= maxVersion && !strings.ContainsFunc(version, func(r rune) bool {
		return !('0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || strings.ContainsRune(".+_-", r))
	})
}
