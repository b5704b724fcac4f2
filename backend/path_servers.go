package backend

import (
	"context"
	"maps"
	"reflect"
	"slices"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/check"
	"vault-plugin-secrets-mcp/backend/feed"
	"vault-plugin-secrets-mcp/backend/token"
)

func serverFields() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"name": {
			Type:        framework.TypeString,
			Description: "Name of the server: letters, digits, - and _ with a letter or digit at both ends, without a double underscore.",
			Required:    true,
		},
		"transport": {
			Type:          framework.TypeString,
			Description:   "How the gateway reaches the server: http (streamable HTTP), sse (HTTP+SSE of the revision 2024-11-05) or stdio (a child process of the gateway, if the gateway's own file allows the command).",
			AllowedValues: []any{check.TransportHTTP, check.TransportSSE, check.TransportStdio},
		},
		"url": {
			Type:        framework.TypeString,
			Description: "The server's URL, in its canonical spelling. The values of its query are never read back.",
		},
		"command": {
			Type:        framework.TypeString,
			Description: "The command of a stdio server: an absolute path, or a bare name that the gateway's file allows.",
		},
		"args": {
			Type:        framework.TypeStringSlice,
			Description: "The command's arguments, one each. On the command line: args=-y args=some-server; one that starts with @ is written \\@, since Vault's CLI would read a file.",
		},
		"env": {
			Type:        framework.TypeKVPairs,
			Description: "Environment of a stdio server. The values are never read back.",
		},
		"headers": {
			Type:        framework.TypeKVPairs,
			Description: "Headers that the gateway adds to every request to the server: the server's own credentials. The values are never read back.",
		},
		"shared": {
			Type:        framework.TypeBool,
			Description: "One child process of a stdio server for all clients, instead of one for each.",
		},
		"description": {
			Type:        framework.TypeString,
			Description: "What the server is for, in words.",
		},
	}
}

// serverResponseFields are what a read shows: of what may be a credential only
// the names.
func serverResponseFields() map[string]*framework.FieldSchema {
	return merge(
		pick(serverFields(), "name", "transport", "command", "args", "shared", "description"),
		map[string]*framework.FieldSchema{
			"id":        {Type: framework.TypeString, Description: "The registration's id. It changes when the server is pointed elsewhere."},
			"url":       {Type: framework.TypeString, Description: "The server's URL, without its query."},
			"url_query": {Type: framework.TypeStringSlice, Description: "The names of the query's parameters."},
			"env":       {Type: framework.TypeStringSlice, Description: "The names of the environment variables."},
			"headers":   {Type: framework.TypeStringSlice, Description: "The names of the headers."},
		})
}

func (b *mcpBackend) pathServers() []*framework.Path {
	return []*framework.Path{
		describe(&framework.Path{
			Pattern: "servers/?$",
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ListOperation: &framework.PathOperation{
					Callback:     b.listServers,
					Summary:      "List the registered MCP servers.",
					DisplayAttrs: &framework.DisplayAttributes{OperationVerb: "list", OperationSuffix: "servers"},
					Responses:    listed(),
				},
			},
			HelpSynopsis:    "List the registered MCP servers.",
			HelpDescription: "The names come in alphabetical order.",
		}),
		describe(&framework.Path{
			Pattern:        "servers/(?P<name>[^/]+)",
			Fields:         serverFields(),
			DisplayAttrs:   &framework.DisplayAttributes{OperationSuffix: "server"},
			ExistenceCheck: b.serverExists,
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ReadOperation: &framework.PathOperation{
					Callback:  b.readServer,
					Summary:   "Read a registered MCP server, without its credentials.",
					Responses: responses(serverResponseFields()),
				},
				logical.CreateOperation: &framework.PathOperation{
					Callback: b.writeServer, Summary: "Register an MCP server.", Responses: noContent(),
					ForwardPerformanceStandby: true, ForwardPerformanceSecondary: true,
				},
				logical.UpdateOperation: &framework.PathOperation{
					Callback: b.writeServer, Summary: "Change a registered MCP server.", Responses: noContent(),
					ForwardPerformanceStandby: true, ForwardPerformanceSecondary: true,
				},
				logical.DeleteOperation: &framework.PathOperation{
					Callback: b.deleteServer, Summary: "Remove an MCP server from the registry.", Responses: noContent(),
					ForwardPerformanceStandby: true, ForwardPerformanceSecondary: true,
				},
			},
			HelpSynopsis: "Register the MCP servers that clients may be allowed to reach.",
			HelpDescription: `
A server is named in a client's allowed_servers and in the gateway's URLs. What a
policy is compared with is what is registered here, never what a client calls
the server.

Fields that an update does not name keep their value. Pointing the server
elsewhere (transport, url, command, args, env or shared) gives the registration
a new id, and every session and stream through the old one ends. Changing only
headers or the description ends none.

The values of headers, env and of the URL's query are write-only: a read shows
their names. Gateways get them through gateway/servers.`,
		}),
	}
}

