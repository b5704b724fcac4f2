package backend

import (
	"context"
	"maps"
	"slices"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/policy"
)

// maxDryRun is how many changed decisions a dry run lists; it counts all.
const maxDryRun = 1000

func dryRunFields() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"changed": {Type: framework.TypeInt, Description: "How many pairs of client and server would be decided otherwise."},
		"changes": {Type: framework.TypeSlice, Description: "The first 1,000 of them: client, server, before, after, and the reason of the decision after."},
	}
}

// dryRun answers what a change of the policies would change for whom. A server
// that the client's allowed_servers does not name is refused before and after,
// and so never listed.
func (b *mcpBackend) dryRun(ctx context.Context, s logical.Storage, before, after *policySnapshot, warnings []string) (*logical.Response, error) {
	servers, err := b.allServers(ctx, s)
	if err != nil {
		return nil, err
	}
	names := slices.Sorted(maps.Keys(servers))
	changed, changes := 0, []map[string]any{}
	err = b.eachClient(ctx, s, func(client string, c *clientEntry) {
		old, next := before.effective(c.Policies), after.effective(c.Policies)
		if old.Digest() == next.Digest() {
			return
		}
		for _, name := range names {
			if !policy.AllowsServer(c.AllowedServers, name) {
				continue
			}
			subject := servers[name].subject(name)
			was, is := old.Evaluate(subject), next.Evaluate(subject)
			if was.Decision == is.Decision {
				continue
			}
			if changed++; changed <= maxDryRun {
				changes = append(changes, map[string]any{
					"client": client, "server": name, "before": was.Decision, "after": is.Decision, "reason": is.Reason,
				})
			}
		}
	})
	if err != nil {
		return nil, err
	}
	return &logical.Response{
		Data:     map[string]any{"changed": changed, "changes": changes},
		Warnings: append(warnings, "dry run: nothing was written"),
	}, nil
}
