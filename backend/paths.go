package backend

import (
	"cmp"
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

// operationPrefix starts the id of every operation in the OpenAPI document.
const operationPrefix = "mcp"

// path is a path as its file declares it, with only its own parts. build adds the rest.
type path struct {
	pattern  string
	fields   fields
	anyField bool                    // its writes also take fields that are not declared
	exists   framework.ExistenceFunc // by which Vault distinguishes a create from an update
	about    string                  // the noun in the ids of its operations
	ops      operations
	synopsis string
	help     string
}

type (
	fields     = map[string]*framework.FieldSchema
	operations = map[logical.Operation]operation
)

// operation is one operation of a path.
type operation struct {
	do          framework.OperationFunc
	summary     string   // default: the path's synopsis
	verb, about string   // its id: default are the kind of operation and the path's noun
	takes       []string // the fields that it takes; default: see takenBy
	runs        node

	answers   fields                       // the fields of its answer; default: it answers no data
	responses map[int][]framework.Response // all its answers, where answers does not say enough
}

// noFields is for an operation that takes no fields but those in its path.
var noFields = []string{}

// node is where an operation runs in a cluster. By default a write runs on the active node,
// since the others cannot write, and a read on any.
type node int

const (
	onActive node = iota + 1 // it reads data that must not be old, or that only the active node has
	onAny                    // it writes nothing
)

// handler is an operation as the framework calls it.
type handler struct {
	*framework.PathOperation
	takes *taken
}

// segment is a piece of a pattern: one segment of the path, which becomes the field of that name.
func segment(field string) string { return "(?P<" + field + ">[^/]+)" }

// listPath is a path that lists the entries below it.
func listPath(folder, synopsis string, list func(context.Context, logical.Storage) ([]string, error)) path {
	return path{
		pattern: folder + "/?$",
		about:   folder,
		ops: operations{logical.ListOperation: {
			do: func(ctx context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
				names, err := list(ctx, req.Storage)
				if err != nil {
					return nil, err
				}
				return logical.ListResponse(names), nil
			},
		}},
		synopsis: synopsis,
		help:     "The names come in alphabetical order.",
	}
}

// existing is the existence check of a path whose name is a key of the collection.
func existing[T any](c *collection[T]) framework.ExistenceFunc {
	return func(ctx context.Context, req *logical.Request, d *framework.FieldData) (bool, error) {
		v, err := c.get(ctx, req.Storage, d.Get("name").(string))
		return v != nil, err
	}
}

// build makes the paths for the framework.
func build(paths ...path) []*framework.Path {
	built := make([]*framework.Path, 0, len(paths))
	for i := range paths {
		built = append(built, paths[i].build())
	}
	return built
}

func (p *path) build() *framework.Path {
	handlers := make(map[logical.Operation]framework.OperationHandler, len(p.ops))
	for kind, op := range p.ops {
		handlers[kind] = op.build(p, kind)
	}
	return &framework.Path{
		Pattern:             p.pattern,
		Fields:              p.fields,
		TakesArbitraryInput: p.anyField,
		ExistenceCheck:      p.exists,
		Operations:          handlers,
		DisplayAttrs:        &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationSuffix: p.about},
		HelpSynopsis:        p.synopsis,
		HelpDescription:     strings.TrimSpace(p.help),
	}
}

func (o operation) build(p *path, kind logical.Operation) *handler {
	takes := p.takenBy(kind, o.takes)
	forward := o.runs == onActive || o.runs != onAny && kind != logical.ReadOperation && kind != logical.ListOperation
	built := &framework.PathOperation{
		Callback:                    checked(o.do, takes),
		Summary:                     cmp.Or(o.summary, p.synopsis),
		Responses:                   o.allResponses(kind),
		ForwardPerformanceStandby:   forward,
		ForwardPerformanceSecondary: forward,
	}
	if o.verb != "" || o.about != "" {
		built.DisplayAttrs = &framework.DisplayAttributes{OperationVerb: o.verb, OperationSuffix: o.about}
	}
	return &handler{PathOperation: built, takes: takes}
}

