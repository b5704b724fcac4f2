package backend

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/check"
	"vault-plugin-secrets-mcp/backend/feed"
	"vault-plugin-secrets-mcp/backend/token"
)

func (b *mcpBackend) writeServer(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	name := d.Get("name").(string)
	if err := refused(check.ServerName(name)); err != nil {
		return nil, err
	}
	// Clients that name it are searched before any lock is taken: there may be many clients.
	var inherited []string
	if req.Operation == logical.CreateOperation {
		next, _ := serverFromFields(nil, d)
		var err error
		if inherited, err = b.inherited(ctx, req.Storage, name, next, d.Get("force").(bool)); err != nil {
			return nil, err
		}
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
	next, warnings := serverFromFields(held, d)
	if err := refusedAll(next.Check()); err != nil {
		return nil, err
	}
	if held != nil && reflect.DeepEqual(held, next) {
		return warned(warnings), nil
	}
	if err := b.putServer(ctx, req.Storage, name, held, next); err != nil {
		return nil, err
	}
	return warned(append(inherited, warnings...)), nil
}

// putServer writes the server, and announces it. The caller holds its lock.
func (b *mcpBackend) putServer(ctx context.Context, s logical.Storage, name string, held, next *serverEntry) (err error) {
	if held == nil || !held.samePlace(next) {
		if next.ID, err = token.RandomID(b.opts.Random, idLength); err != nil {
			return err
		}
	}
	op := feed.Update
	if held == nil {
		op = feed.Create
	}
	err = b.feed.Around(ctx, s, []feed.Event{{Type: feed.Server, Operation: op, Name: name}}, func() error {
		return b.servers.put(ctx, s, name, next)
	})
	if err != nil || held != nil {
		return err
	}
	return s.Delete(ctx, gonePrefix+name)
}

// serverFromFields returns held with the changes of the request, and warnings for the writer.
func serverFromFields(held *serverEntry, d *framework.FieldData) (*serverEntry, []string) {
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
	next.Transport = check.Transport(next.Transport)
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
	warnings := next.dropSecretsOf(held, d)
	next.dropEmpty()
	return next, warnings
}

// dropEmpty turns empty fields into nil, as storage does, so that a write that changes nothing
// is recognised.
func (e *serverEntry) dropEmpty() {
	if len(e.Args) == 0 {
		e.Args = nil
	}
	if len(e.Env) == 0 {
		e.Env = nil
	}
	if len(e.Headers) == 0 {
		e.Headers = nil
	}
}

// dropSecretsOf takes what is secret of held out of e, unless e still leads to the
// same program at the same place. The values are write-only, and whoever may write
// registrations could otherwise read them at a place of their own. What the request
// gives again stays. It returns the warnings that name what was dropped.
func (e *serverEntry) dropSecretsOf(held *serverEntry, d *framework.FieldData) []string {
	if held == nil {
		return nil
	}
	moved := e.movedFrom(held)
	if len(moved) == 0 {
		return nil
	}
	var warnings []string
	for _, secret := range []struct {
		field  string
		values *map[string]string
	}{{"headers", &e.Headers}, {"env", &e.Env}} {
		if _, given := d.Raw[secret.field]; given || len(*secret.values) == 0 {
			continue
		}
		warnings = append(warnings, fmt.Sprintf(
			"%s changed, so the %s of before were dropped, which are not for another place: %s. Write %s to give the server some there",
			strings.Join(moved, ", "), secret.field, strings.Join(sortedKeys(*secret.values), ", "), secret.field))
		*secret.values = nil
	}
	return warnings
}

// movedFrom names the fields by which e leads elsewhere than held did.
func (e *serverEntry) movedFrom(held *serverEntry) []string {
	var fields []string
	for _, f := range []struct {
		name string
		same bool
	}{
		{"transport", e.Transport == held.Transport},
		{"url", e.URL == held.URL},
		{"command", e.Command == held.Command},
		{"args", slices.Equal(e.Args, held.Args)},
	} {
		if !f.same {
			fields = append(fields, f.name)
		}
	}
	return fields
}
