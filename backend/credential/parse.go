package credential

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/hashicorp/go-secure-stdlib/parseutil"
)

// ParseSpec reads a path, or a JSON object as text. It leaves the checks to Check.
func ParseSpec(text string) (Spec, error) {
	text = strings.TrimSpace(text)
	if !strings.HasPrefix(text, "{") || strings.HasPrefix(text, "{{") {
		return Spec{Path: text}, nil
	}
	members, err := object([]byte(text))
	if err != nil {
		return Spec{}, err
	}
	var s Spec
	for _, m := range members {
		switch m.key {
		case "path":
			s.Path, err = textOf(m.value)
		case "method":
			s.Method, err = textOf(m.value)
			if s.Method == MethodRead {
				s.Method = ""
			}
		case "data":
			s.Data, err = dataOf(m.value)
		case "refresh":
			s.Refresh, err = secondsOf(m.value)
		default:
			return Spec{}, fmt.Errorf("has the key %q, which is not known: use path, method, data and refresh", m.key)
		}
		if err != nil {
			return Spec{}, fmt.Errorf("its %s %w", m.key, err)
		}
	}
	return s, nil
}

// SplitObject splits a JSON object of credentials by name into texts that ParseSpec reads.
func SplitObject(text string) (map[string]string, error) {
	members, err := object([]byte(text))
	if err != nil {
		return nil, err
	}
	texts := make(map[string]string, len(members))
	for _, m := range members {
		if m.value[0] == '{' {
			texts[m.key] = string(m.value)
		} else if texts[m.key], err = textOf(m.value); err != nil {
			return nil, fmt.Errorf("has a value of %q that is neither a path nor an object", m.key)
		}
	}
	return texts, nil
}

type member struct {
	key   string
	value json.RawMessage
}

// object splits a JSON object. A key that stands twice is refused, since two readers could
// take two values of it.
func object(data []byte) ([]member, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	if begin, err := decoder.Token(); err != nil || begin != json.Delim('{') {
		return nil, errNotAnObject
	}
	var members []member
	seen := map[string]bool{}
	for decoder.More() {
		key, err := decoder.Token()
		if err != nil {
			return nil, errNotJSON
		}
		m := member{key: key.(string)} //nolint:forcetypeassert // the decoder takes nothing else for a key
		if err := decoder.Decode(&m.value); err != nil {
			return nil, errNotJSON
		}
		if seen[m.key] {
			return nil, fmt.Errorf("has the key %q twice", m.key)
		}
		seen[m.key] = true
		members = append(members, m)
	}
	if _, err := decoder.Token(); err != nil {
		return nil, errNotJSON
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("has more text after its JSON object")
	}
	return members, nil
}

var (
	errNotJSON     = errors.New(`is not valid JSON: write a path, or an object such as {"path": "pki/issue/web", "method": "write"}`)
	errNotAnObject = errors.New("is not a JSON object")
	errNotScalar   = errors.New("is not a string")
)

// textOf reads a string. Numbers and booleans are taken as they are written, as Vault does.
func textOf(raw json.RawMessage) (string, error) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return "", errNotJSON
	}
	switch v := value.(type) {
	case string:
		return v, nil
	case json.Number, bool:
		return fmt.Sprint(v), nil
	}
	return "", errNotScalar
}

func dataOf(raw json.RawMessage) (map[string]string, error) {
	members, err := object(raw)
	if err != nil || len(members) == 0 {
		return nil, err
	}
	data := make(map[string]string, len(members))
	for _, m := range members {
		if data[m.key], err = textOf(m.value); err != nil {
			return nil, fmt.Errorf("has a value of %q that %w", m.key, err)
		}
	}
	return data, nil
}

// secondsOf reads a duration in the forms that Vault takes.
func secondsOf(raw json.RawMessage) (int64, error) {
	text, err := textOf(raw)
	if err != nil {
		return 0, err
	}
	d, err := parseutil.ParseDurationSecond(text)
	if err != nil || d <= 0 || d%time.Second != 0 {
		return 0, fmt.Errorf("%q is not a valid duration: write whole seconds, such as 90, 30s or 5m", text)
	}
	return int64(d / time.Second), nil
}
