package backend

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/check"
)

// userError is a mistake of the caller's: its text goes out with status 400.
// Every other error is the engine's or the storage's, and Vault makes it a 500.
// Neither may hold a token: Vault writes error texts to its audit log in clear.
type userError string

// Error returns the text for the caller.
func (e userError) Error() string { return string(e) }

func userErrorf(format string, args ...any) error {
	return userError(fmt.Sprintf(format, args...))
}

// refused turns an error of package check about a name into a userError.
func refused(err error) error {
	if err == nil {
		return nil
	}
	return userError(err.Error())
}

// refusedAll turns the findings of package check into one userError.
func refusedAll(problems check.Problems) error {
	if len(problems) == 0 {
		return nil
	}
	texts := make([]string, 0, len(problems))
	for _, p := range problems {
		texts = append(texts, p.Error())
	}
	return userError(strings.Join(texts, "; "))
}

// notFound is the answer about something that does not exist, with status 404.
// Vault writes its text to the audit log in clear, so no token may be in it.
func notFound(err error) error {
	return logical.CodedError(http.StatusNotFound, err.Error())
}

// operation wraps the handlers of every path. It refuses fields that the operation does not
// take, and turns a userError into a 400. A misspelt allowed_server= must not silently create
// a client without access, and dry_run= must not be ignored by an operation without one.
func operation(handle framework.OperationFunc, takes *taken) framework.OperationFunc {
	return func(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
		if err := takes.check(req, d); err != nil {
			return logical.ErrorResponse(err.Error()), nil
		}
		return answer(handle(ctx, req, d))
	}
}

func answer(resp *logical.Response, err error) (*logical.Response, error) {
	var mistake userError
	if errors.As(err, &mistake) {
		return logical.ErrorResponse(mistake.Error()), nil
	}
	return resp, err
}

// describe fills in what all operations of a path share: the wrapper around the
// handlers and the prefix of the operation's id.
func describe(p *framework.Path) *framework.Path {
	if p.DisplayAttrs == nil {
		p.DisplayAttrs = &framework.DisplayAttributes{}
	}
	p.DisplayAttrs.OperationPrefix = operationPrefix
	for op, h := range p.Operations {
		takes := fieldsTaken(p, op, h)
		if o, ok := h.(*onlySome); ok {
			h = o.PathOperation
		}
		own := h.(*framework.PathOperation)
		own.Callback = operation(own.Callback, takes)
	}
	p.HelpSynopsis = strings.TrimSpace(p.HelpSynopsis)
	p.HelpDescription = strings.TrimSpace(p.HelpDescription)
	return p
}

// responses is the response schema of an operation that answers 200 with fields.
func responses(fields map[string]*framework.FieldSchema) map[int][]framework.Response {
	return map[int][]framework.Response{200: {{Description: "OK", Fields: fields}}}
}

// noContent is the response schema of an operation that answers at most warnings.
func noContent() map[int][]framework.Response {
	return map[int][]framework.Response{
		http.StatusOK:        {{Description: "Done, with warnings and without data."}},
		http.StatusNoContent: {{Description: "Done."}},
	}
}

// listed is the response schema of a LIST.
func listed() map[int][]framework.Response {
	return responses(map[string]*framework.FieldSchema{
		"keys": {Type: framework.TypeStringSlice, Description: "The names, in order."},
	})
}

// warned is the answer of a write that has at most warnings.
func warned(warnings []string) *logical.Response {
	if len(warnings) == 0 {
		return nil
	}
	return &logical.Response{Warnings: warnings}
}

// pick returns the named schemas out of all: the response schemas of paths that
// answer alike are written once.
func pick(all map[string]*framework.FieldSchema, names ...string) map[string]*framework.FieldSchema {
	picked := make(map[string]*framework.FieldSchema, len(names))
	for _, name := range names {
		picked[name] = all[name]
	}
	return picked
}

// merge returns the union of field schemas.
func merge(parts ...map[string]*framework.FieldSchema) map[string]*framework.FieldSchema {
	all := map[string]*framework.FieldSchema{}
	for _, part := range parts {
		maps.Copy(all, part)
	}
	return all
}
