package backend

import (
	"context"
	"strings"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/check"
	"vault-plugin-secrets-mcp/backend/pin"
)

func serverFields() fields {
	return fields{
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
			Description: "Environment of a stdio server. A value may have placeholders: {{NAME.FIELD}}, {{vault.token}}, {{file.NAME}}. The values are never read back.",
		},
		"headers": {
			Type:        framework.TypeKVPairs,
			Description: "Headers that the gateway adds to every request to the server: the server's own credentials. A value may have placeholders: {{NAME.FIELD}}, {{vault.token}}. The values are never read back.",
		},
		"credentials": {
			Type:        framework.TypeKVPairs,
			Description: "Credentials that the gateway reads from Vault for each client, by name: a path (db=database/creds/orders-ro), or an object with path, method (read or write), data and refresh. Placeholders in headers, env and files use their fields. Values of data are never read back.",
		},
		"files": {
			Type:        framework.TypeKVPairs,
			Description: "Files in the home of a stdio server's process, by name; {{file.NAME}} in env is the path of one. A content may have placeholders. The contents are never read back.",
		},
		"vault_policies": {
			Type:        framework.TypeCommaStringSlice,
			Description: "Policies of {{vault.token}}, a Vault token that the gateway makes for each client of this server.",
		},
		"shared": {
			Type:        framework.TypeBool,
			Description: "One child process of a stdio server for all clients, instead of one for each.",
		},
		"description": {
			Type:        framework.TypeString,
			Description: "A description of the server, for people.",
		},
		"disabled": {
			Type:        framework.TypeBool,
			Description: "Whether the server is stopped: no client reaches it, and everything that is registered stays as it is.",
		},
		"pin": {
			Type:          framework.TypeString,
			Default:       string(pin.Off),
			Description:   "The effect of the approvals in pins/NAME on the server's definitions: off (none), observe (a definition without approval is told, and passes) or enforce (it is cut out).",
			AllowedValues: []any{string(pin.Off), string(pin.Observe), string(pin.Enforce)},
		},
		"pin_kinds": {
			Type:        framework.TypeCommaStringSlice,
			Description: "The kinds of definitions that pin is about: tool, prompt, resource, template, instructions, server, page. Empty: all.",
		},
		"force": {
			Type:        framework.TypeBool,
			Description: "Register the server even if another one of its name was deleted and clients still name it: they then reach this one.",
		},
	}
}

// settableServerFields are those that an update takes.
var settableServerFields = []string{
	"name", "transport", "url", "command", "args", "env", "headers", "shared", "description", "credentials", "files", "vault_policies", "disabled",
	"pin", "pin_kinds",
}

// serverResponseFields are the fields of a read's answer. Of values that may be credentials it
// has only the names.
func serverResponseFields() fields {
	return merge(
		pick(serverFields(), "name", "transport", "command", "args", "shared", "description", "vault_policies", "disabled", "pin", "pin_kinds"),
		fields{
			"id":          {Type: framework.TypeString, Description: "The registration's id. It changes when the server is pointed elsewhere or disabled."},
			"url":         {Type: framework.TypeString, Description: "The server's URL, without its query."},
			"url_query":   {Type: framework.TypeStringSlice, Description: "The names of the query's parameters."},
			"env":         {Type: framework.TypeStringSlice, Description: "The names of the environment variables."},
			"headers":     {Type: framework.TypeStringSlice, Description: "The names of the headers."},
			"credentials": {Type: framework.TypeMap, Description: "The credentials by name: path, method, refresh (seconds; null: 300) and data, the names of the values that are sent with a write."},
			"files":       {Type: framework.TypeStringSlice, Description: "The names of the files."},
		})
}

// serverWords are fields of other programs' files that a registration has under another name,
// or does not have.
var serverWords = map[string]string{ //nolint:gosec // names of fields
	"type":                 "write transport=http, transport=sse or transport=stdio",
	"bearer_token":         `write headers=Authorization="Bearer …"`,
	"bearerToken":          `write headers=Authorization="Bearer …"`,
	"bearer_token_env_var": `the gateway expands no variables: write headers=Authorization="Bearer …"`,
	"authorization":        `write headers=Authorization="…"`,
	"Authorization":        `write headers=Authorization="…"`,
	"auth":                 `write headers=Authorization="…"`,
	"http_headers":         "write headers",
	"env_http_headers":     "the gateway expands no variables: write headers with the values",
	"header":               "write headers",
	"headersHelper":        "no program is run for headers: write headers with the values",
	"serverUrl":            "write url",
	"httpUrl":              "write url",
	"http_url":             "write url",
	"endpoint":             "write url",
	"uri":                  "write url",
	"arguments":            "write args",
	"environment":          "write env",
	"env_vars":             "the gateway passes none of its own variables on: write env with the values",
	"envFile":              "no file is read: write env with the values",
	"cwd":                  "the directory of a server's process cannot be set: leave it out",
	"session_mode":         "sessions are each client's own: leave it out",
	"oauth":                "the gateway signs in nowhere: write headers with a token of its own",
	"oauth_client_id":      "the gateway signs in nowhere: write headers with a token of its own",
	"oauth_client_secret":  "the gateway signs in nowhere: write headers with a token of its own",
	"oauth_redirect_uri":   "the gateway signs in nowhere: write headers with a token of its own",
	"oauth_scopes":         "the gateway signs in nowhere: write headers with a token of its own",
	"timeout":              "time limits stand in the gateway's file: leave it out",
	"startup_timeout_sec":  "time limits stand in the gateway's file: leave it out",
	"tool_timeout_sec":     "time limits stand in the gateway's file: leave it out",
	"enabled":              "write disabled=true to stop the server, disabled=false to let clients reach it",
	"mcpServers":           "write each server to a servers/NAME of its own",
	"alwaysAllow":          "which tools a client may call is the client's allowed_tools: leave it out",
	"autoApprove":          "which tools a client may call is the client's allowed_tools: leave it out",
	"includeTools":         "which tools a client may call is the client's allowed_tools: leave it out",
	"excludeTools":         "which tools a client may not call is the client's denied_tools: leave it out",
	"enabled_tools":        "which tools a client may call is the client's allowed_tools: leave it out",
	"disabled_tools":       "which tools a client may not call is the client's denied_tools: leave it out",
}

