package backend

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

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

// onlySome is an operation that takes only some of its path's fields.
type onlySome struct {
	*framework.PathOperation
	fields []string
}

// only marks an operation that takes those fields of its path, and no other.
// Without it, an operation that creates or changes something takes all of them,
// and any other those in the path's pattern and those that may stand in a query.
func only(op *framework.PathOperation, fields ...string) framework.OperationHandler {
	return &onlySome{PathOperation: op, fields: fields}
}

// taken are the fields that an operation takes.
type taken struct {
	fields map[string]bool
	path   map[string]bool // those that the path itself holds
	any    bool            // others, too, which the operation itself looks at
	verb   string          // what it does, for a sentence
}

var captured = regexp.MustCompile(`\(\?P<(\w+)>`)

// fieldsTaken returns the fields that the operation of the path takes.
func fieldsTaken(p *framework.Path, op logical.Operation, h framework.OperationHandler) *taken {
	t := &taken{fields: map[string]bool{}, path: map[string]bool{}, verb: string(op)}
	for _, match := range captured.FindAllStringSubmatch(p.Pattern, -1) {
		t.fields[match[1]], t.path[match[1]] = true, true
	}
	changes := op == logical.CreateOperation || op == logical.UpdateOperation || op == logical.PatchOperation
	t.any = changes && p.TakesArbitraryInput
	if o, ok := h.(*onlySome); ok {
		for _, name := range o.fields {
			t.fields[name] = true
		}
		return t
	}
	for name, field := range p.Fields {
		if changes || field.Query {
			t.fields[name] = true
		}
	}
	return t
}

// check refuses a field that the operation would ignore.
func (t *taken) check(req *logical.Request, d *framework.FieldData) error {
	for _, name := range slices.Sorted(maps.Keys(req.Data)) {
		_, known := d.Schema[name]
		switch {
		case t.path[name]:
			if req.Data[name] != d.Raw[name] {
				return userErrorf("field %s: the path says %v already, and nothing else can be said here: leave it out", name, d.Raw[name])
			}
		case t.fields[name]:
		case req.Operation == logical.ListOperation && !known:
			// A LIST sent as GET carries list=true.
		case known:
			return userErrorf("field %s has no effect on a %s: leave it out (%s)", name, t.verb, t.list())
		case !t.any:
			return userErrorf("unknown field %q: %s%s", name, hint(name, d.Schema), t.list())
		}
	}
	return nil
}

func (t *taken) list() string {
	if len(t.fields) == 0 {
		return "this path takes none"
	}
	return "this path takes " + strings.Join(slices.Sorted(maps.Keys(t.fields)), ", ")
}

// trimOpenAPI removes fields from operations that do not take them: the framework lists each
// field for all operations of its path.
func (b *mcpBackend) trimOpenAPI(resp *logical.Response) {
	if resp == nil {
		return
	}
	doc, ok := resp.Data["openapi"].(*framework.OASDocument)
	if !ok {
		return
	}
	for path, item := range doc.Paths {
		route := b.Route(strings.TrimPrefix(path, "/"))
		if route == nil {
			continue
		}
		for op, described := range map[logical.Operation]*framework.OASOperation{
			logical.ReadOperation: item.Get, logical.DeleteOperation: item.Delete, logical.UpdateOperation: item.Post,
		} {
			if h, ok := route.Operations[op]; ok && described != nil {
				takes := fieldsTaken(route, op, h)
				if create, ok := route.Operations[logical.CreateOperation]; ok && op == logical.UpdateOperation {
					maps.Copy(takes.fields, fieldsTaken(route, logical.CreateOperation, create).fields) // a POST is either
				}
				trimOperation(doc, described, route, takes)
			}
		}
	}
}

func trimOperation(doc *framework.OASDocument, op *framework.OASOperation, route *framework.Path, takes *taken) {
	ignored := func(name string) bool { return route.Fields[name] != nil && !takes.fields[name] }
	op.Parameters = slices.DeleteFunc(op.Parameters, func(p framework.OASParameter) bool { return p.In == "query" && ignored(p.Name) })
	if op.RequestBody == nil {
		return
	}
	for _, content := range op.RequestBody.Content {
		body := doc.Components.Schemas[content.Schema.Ref[strings.LastIndex(content.Schema.Ref, "/")+1:]]
		if body != nil {
			maps.DeleteFunc(body.Properties, func(name string, _ *framework.OASSchema) bool { return ignored(name) })
		}
	}
}
