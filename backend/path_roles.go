package backend

import (
	"context"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

func roleFields() fields {
	return merge(rightsFields("clients with the role"), fields{
		"name": {
			Type:        framework.TypeString,
			Description: "Name of the role: lower-case letters, digits and . _ - with a letter or digit at both ends.",
			Required:    true,
		},
		"force": {
			Type:        framework.TypeBool,
			Description: "In a delete: also if clients have the role. They then reach nothing until it exists again or they no longer have it. The engine does not look for those clients.",
			Query:       true,
		},
	})
}

// roleSettings are the fields that a write of a role takes.
func roleSettings() []string {
	return append(sortedKeys(rightsFields("")), "name")
}

func (b *mcpBackend) pathRoles() []*framework.Path {
	return build(
		listPath("roles", "List the roles.", b.roles.list),
		path{
			pattern: "roles/" + segment("name"),
			fields:  roleFields(),
			exists:  existing(b.roles),
			about:   "role",
			ops: operations{
				logical.ReadOperation: {
					do: b.readRole, summary: "Read a role.", takes: noFields,
					answers: merge(rightsFields("clients with the role"), pick(roleFields(), "name")),
				},
				logical.CreateOperation: {do: b.writeRole, summary: "Create a role.", takes: roleSettings()},
				logical.UpdateOperation: {do: b.writeRole, summary: "Change a role.", takes: roleSettings()},
				logical.PatchOperation:  {do: b.writeRole, summary: "Change some fields of a role; null resets a field.", takes: roleSettings()},
				logical.DeleteOperation: {do: b.deleteRole, summary: "Delete a role that no client has."},
			},
			synopsis: "Give many clients the same servers and tools.",
			help: `
A role holds what a client's own fields hold: servers, and rules about their tools,
prompts and resources, and a rate limit. A client has one role at most:

    vault write mcp/roles/engineer allowed_servers=github,calculator denied_tools='github/delete_*'
    vault write mcp/clients/cursor-local role=engineer

Client and role add up: a client may use what its own fields or its role allow, and
nothing that one of them denies. A source's allowed_tools say something about the
servers of its own allowed_servers alone. Of two rate limits the lower one counts, for
each client by itself.

A change of a role counts for all its clients at once. A client whose role does not
exist reaches nothing at all. So a role that clients have is deleted with force=true
alone.

A later write changes the fields that it names and leaves the others as they are; a
PATCH is a merge patch (RFC 7396), in which null resets a field.`,
		},
	)
}

func (b *mcpBackend) readRole(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	name := d.Get("name").(string)
	e, err := b.roles.get(ctx, req.Storage, name)
	if err != nil || e == nil {
		return nil, err
	}
	return &logical.Response{Data: nullUnset(with(rightsData(&e.Rights), map[string]any{"name": name}))}, nil
}
