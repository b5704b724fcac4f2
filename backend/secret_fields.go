package backend

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// secretField is a field whose value must not be repeated anywhere. If a value has the wrong
// type, the framework repeats it in an error, which Vault logs and audits in clear.
type secretField struct {
	schema *framework.FieldSchema
	form   string // what to write instead
}

var secretFields = map[string]secretField{
	"token":                   {&framework.FieldSchema{Type: framework.TypeString}, "write one string"},
	"access_token":            {&framework.FieldSchema{Type: framework.TypeString}, "write one string"},
	"access_token_ciphertext": {&framework.FieldSchema{Type: framework.TypeString}, "write one string"},
	"secret_key":              {&framework.FieldSchema{Type: framework.TypeString}, "write one string"},
	"session_token":           {&framework.FieldSchema{Type: framework.TypeString}, "write one string"},
	"url":                     {&framework.FieldSchema{Type: framework.TypeString}, "write one string"},
	"headers":                 {&framework.FieldSchema{Type: framework.TypeKVPairs}, "write NAME=VALUE, once for each, or an object of strings"},
	"env":                     {&framework.FieldSchema{Type: framework.TypeKVPairs}, "write NAME=VALUE, once for each, or an object of strings"},
}

// HandleExistenceCheck is the framework's, without the request's fields: what
// exists depends on the path alone.
func (b *mcpBackend) HandleExistenceCheck(ctx context.Context, req *logical.Request) (checked, exists bool, err error) {
	bare := *req
	bare.Data = nil
	return b.Backend.HandleExistenceCheck(ctx, &bare)
}

// HandleRequest prepares the request for the framework's handler: it refuses secrets in a query,
// cuts white space from the ends of tokens, turns a patch's empty pairs into null, and checks
// the types of secret fields and of durations.
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
	req.Data = b.emptyPairs(req.Operation, trimFields(req.Data))
	if err := checkSecretFields(req.Data); err != nil {
		return answer(nil, err)
	}
	if err := b.checkDurations(req); err != nil {
		return answer(nil, err)
	}
	req, err := b.plainValues(req)
	if err != nil {
		return answer(nil, err)
	}
	return b.Backend.HandleRequest(ctx, req)
}

// refuseSecretsInQuery refuses a read, a list or a delete that carries a secret:
// these have a query and no body, and Vault's audit log keeps the query in clear.
// It cannot be undone, so the answer says what has happened.
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

func checkSecretFields(data map[string]any) error {
	for name, value := range data {
		field, secret := secretFields[name]
		if !secret || value == nil {
			continue
		}
		if text, ok := value.(string); ok && (field.schema.Type == framework.TypeString || strings.TrimSpace(text) == "") {
			continue
		}
		one := framework.FieldData{
			Raw:    map[string]any{name: value},
			Schema: map[string]*framework.FieldSchema{name: field.schema},
		}
		if one.Validate() != nil {
			return userErrorf("field %s: it is not of the form that is wanted: %s", name, field.form)
		}
	}
	return nil
}
