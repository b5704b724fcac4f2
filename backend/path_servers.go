package backend

import (
	"context"
	"maps"
	"slices"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/check"
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
		"force": {
			Type:        framework.TypeBool,
			Description: "Register a server though another one of its name was deleted and clients still name it: they then reach this one.",
		},
	}
}

// settableServerFields are those that an update takes.
var settableServerFields = []string{"name", "transport", "url", "command", "args", "env", "headers", "shared", "description"}

// serverResponseFields are the fields of a read's answer. Of values that may be credentials it
// has only the names.
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
				logical.UpdateOperation: only(&framework.PathOperation{
					Callback: b.writeServer, Summary: "Change a registered MCP server.", Responses: noContent(),
					ForwardPerformanceStandby: true, ForwardPerformanceSecondary: true,
				}, settableServerFields...),
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

Fields that an update does not name keep their value, with one exception: what is
secret of one place never goes to another. A write that changes transport, url,
command or args drops the headers and the env that it does not give anew, with a
warning that names them.

Pointing the server elsewhere (transport, url, command, args, env or shared) gives
the registration a new id, and every session and stream through the old one ends.
Changing only headers or the description ends none.

The values of headers, env and of the URL's query are write-only: a read shows
their names. Gateways get them through gateway/servers.

Clients name servers, whatever is behind the name. So a server that is registered
under the name of one that was deleted is refused while clients still name it,
unless it leads to the same place or force=true is given.`,
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
	return &logical.Response{Data: shown(map[string]any{
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
	})}, nil
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

// checkStillThere refuses a write whose ACL check was made for the wrong capability: before
// the engine holds any lock, Vault asks whether the entry exists, and so chooses between
// create and update.
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