func (b *mcpBackend) serverExists(ctx context.Context, req *logical.Request, d *framework.FieldData) (bool, error) {
	e, err := b.servers.get(ctx, req.Storage, d.Get("name").(string))
	return e != nil, err
}

func (b *mcpBackend) listServers(ctx context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	names, err := b.servers.list(ctx, req.Storage, "")
	if err != nil {
		return nil, err
	}
	return logical.ListResponse(names), nil
}

func (b *mcpBackend) readServer(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	name := d.Get("name").(string)
	e, err := b.servers.get(ctx, req.Storage, name)
	if err != nil || e == nil {
		return nil, err
	}
	bare, query := splitQuery(e.URL)
	return &logical.Response{Data: map[string]any{
		"name":        name,
		"id":          e.ID,
		"transport":   e.Transport,
		"url":         bare,
		"url_query":   orEmpty(query),
		"command":     e.Command,
		"args":        orEmpty(e.Args),
		"env":         sortedKeys(e.Env),
		"headers":     sortedKeys(e.Headers),
		"shared":      e.Shared,
		"description": e.Description,
	}}, nil
}

func (b *mcpBackend) writeServer(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	name := d.Get("name").(string)
	if err := refused(check.ServerName(name)); err != nil {
		return nil, err
	}
	ctx, cancel := durable(ctx)
	defer cancel()
	defer b.servers.lock(name)()
	held, err := b.servers.getLocked(ctx, req.Storage, name)
	if err != nil {
		return nil, err
	}
	if err := checkStillThere(req, held != nil, "server", name); err != nil {
		return nil, err
	}
	next := serverFromFields(held, d)
	if err := refusedAll(next.Check()); err != nil {
		return nil, err
	}
	if held != nil && reflect.DeepEqual(held, next) {
		return nil, nil
	}
	if held == nil || !held.samePlace(next) {
		if next.ID, err = token.RandomID(b.opts.Random, idLength); err != nil {
			return nil, err
		}
	}
	op := feed.Update
	if held == nil {
		op = feed.Create
	}
	return nil, b.feed.Around(ctx, req.Storage, []feed.Event{{Type: feed.Server, Operation: op, Name: name}}, func() error {
		return b.servers.put(ctx, req.Storage, name, next)
	})
}

func serverFromFields(held *serverEntry, d *framework.FieldData) *serverEntry {
	next := &serverEntry{}
	if held != nil {
		*next = *held
	}
	for field, target := range map[string]*string{
		"transport": &next.Transport, "url": &next.URL, "command": &next.Command, "description": &next.Description,
	} {
		if v, ok := d.GetOk(field); ok {
			*target = v.(string)
		}
	}
	if v, ok := d.GetOk("args"); ok {
		next.Args = v.([]string)
	}
	for field, target := range map[string]*map[string]string{"env": &next.Env, "headers": &next.Headers} {
		if v, ok := d.GetOk(field); ok {
			*target = v.(map[string]string)
		}
	}
	if v, ok := d.GetOk("shared"); ok {
		next.Shared = v.(bool)
	}
	return next
}

func (b *mcpBackend) deleteServer(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	name := d.Get("name").(string)
	ctx, cancel := durable(ctx)
	defer cancel()
	defer b.servers.lock(name)()
	return nil, b.feed.Around(ctx, req.Storage, []feed.Event{{Type: feed.Server, Operation: feed.Delete, Name: name}}, func() error {
		return b.servers.delete(ctx, req.Storage, name)
	})
}

// allServers returns the whole registry by name.
func (b *mcpBackend) allServers(ctx context.Context, s logical.Storage) (map[string]*serverEntry, error) {
	names, err := b.servers.list(ctx, s, "")
	if err != nil {
		return nil, err
	}
	all := make(map[string]*serverEntry, len(names))
	for _, name := range names {
		e, err := b.servers.get(ctx, s, name)
		if err != nil {
			return nil, err
		}
		if e != nil {
			all[name] = e
		}
	}
	return all, nil
}

// checkStillThere refuses a write whose ACL check was made for the other kind:
// Vault asks whether the entry exists, to choose between create and update,
// before the engine holds any lock.
func checkStillThere(req *logical.Request, exists bool, what, name string) error {
	switch {
	case req.Operation == logical.CreateOperation && exists:
		return userErrorf("the %s %q exists already: somebody else has just created it; read it, and write again to change it", what, name)
	case req.Operation == logical.UpdateOperation && !exists:
		return userErrorf("the %s %q does not exist any more: somebody else has just deleted it; write again to create it", what, name)
	}
	return nil
}

// orEmpty makes "none" a list in JSON, not null.
func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

func sortedKeys(m map[string]string) []string {
	return orEmpty(slices.Sorted(maps.Keys(m)))
}