// hint names the field to write instead of one that a path does not have, if it knows
// one.
func hint(name string, schema fields) string {
	words, ok := serverWords[name]
	if !ok || schema["transport"] == nil {
		return ""
	}
	return words + "; "
}

func (b *mcpBackend) pathServers() []*framework.Path {
	return build(
		path{
			pattern: "servers/?$",
			about:   "servers",
			ops: operations{logical.ListOperation: {
				do: b.listServers,
				answers: fields{
					"keys":     {Type: framework.TypeStringSlice, Description: "The names, in order."},
					"key_info": {Type: framework.TypeMap, Description: "By name: transport, disabled, and pin."},
				},
			}},
			synopsis: "List the registered MCP servers.",
			help:     "The names come in alphabetical order. vault list -detailed shows their transports, which of them are disabled, and pin of each.",
		},
		path{
			pattern: "servers/" + segment("name"),
			fields:  serverFields(),
			exists:  existing(b.servers),
			about:   "server",
			ops: operations{
				logical.ReadOperation:   {do: b.readServer, summary: "Read a registered MCP server, without its credentials.", answers: serverResponseFields()},
				logical.CreateOperation: {do: b.writeServer, summary: "Register an MCP server."},
				logical.UpdateOperation: {do: b.writeServer, summary: "Change a registered MCP server.", takes: settableServerFields},
				logical.DeleteOperation: {do: b.deleteServer, summary: "Remove an MCP server from the registry."},
			},
			synopsis: "Register the MCP servers that clients may be allowed to reach.",
			help: `
A client's allowed_servers and the gateway's URLs have the server's name. Policies are
compared with what is registered here, never with what a client calls the server.

Fields that an update does not name keep their value, with one exception: secrets
for one place never go to another. A write that changes transport, url, command or
args drops headers, env, credentials, files and vault_policies unless it gives them
again. A warning names what was dropped.

Pointing the server elsewhere (transport, url, command, args, env or shared, and for a
stdio server credentials, files or vault_policies) gives the registration a new id, and
every session and stream through the old one ends. Changing only headers or the
description ends none.

With disabled=true no client reaches the server: requests, sessions, streams and
processes end as if it had been deleted, and the credentials that were leased for it are
revoked. Everything that is registered stays, and disabled=false makes it count again.

The values of headers, env, files and of the URL's query, and the data of credentials
are write-only: a read shows their names. Gateways get them through gateway/servers.

With credentials the gateway reads secrets from Vault as the client, and puts their
fields into headers, env and files:

    vault write mcp/servers/orders transport=stdio command=/usr/local/bin/pg-mcp \
        credentials=db=database/creds/orders-ro \
        env=PGUSER='{{db.username}}' env=PGPASSWORD='{{db.password}}'

With pin=enforce clients see only those definitions of the server that somebody has approved,
word by word: see pins/NAME. An approval needs a right of its own, so one person can register
servers, and another one approve their definitions.

Clients name servers, whatever is behind the name. So while clients still name a
deleted server, a new one of its name is refused, unless it leads to the same place
or force=true is given.`,
		},
	)
}

func (b *mcpBackend) listServers(ctx context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	all, err := b.allServers(ctx, req.Storage)
	if err != nil {
		return nil, err
	}
	info := make(map[string]any, len(all))
	for name, e := range all {
		info[name] = map[string]any{"transport": e.Transport, "disabled": e.Disabled, "pin": e.pinMode()}
	}
	return logical.ListResponseWithInfo(sortedKeys(all), info), nil
}

func (b *mcpBackend) readServer(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	name := d.Get("name").(string)
	e, err := b.servers.get(ctx, req.Storage, name)
	if err != nil || e == nil {
		return nil, err
	}
	bare, query := splitQuery(e.URL)
	return &logical.Response{Data: nullUnset(map[string]any{
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
		"disabled":    e.Disabled,

		"credentials":    e.credentialsShown(),
		"files":          sortedKeys(e.Files),
		"vault_policies": orEmpty(e.VaultPolicies),

		"pin":       e.pinMode(),
		"pin_kinds": kindNames(e.PinKinds),
	})}, nil
}

// splitQuery returns the URL without its query, whose values are write-only, and
// the names of the query's parameters.
func splitQuery(raw string) (bare string, names []string) {
	bare, query, _ := strings.Cut(raw, "?")
	for part := range strings.SplitSeq(query, "&") {
		if name, _, _ := strings.Cut(part, "="); name != "" {
			names = append(names, name)
		}
	}
	return bare, names
}
