package backend

import (
	"context"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// secretField is a field whose value must not be repeated anywhere. The
// framework repeats the value of a field that is not of its type: in an error,
// which Vault then logs and audits in clear.
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

// HandleRequest is the framework's, after white space was cut from the ends of
// tokens, secret fields were found to be of their type, and durations to be
// durations.
func (b *mcpBackend) HandleRequest(ctx context.Context, req *logical.Request) (*logical.Response, error) {
	req.Data = trimFields(req.Data)
	if err := checkSecretFields(req.Data); err != nil {
		return answer(nil, err)
	}
	if err := b.checkDurations(req); err != nil {
		return answer(nil, err)
	}
	return b.Backend.HandleRequest(ctx, req)
}

func checkSecretFields(data map[string]any) error {
	for name, value := range data {
		field, secret := secretFields[name]
		if !secret || value == nil {
			continue
		}
		if _, ok := value.(string); ok && field.schema.Type == framework.TypeString {
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
