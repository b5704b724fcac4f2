package backend

import (
	"context"
	"fmt"
	"reflect"
	"strings"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/check"
	"vault-plugin-secrets-mcp/backend/policy"
)

// overruledWarnings warns of lists of allowed items that narrow nothing, since the client's
// other source allows every item.
func overruledWarnings(rights []policy.Rights) []string {
	whose := func(r *policy.Rights) string {
		if r.Role != "" {
			return fmt.Sprintf("role %q", r.Role)
		}
		return "the client"
	}
	var warnings []string
	for _, o := range policy.FindOverruled(rights) {
		list := "allowed_" + string(o.Item) + "s"
		ineffective := fmt.Sprintf("%s's %s has", whose(o.Ineffective), list)
		if o.Ineffective.Role != "" {
			ineffective = fmt.Sprintf("%s of %s has", list, whose(o.Ineffective))
		}
		warnings = append(warnings, fmt.Sprintf("%s allows every %s of %s: %s no effect there",
			whose(o.By), o.Item, serversShown(o.Servers), ineffective))
	}
	return warnings
}

// serversShown names up to three servers.
func serversShown(names []string) string {
	const shown = 3
	if names[0] == check.AnyServer {
		return "every server"
	}
	list := strings.Join(names[:min(shown, len(names))], ", ")
	if extra := len(names) - shown; extra > 0 {
		return fmt.Sprintf("%s and %d more", list, extra)
	}
	return list
}

// roleWarnings warns of what a change of a role does to the lists of its clients. It reads every
// client, in the request's own time and before any lock is taken, and only if the changed role
// leaves a list unset.
func (b *mcpBackend) roleWarnings(ctx context.Context, s logical.Storage, name string, d *framework.FieldData) ([]string, error) {
	held, err := b.roles.get(ctx, s, name)
	if err != nil {
		return nil, err
	}
	role := &roleEntry{}
	if held != nil {
		*role = *held
	}
	if err := role.apply(d); err != nil {
		return nil, err
	}
	if reflect.DeepEqual(held, role) || len(role.AllowedServers) == 0 ||
		role.AllowedTools != nil && role.AllowedPrompts != nil && role.AllowedResources != nil {
		return nil, nil
	}
	source := policy.Rights{Role: name, Lists: role.Lists}
	var clients []string
	first := ""
	err = b.clients.each(ctx, s, func(client string, c *clientEntry) {
		if c.Role != name {
			return
		}
		for _, o := range policy.FindOverruled([]policy.Rights{{Lists: c.Lists}, source}) {
			if o.By.Role == "" {
				continue
			}
			if clients = append(clients, client); first == "" {
				first = fmt.Sprintf("every %s of %s: allowed_%ss", o.Item, serversShown(o.Servers), o.Item)
			}
			return
		}
	})
	if err != nil || len(clients) == 0 {
		return nil, err
	}
	return []string{fmt.Sprintf("role %q allows %s of %s has no effect there", name, first, someOf("client", clients))}, nil
}
