package backend

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/check"
	"vault-plugin-secrets-mcp/backend/policy"
)

func (b *mcpBackend) pathGatewaySignIn() []*framework.Path {
	return build(path{
		pattern: "gateway/sign-in",
		about:   "gateway-sign-in",
		ops: operations{
			logical.ReadOperation: {
				do: b.gatewaySignIn, runs: onActive,
				answers: fields{
					"clients": {Type: framework.TypeMap, Description: "The clients with sign_in=true by name: id, description (its metadata of that name), servers that it reaches now, and all_servers if it also reaches those that are registered later.", Required: true},
					"logins":  {Type: framework.TypeStringSlice, Description: "The names of the logins, in order.", Required: true},
				},
			},
		},
		synopsis: "Read as which clients people may sign in, and at which logins.",
		help: `
For gateways alone, which show it to people who sign in. Whether somebody may sign in as
a client is not here: Vault's ACL says so, by creds/NAME.`,
	})
}

func (b *mcpBackend) gatewaySignIn(ctx context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	conf, err := b.config(ctx, req.Storage)
	if err != nil {
		return nil, err
	}
	servers, err := b.allServers(ctx, req.Storage)
	if err != nil {
		return nil, err
	}
	maps.DeleteFunc(servers, func(_ string, e *serverEntry) bool { return e.Disabled })
	policies, err := b.policies(ctx, req.Storage)
	if err != nil {
		return nil, err
	}
	names := slices.Sorted(maps.Keys(servers))
	clients := map[string]any{}
	var failed error
	err = b.clients.each(ctx, req.Storage, func(name string, c *clientEntry) {
		if !c.SignIn || c.Disabled {
			return
		}
		rights, err := b.rights(ctx, req.Storage, c)
		if err != nil {
			failed = err
			return
		}
		applied := policies.effective(c.Policies)
		reached := slices.DeleteFunc(slices.Clone(names), func(server string) bool {
			return !policy.AllowsServer(rights.sources, server) || !applied.Evaluate(servers[server].subject(server)).Allowed
		})
		clients[name] = map[string]any{
			"id":          c.ID,
			"description": c.Metadata["description"],
			"servers":     orEmpty(reached),
			"all_servers": rights.reachAll(applied),
		}
	})
	if err := errors.Join(err, failed); err != nil {
		return nil, err
	}
	return &logical.Response{Data: map[string]any{"clients": clients, "logins": sortedKeys(conf.SignInLogins)}}, nil
}

// reachAll reports whether the client reaches every server, also those that are registered
// later.
func (r *clientRights) reachAll(applied *policy.Policy) bool {
	return slices.Contains(r.servers(), check.AnyServer) && applied.Digest() == ""
}
