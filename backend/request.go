package backend

import (
	"context"
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

// secretFields are the fields whose values must not be repeated anywhere. If a value has the
// wrong type, the framework repeats it in an error, which Vault logs and audits in clear.
var secretFields = map[string]struct{}{
	"token": {}, "access_token": {}, "access_token_ciphertext": {}, "secret_key": {}, "session_token": {},
	"url": {}, "headers": {}, "env": {}, "credentials": {}, "files": {},
}

// HandleExistenceCheck is the framework's, without the request's fields: existence
// depends on the path alone.
func (b *mcpBackend) HandleExistenceCheck(ctx context.Context, req *logical.Request) (checked, exists bool, err error) {
	bare := *req
	bare.Data = nil
	return b.Backend.HandleExistenceCheck(ctx, &bare)
}

// HandleRequest prepares the request for the framework's handler: it refuses secrets in a query,
// cuts white space from the ends of tokens, turns a patch's empty pairs into null, writes
// objects of credentials as text, and checks the types of secret fields and of durations.
func (b *mcpBackend) HandleRequest(ctx context.Context, req *logical.Request) (*logical.Response, error) {
	if req.Operation == logical.HelpOperation {
		resp, err := b.Backend.HandleRequest(ctx, req)
		b.trimOpenAPI(resp)
		return resp, err
	}
	if err := refuseSecretsInQuery(req); err != nil {
		return answer(nil, err)
	}
	if strings.HasPrefix(req.Path, "policies/") {
		return b.Backend.HandleRequest(ctx, req) // a settings file may hold fields of any name
	}
	data, err := credentialsAsText(b.emptyPairs(req.Operation, trimFields(req.Data)))
	if err != nil {
		return answer(nil, err)
	}
	req.Data = data
	if err := b.checkSecretFields(req.Data); err != nil {
		return answer(nil, err)
	}
	if err := b.checkDurations(req); err != nil {
		return answer(nil, err)
	}
	req, err = b.plainValues(req)
	if err != nil {
		return answer(nil, err)
	}
	return b.Backend.HandleRequest(ctx, req)
}

// refuseSecretsInQuery refuses a read, a list or a delete that carries a secret:
// these have a query and no body, and Vault's audit log keeps the query in clear.
// It cannot be undone, so the answer reports it.
func refuseSecretsInQuery(req *logical.Request) error {
	switch req.Operation {
	case logical.ReadOperation, logical.ListOperation, logical.DeleteOperation:
	default:
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(req.Data)) {
		if _, secret := secretFields[name]; secret {
			return userErrorf("field %s: it came in the query of a %s, which Vault's audit log keeps in clear: if it is a secret, treat it as leaked and replace it. Only a write takes it, in its body: vault write …/%s %s=- reads it from standard input",
				name, req.Operation, req.Path, name)
		}
	}
	return nil
}

func (b *mcpBackend) checkSecretFields(data map[string]any) error {
	for name, value := range data {
		if _, secret := secretFields[name]; !secret || value == nil {
			continue
		}
		form := "write one string"
		switch {
		case name == fieldCredentials:
			form = "write NAME=PATH, once for each, or an object with a path, or an object with path, method, data and refresh, for each name"
		case b.types[name] == framework.TypeKVPairs:
			form = "write NAME=VALUE, once for each, or an object of strings"
		}
		text, ok := value.(string)
		if ok && (b.types[name] == framework.TypeString || strings.TrimSpace(text) == "") {
			continue
		}
		alone := framework.FieldData{Raw: map[string]any{name: value}, Schema: fields{name: {Type: b.types[name]}}}
		if alone.Validate() != nil {
			return userErrorf("field %s: it is not of the form that is wanted: %s", name, form)
		}
	}
	return nil
}

// trimmedFields are the fields whose white space at the ends is always a mistake: the line
// feed of a file, of echo or of a terminal.
var trimmedFields = []string{
	"token", "access_token", "access_token_ciphertext", "accessor",
	"access_key", "secret_key", "session_token",
}

// trimFields returns a copy of data with these fields trimmed.
func trimFields(data map[string]any) map[string]any {
	copied := false
	for _, name := range trimmedFields {
		text, ok := data[name].(string)
		if !ok {
			continue
		}
		trimmed := strings.TrimSpace(text)
		if len(trimmed) == len(text) {
			continue
		}
		if !copied {
			data, copied = maps.Clone(data), true
		}
		data[name] = trimmed
	}
	return data
}

// emptyPairs returns the data of a merge patch with null for pairs that are given empty. A
// command line can only say metadata=, and in a merge patch an empty object would change
// nothing.
func (b *mcpBackend) emptyPairs(op logical.Operation, data map[string]any) map[string]any {
	if op != logical.PatchOperation {
		return data
	}
	patch := maps.Clone(data)
	for name, value := range patch {
		if value == "" && b.types[name] == framework.TypeKVPairs {
			patch[name] = nil
		}
	}
	return patch
}

// checkDurations refuses a value that is not a duration. The framework would do so, too,
// but would not say how to write one.
func (b *mcpBackend) checkDurations(req *logical.Request) error {
	for _, name := range slices.Sorted(maps.Keys(req.Data)) {
		if b.types[name] != framework.TypeDurationSecond {
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

// fieldTypes returns the types of all fields. Fields of the same name have the same type on
// every path, so a value can be read before the framework reads it, to which JSON's true
// is "1".
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

// plainValues writes values out that the framework would read as something else. The
// request that it returns shares all other values with req.
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

// plainValue returns the value in the form in which the framework reads it rightly. In a
// patch, a null within a value has a meaning.
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
	case framework.TypeTime:
		if value == nil {
			break
		}
		if _, err := check.Time(value); err != nil {
			return nil, false, err
		}
		if _, ok := value.(string); !ok {
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

// plainText returns a scalar as it was written. The framework refuses other values.
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