// allResponses returns the schemas of the operation's answers.
func (o *operation) allResponses(kind logical.Operation) map[int][]framework.Response {
	switch {
	case o.responses != nil:
		return o.responses
	case o.answers != nil:
		return answering(o.answers)
	case kind == logical.ListOperation:
		return answering(fields{"keys": {Type: framework.TypeStringSlice, Description: "The names, in order."}})
	default:
		return noContent()
	}
}

// answering is the schema of an answer with data.
func answering(data fields) map[int][]framework.Response {
	return map[int][]framework.Response{http.StatusOK: {{Description: "OK", Fields: data}}}
}

// noContent is the schema of an answer that has at most warnings.
func noContent() map[int][]framework.Response {
	return map[int][]framework.Response{
		http.StatusOK:        {{Description: "Done, with warnings and without data."}},
		http.StatusNoContent: {{Description: "Done."}},
	}
}

// checked wraps the handler of every operation. It refuses fields that the operation does not
// take, and turns a userError into a 400. A misspelt allowed_server= must not silently create
// a client without access, and dry_run= must not be ignored by an operation without one.
func checked(do framework.OperationFunc, takes *taken) framework.OperationFunc {
	return func(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
		if err := takes.check(req, d); err != nil {
			return answer(nil, err)
		}
		return answer(do(ctx, req, d))
	}
}

// answer turns a userError into the answer with status 400.
func answer(resp *logical.Response, err error) (*logical.Response, error) {
	var mistake userError
	if errors.As(err, &mistake) {
		return logical.ErrorResponse(mistake.Error()), nil
	}
	return resp, err
}

// pick returns the named schemas out of all: the response schemas of paths that
// answer alike are written once.
func pick(all fields, names ...string) fields {
	picked := make(fields, len(names))
	for _, name := range names {
		picked[name] = all[name]
	}
	return picked
}

// merge returns the union of field schemas.
func merge(parts ...fields) fields {
	all := fields{}
	for _, part := range parts {
		maps.Copy(all, part)
	}
	return all
}

// taken are the fields that an operation takes.
type taken struct {
	fields map[string]bool
	path   map[string]bool // those that the path itself holds
	any    bool            // others, too, which the operation itself looks at
	writes map[string]bool // those that a write of the path takes
	verb   string          // its action, for a sentence
}

var captured = regexp.MustCompile(`\(\?P<(\w+)>`)

// takenBy returns the fields that an operation of the path takes: only those, if it names any.
// Otherwise a create, an update and a patch take all fields of the path, and the other
// operations take those in its pattern and those that may stand in a query.
func (p *path) takenBy(kind logical.Operation, only []string) *taken {
	t := &taken{fields: map[string]bool{}, path: map[string]bool{}, writes: map[string]bool{}, verb: string(kind)}
	for _, match := range captured.FindAllStringSubmatch(p.pattern, -1) {
		t.fields[match[1]], t.path[match[1]] = true, true
	}
	changes := kind == logical.CreateOperation || kind == logical.UpdateOperation || kind == logical.PatchOperation
	t.any = changes && p.anyField
	for _, name := range only {
		t.fields[name] = true
	}
	for name, field := range p.fields {
		if only == nil && (changes || field.Query) {
			t.fields[name] = true
		}
	}
	if write, ok := p.ops[logical.UpdateOperation]; ok && !changes {
		t.writes = p.takenBy(logical.UpdateOperation, write.takes).fields
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
		case t.writes[name] && req.Operation == logical.ReadOperation:
			return userErrorf("field %s has no effect on a read: it goes in the body of a write, vault write …/%s", name, req.Path)
		case known:
			return userErrorf("field %s has no effect on this %s: leave it out (%s)", name, t.verb, t.list())
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
			if h, ok := route.Operations[op].(*handler); ok && described != nil {
				takes := maps.Clone(h.takes.fields)
				if create, ok := route.Operations[logical.CreateOperation].(*handler); ok && op == logical.UpdateOperation {
					maps.Copy(takes, create.takes.fields) // a POST is either
				}
				trimOperation(doc, described, route, takes)
			}
		}
	}
}

func trimOperation(doc *framework.OASDocument, op *framework.OASOperation, route *framework.Path, takes map[string]bool) {
	ignored := func(name string) bool { return route.Fields[name] != nil && !takes[name] }
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
