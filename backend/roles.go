package backend

import (
	"context"
	"fmt"
	"reflect"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/check"
	"vault-plugin-secrets-mcp/backend/feed"
)

// roleEntry is rights that many clients have. It is never changed in place.
type roleEntry struct {
	check.Role
}

func (b *mcpBackend) writeRole(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	name := d.Get("name").(string)
	if err := refused(check.RoleName(name)); err != nil {
		return nil, err
	}
	overruled, err := b.roleWarnings(ctx, req.Storage, name, d)
	if err != nil {
		return nil, err
	}
	ctx, cancel := durable(ctx)
	defer cancel()
	defer b.roles.lock(name)()
	held, err := b.roles.getLocked(ctx, req.Storage, name)
	if err != nil {
		return nil, err
	}
	if held == nil && req.Operation == logical.PatchOperation {
		return nil, notFound(noSuchRole(name))
	}
	if err := checkStillThere(req, held != nil, "role", name); err != nil {
		return nil, err
	}
	next := &roleEntry{}
	if held != nil {
		*next = *held
	}
	if err := next.apply(d); err != nil {
		return nil, err
	}
	warnings, err := b.rightsWarnings(ctx, req.Storage, &next.Rights, "a client with the role")
	if err != nil {
		return nil, err
	}
	if reflect.DeepEqual(held, next) {
		return warned(warnings), nil
	}
	op := feed.Update
	if held == nil {
		op = feed.Create
	}
	err = b.feed.Around(ctx, req.Storage, []feed.Event{{Type: feed.Role, Operation: op, Name: name}}, func() error {
		return b.roles.put(ctx, req.Storage, name, next)
	})
	if err != nil {
		return nil, err
	}
	return warned(append(warnings, overruled...)), nil
}

// apply sets the fields that the request names.
func (e *roleEntry) apply(d *framework.FieldData) error {
	if err := applyRights(d, &e.Rights); err != nil {
		return err
	}
	return refusedBy(d, e.Check())
}

func noSuchRole(name string) error {
	return userErrorf("no role %q exists: correct the name, or create it by writing roles/%s", name, name)
}

func (b *mcpBackend) deleteRole(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	name, forced := d.Get("name").(string), d.Get("force").(bool)
	if !forced {
		if err := b.refuseRoleDelete(ctx, req.Storage, name); err != nil {
			return nil, err
		}
	}
	ctx, cancel := durable(ctx)
	defer cancel()
	defer b.roles.lock(name)()
	held, err := b.roles.getLocked(ctx, req.Storage, name)
	if err != nil || held == nil {
		return nil, err
	}
	// It is announced as an update: the tokens of its clients stay active, and a gateway that
	// does not know roles would end every token of the mount.
	err = b.feed.Around(ctx, req.Storage, []feed.Event{{Type: feed.Role, Operation: feed.Update, Name: name}}, func() error {
		return b.roles.delete(ctx, req.Storage, name)
	})
	if err != nil || !forced {
		return nil, err
	}
	return warned([]string{fmt.Sprintf("clients with the role %q can reach nothing now: give them another one, or create it again", name)}), nil
}

// refuseRoleDelete refuses to delete a role that clients have. It reads every client in the
// request's own time and takes no lock. A client that is given the role only after it was
// read reaches nothing, as after a forced delete.
func (b *mcpBackend) refuseRoleDelete(ctx context.Context, s logical.Storage, name string) error {
	held, err := b.roles.get(ctx, s, name)
	if err != nil || held == nil {
		return err
	}
	var users []string
	err = b.clients.each(ctx, s, func(client string, c *clientEntry) {
		if c.Role == name {
			users = append(users, client)
		}
	})
	if err != nil || len(users) == 0 {
		return err
	}
	return userErrorf("%s %s the role %q: give them another one first, or pass force=true, which leaves them without access to anything",
		someOf("client", users), plural(users, "has", "have"), name)
}
