package backend

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/feed"
	"vault-plugin-secrets-mcp/backend/policy"
)

func (b *mcpBackend) deletePolicy(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	name, forced := d.Get("name").(string), d.Get("force").(bool)
	if !forced {
		if err := b.refuseDelete(ctx, req.Storage, name); err != nil {
			return nil, err
		}
	}
	ctx, cancel := durable(ctx)
	defer cancel()
	b.policyBook.writing.Lock()
	defer b.policyBook.writing.Unlock()
	all, err := b.policies(ctx, req.Storage)
	if err != nil || all.all[name] == nil {
		return nil, err
	}
	held, problem := all.all[name], all.lifting(name)
	if problem != "" && !forced { // it was made so since it was looked at
		return nil, userErrorf("%s", managedStill(name, problem))
	}
	err = b.writePolicies(func() error {
		return b.feed.Around(ctx, req.Storage, []feed.Event{{Type: feed.Policy, Operation: feed.Delete, Name: name}}, func() error {
			return req.Storage.Delete(ctx, policyPrefix+name)
		})
	})
	if err != nil {
		return nil, err
	}
	var warnings []string
	if held.Managed {
		warnings = append(warnings, outOfForce(name, problem, "it is gone"))
	}
	if forced {
		warnings = append(warnings, fmt.Sprintf("clients that name the policy %q can reach no server now: take it out of their policies, or create it again", name))
	}
	return warned(warnings), nil
}

// refuseDelete looks for reasons against a delete of the policy. It reads every client in the
// request's own time and takes no lock, so that writers of other policies do not wait. A
// client that names the policy only after it was read reaches no server, as after a forced
// delete.
func (b *mcpBackend) refuseDelete(ctx context.Context, s logical.Storage, name string) error {
	all, err := b.policies(ctx, s)
	if err != nil || all.all[name] == nil {
		return err
	}
	var problems []string
	if problem := all.lifting(name); problem != "" {
		problems = append(problems, managedStill(name, problem))
	}
	users, err := b.clientsOfPolicy(ctx, s, name)
	if err != nil {
		return err
	}
	if len(users) > 0 {
		problems = append(problems, fmt.Sprintf("the policy %q is named by %s: take it out of their policies first, or pass force=true, which leaves them without access to any server",
			name, someOf("client", users)))
	}
	if len(problems) > 0 {
		return userErrorf("%s", strings.Join(problems, "; "))
	}
	return nil
}

func managedStill(name, problem string) string {
	return fmt.Sprintf("the policy %q applies to every client, and without it clients may reach more: %s. Pass force=true to delete it", name, problem)
}

// lifting says why clients may reach more once that policy is deleted, or returns an empty
// string. A policy that is not managed affects only the clients that name it, and these then
// reach nothing.
func (p *policySnapshot) lifting(name string) string {
	if !p.all[name].Managed {
		return ""
	}
	return p.widening(p.with(name, nil))
}

// widening says why some client may reach more under the managed policies of after
// than under those of p, or returns an empty string.
func (p *policySnapshot) widening(after *policySnapshot) string {
	others := false // a list that counted before does not count among them
	for name, e := range after.all {
		held := p.all[name]
		others = others || !e.Managed && e.Document.Allowed != nil && (held == nil || !held.Managed)
	}
	return policy.Widening(p.effective(nil), after.effective(nil), others)
}

// clientsOfPolicy returns the names of the clients that bind a policy.
func (b *mcpBackend) clientsOfPolicy(ctx context.Context, s logical.Storage, name string) ([]string, error) {
	var users []string
	err := b.clients.each(ctx, s, func(client string, c *clientEntry) {
		if slices.Contains(c.Policies, name) {
			users = append(users, client)
		}
	})
	return users, err
}
