package backend

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/check"
)

// checkDurations refuses a duration that is none before the framework does, which
// does not say how to write one.
func (b *mcpBackend) checkDurations(req *logical.Request) error {
	for _, name := range slices.Sorted(maps.Keys(req.Data)) {
		if !b.durations[name] {
			continue
		}
		read := check.Duration
		if name == fieldWait {
			read = check.FineDuration
		}
		if _, err := read(req.Data[name]); err != nil {
			return userErrorf("field %s: %s", name, err)
		}
	}
	return nil
}

// fieldsOf are the names of all fields of that type. No path has a field of such a
// name that is of another.
func fieldsOf(paths []*framework.Path, kind framework.FieldType) map[string]bool {
	names := map[string]bool{}
	for _, p := range paths {
		for name, field := range p.Fields {
			if field.Type == kind {
				names[name] = true
			}
		}
	}
	return names
}

// Fields of the same name are of the same type, on whatever path. So what a value
// means can be said before the framework reads it, which reads JSON's true as "1".
func fieldTypes(paths []*framework.Path) map[string]framework.FieldType {
	types := map[string]framework.FieldType{}
	for _, p := range paths {
		if p.TakesArbitraryInput {
			continue
		}
		for name, field := range p.Fields {
			types[name] = field.Type
		}
	}
	return types
}

// plainValues writes out what the framework would read as something else. The
// request that it returns shares all that stays.
func (b *mcpBackend) plainValues(req *logical.Request) (*logical.Request, error) {
	plain := req
	for name, value := range req.Data {
		made, changed, err := plainValue(b.types[name], value, req.Operation == logical.PatchOperation)
		if err != nil {
			return nil, userErrorf("field %s: %s", name, err)
		}
		if !changed {
			continue
		}
		if plain == req {
			own := *req
			own.Data = maps.Clone(req.Data)
			plain = &own
		}
		plain.Data[name] = made
	}
	return plain, nil
}

// plainValue returns the value as the framework is to read it. patch tells that a
// null within a value has a meaning.
func plainValue(kind framework.FieldType, value any, patch bool) (plain any, changed bool, err error) {
	switch kind {
	case framework.TypeKVPairs:
		if text, ok := value.(string); ok && strings.TrimSpace(text) == "" {
			return map[string]any{}, true, nil // NAME= on the command line: none
		}
		if pairs, ok := value.(map[string]any); ok {
			plain, err = plainPairs(pairs, patch)
			return plain, true, err
		}
		return plainList(value)
	case framework.TypeStringSlice, framework.TypeCommaStringSlice:
		return plainList(value)
	case framework.TypeString:
		if _, ok := value.(bool); ok {
			plain, err = plainText(value)
			return plain, true, err
		}
	case framework.TypeInt, framework.TypeInt64:
		if _, ok := value.(bool); ok {
			return nil, false, errNotANumber
		}
	}
	return value, false, nil
}

func plainPairs(pairs map[string]any, patch bool) (map[string]any, error) {
	plain := make(map[string]any, len(pairs))
	for _, key := range slices.Sorted(maps.Keys(pairs)) {
		if pairs[key] == nil && patch {
			plain[key] = nil
			continue
		}
		text, err := plainText(pairs[key])
		if err != nil {
			return nil, fmt.Errorf("the value of %q %w", key, err)
		}
		plain[key] = text
	}
	return plain, nil
}

func plainList(value any) (plain any, changed bool, err error) {
	switch v := value.(type) {
	case bool, float64, json.Number:
		if plain, err = plainText(v); err != nil {
			return nil, false, fmt.Errorf("it %w", err)
		}
		return plain, true, nil
	case []any:
		list := make([]any, len(v))
		for i, element := range v {
			if list[i], err = plainText(element); err != nil {
				return nil, false, fmt.Errorf("[%d] %w", i, err)
			}
		}
		return list, true, nil
	}
	return value, false, nil
}

var (
	errNotANumber = errors.New("it is true or false, and a number is wanted")
	errNotText    = errors.New("is null: write a string, or leave it out")
	errInexact    = errors.New(`is a number that may lose digits on its way: write it as a string, such as "1.10"`)
)

// exact is the largest number up to which JSON's numbers, as Vault hands them to a
// plugin, keep every digit of an integer.
const exact = 1 << 53

// plainText is a scalar as it was written. What is none is left for the framework to
// refuse.
func plainText(value any) (any, error) {
	switch v := value.(type) {
	case nil:
		return nil, errNotText
	case bool:
		return strconv.FormatBool(v), nil
	case float64:
		if v != math.Trunc(v) || math.Abs(v) > exact {
			return nil, errInexact
		}
		return strconv.FormatFloat(v, 'f', -1, 64), nil
	case json.Number:
		if n, err := v.Int64(); err != nil || n > exact || n < -exact {
			return nil, errInexact
		}
		return v.String(), nil
	}
	return value, nil
}
