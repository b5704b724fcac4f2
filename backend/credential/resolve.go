package credential

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// The placeholders of a path, and of the data of a write.
const (
	ClientAlias    = "client.alias"
	PersonAlias    = "person.alias"
	ClientMetadata = "client.metadata." // and the key
)

// Values are the values of a Spec's placeholders.
type Values struct {
	ClientAlias string
	PersonAlias string            // "": nobody is signed in
	Metadata    map[string]string // nil: not allowed for this client
}

var (
	metadataKeyForm = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?$`)

	// valueForm is the form of a value that is put into a path. It has no character and is
	// no segment with a special meaning in paths.
	valueForm = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_.@:-]*[A-Za-z0-9])?$`)
)

// Placeholders are those of the path and of the data, in order and each once:
// "client.alias", "client.metadata.team". Check refuses all others.
func (s Spec) Placeholders() []string {
	found := map[string]bool{}
	for _, text := range append(slices.Collect(maps.Values(s.Data)), s.Path) {
		parts, err := splitPlaceholders(text)
		if err != nil {
			continue
		}
		for _, p := range parts {
			if p.placeholder != "" {
				found[p.placeholder] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// Resolve returns the path and the data for one principal. data is nil for a read.
func (s Spec) Resolve(v Values) (path string, data map[string]any, err error) {
	if path, err = v.fill(s.Path); err != nil {
		return "", nil, fmt.Errorf("its path %w", err)
	}
	if len(path) > maxPath {
		return "", nil, fmt.Errorf("its path is %d bytes long with its values: at most %d are allowed", len(path), maxPath)
	}
	if err := checkLiteralPath(path); err != nil {
		return "", nil, fmt.Errorf("its path %w", err)
	}
	if s.Method != MethodWrite {
		return path, nil, nil
	}
	data = make(map[string]any, len(s.Data))
	for _, name := range slices.Sorted(maps.Keys(s.Data)) {
		if data[name], err = v.fill(s.Data[name]); err != nil {
			return "", nil, fmt.Errorf("its data %q %w", name, err)
		}
	}
	return path, data, nil
}

// fill replaces the placeholders in a text.
func (v Values) fill(text string) (string, error) {
	parts, err := splitPlaceholders(text)
	if err != nil {
		return "", err
	}
	var filled strings.Builder
	for _, p := range parts {
		if p.placeholder == "" {
			filled.WriteString(p.text)
			continue
		}
		value, err := v.of(p.placeholder)
		if err != nil {
			return "", fmt.Errorf("has {{%s}}, and %w", p.placeholder, err)
		}
		if !valueForm.MatchString(value) || strings.Contains(value, "..") {
			return "", fmt.Errorf("has {{%s}}, and that value has a character that no path takes: it takes letters, digits and _ . @ : -, with a letter or digit at both ends and no two dots in a row", p.placeholder)
		}
		filled.WriteString(value)
	}
	return filled.String(), nil
}

// of returns the value of a placeholder that splitPlaceholders has found.
func (v Values) of(placeholder string) (string, error) {
	switch placeholder {
	case ClientAlias:
		if v.ClientAlias == "" {
			return "", errors.New("the client has no alias")
		}
		return v.ClientAlias, nil
	case PersonAlias:
		if v.PersonAlias == "" {
			return "", errors.New("nobody is signed in: only a person who has signed in has one")
		}
		return v.PersonAlias, nil
	}
	if v.Metadata == nil {
		return "", errors.New("that is for clients with upstream_policies alone: set upstream_policies on the client, or name the path without it")
	}
	value := v.Metadata[strings.TrimPrefix(placeholder, ClientMetadata)]
	if value == "" {
		return "", errors.New("the client's metadata has no such value: set it on the client")
	}
	return value, nil
}

// part is a piece of a text: a placeholder, or the text between two of them.
type part struct{ text, placeholder string }

// splitPlaceholders splits a path, or a value of data, at its placeholders.
func splitPlaceholders(text string) ([]part, error) {
	var parts []part
	for text != "" {
		before, rest, found := strings.Cut(text, "{{")
		if before != "" {
			parts = append(parts, part{text: before})
		}
		if !found {
			break
		}
		inside, after, closed := strings.Cut(rest, "}}")
		if !closed {
			return nil, errors.New("has {{ without }}")
		}
		name := strings.Trim(inside, " \t")
		if !isPathPlaceholder(name) {
			return nil, errors.New("has a placeholder that is not known: use {{client.alias}}, {{person.alias}} or {{client.metadata.KEY}}")
		}
		parts = append(parts, part{placeholder: name})
		text = after
	}
	return parts, nil
}

func isPathPlaceholder(name string) bool {
	key, metadata := strings.CutPrefix(name, ClientMetadata)
	return name == ClientAlias || name == PersonAlias || metadata && metadataKeyForm.MatchString(key)
}
