package backend

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/check"
	"vault-plugin-secrets-mcp/backend/feed"
	"vault-plugin-secrets-mcp/backend/policy"
	"vault-plugin-secrets-mcp/backend/token"
)

// serverEntry is one registered MCP server.
type serverEntry struct {
	// ID is the registration's: it changes when the server is pointed elsewhere or
	// disabled, so that sessions and streams of the old one end.
	ID string `json:"id"`

	// Place is the id of where the registration leads. It changes when that does, and with
	// nothing else: the approvals of a server belong to its place. "", as an earlier version has
	// stored it: the ID of then.
	Place string `json:"place,omitempty"`

	check.Server
}

// subject is the server as a policy sees it.
func (e *serverEntry) subject(name string) *policy.Server {
	return &policy.Server{
		Name: name, Stdio: e.Transport == check.TransportStdio, URL: e.URL, Command: e.Command, Args: e.Args,
	}
}

// allServers returns the whole registry by name.
func (b *mcpBackend) allServers(ctx context.Context, s logical.Storage) (map[string]*serverEntry, error) {
	names, err := b.servers.list(ctx, s)
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

// withoutDisabled returns the names of those servers that are not disabled. They need not be
// registered.
func (b *mcpBackend) withoutDisabled(ctx context.Context, s logical.Storage, names []string) ([]string, error) {
	var left []string
	for _, name := range names {
		e, err := b.servers.get(ctx, s, name)
		if err != nil {
			return nil, err
		}
		if e == nil || !e.Disabled {
			left = append(left, name)
		}
	}
	return left, nil
}

// noServerToChange refuses a write that would change a server, but registers none.
func noServerToChange(name string) error {
	return userErrorf("there is no server %q: correct the name, or register it with transport=http url=…, transport=sse url=… or transport=stdio command=…", name)
}

func (b *mcpBackend) writeServer(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	name := d.Get("name").(string)
	if err := refused(check.ServerName(name)); err != nil {
		return nil, err
	}
	// Clients that name it are searched before any lock is taken: there may be many clients.
	var inherited []string
	if req.Operation == logical.CreateOperation {
		next, _, err := serverFromFields(nil, d)
		if err != nil {
			return nil, err
		}
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
	next, warnings, err := serverFromFields(held, d)
	if err != nil {
		return nil, err
	}
	if held == nil && next.Transport == "" && next.URL == "" && next.Command == "" {
		return nil, noServerToChange(name)
	}
	if err := refusedAfter(next.Check(), warnings); err != nil {
		return nil, err
	}
	warnings = append(warnings, next.credentialWarnings()...)
	if held != nil && reflect.DeepEqual(held, next) {
		return warned(warnings), nil
	}
	pins, err := b.pinWarnings(ctx, req.Storage, name, held, next)
	if err != nil {
		return nil, err
	}
	warnings = append(warnings, pins...)
	if err := b.putServer(ctx, req.Storage, name, held, next); err != nil {
		return nil, err
	}
	return warned(append(inherited, warnings...)), nil
}

// continues reports whether requests and sessions that began at held may go on at next. After a
// server was disabled they may not, even if it is enabled again before a gateway has noticed.
func (e *serverEntry) continues(held *serverEntry) bool {
	return held != nil && held.samePlace(e) && (held.Disabled || !e.Disabled)
}

// putServer writes the server, and announces it. The caller holds its lock.
func (b *mcpBackend) putServer(ctx context.Context, s logical.Storage, name string, held, next *serverEntry) (err error) {
	if next.Place, err = b.placeAfter(held, next); err != nil {
		return err
	}
	if !next.continues(held) {
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
func serverFromFields(held *serverEntry, d *framework.FieldData) (*serverEntry, []string, error) {
	next := &serverEntry{}
	if held != nil {
		*next = *held
	}
	set(d, "transport", &next.Transport)
	set(d, "url", &next.URL)
	set(d, "command", &next.Command)
	set(d, "args", &next.Args)
	set(d, "env", &next.Env)
	set(d, "headers", &next.Headers)
	set(d, "shared", &next.Shared)
	set(d, "description", &next.Description)
	set(d, "disabled", &next.Disabled)
	set(d, "files", &next.Files)
	set(d, "vault_policies", &next.VaultPolicies)
	if err := next.setCredentials(d); err != nil {
		return nil, nil, err
	}
	if err := next.setPins(d); err != nil {
		return nil, nil, err
	}
	next.Transport = check.Transport(next.Transport)
	warnings := next.dropOf(held, d)
	next.dropEmpty()
	return next, warnings, nil
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
	if len(e.Credentials) == 0 {
		e.Credentials = nil
	}
	if len(e.Files) == 0 {
		e.Files = nil
	}
	e.VaultPolicies = listOrNil(e.VaultPolicies)
}

// dropOf removes from e the fields that held has only for its own place, unless e still leads
// to the same place. Values of secrets are write-only: a writer of registrations could
// otherwise read them by pointing the server at a place of their own. Likewise the pin_kinds of
// one server express trust in that server alone. Fields that the request gives again stay. It
// returns warnings that name the dropped values.
func (e *serverEntry) dropOf(held *serverEntry, d *framework.FieldData) []string {
	if held == nil {
		return nil
	}
	moved := e.movedFrom(held)
	if len(moved) == 0 {
		return nil
	}
	var warnings []string
	for _, held := range []struct {
		field string
		names []string
		drop  func()
	}{
		{"headers", sortedKeys(e.Headers), func() { e.Headers = nil }},
		{"env", sortedKeys(e.Env), func() { e.Env = nil }},
		{"credentials", sortedKeys(e.Credentials), func() { e.Credentials = nil }},
		{"files", sortedKeys(e.Files), func() { e.Files = nil }},
		{"vault_policies", e.VaultPolicies, func() { e.VaultPolicies = nil }},
		{"pin_kinds", kindNames(e.PinKinds), func() { e.PinKinds = nil }},
	} {
		if _, given := d.Raw[held.field]; given || len(held.names) == 0 {
			continue
		}
		warnings = append(warnings, fmt.Sprintf(
			"%s changed, so the %s of the earlier place were dropped: %s. Write %s to give the server some at the new place",
			strings.Join(moved, ", "), held.field, strings.Join(held.names, ", "), held.field))
		held.drop()
	}
	return warnings
}

// nameScan is how long a write of servers looks for the clients that name one. It
// only warns, after the write is done.
const nameScan = 10 * time.Second

func (b *mcpBackend) deleteServer(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	name := d.Get("name").(string)
	deleted, err := b.removeServer(ctx, req.Storage, name)
	if err != nil || !deleted {
		return nil, err
	}
	users, complete := b.usersOfServer(ctx, req.Storage, name)
	switch {
	case !users.none():
		return warned([]string{fmt.Sprintf("%s %s this server in allowed_servers, and will reach the next server that is registered as %q: take it out there",
			users, plural(slices.Concat(users.clients, users.roles), "names", "name"), name)}), nil
	case !complete:
		return warned([]string{fmt.Sprintf("not every client and role could be checked: those that name this server in allowed_servers will reach the next server that is registered as %q", name)}), nil
	}
	return nil, b.forgetGone(ctx, req.Storage, name)
}

// removeServer deletes the server, and reports whether there was one.
func (b *mcpBackend) removeServer(ctx context.Context, s logical.Storage, name string) (bool, error) {
	ctx, cancel := durable(ctx)
	defer cancel()
	defer b.servers.lock(name)()
	held, err := b.servers.getLocked(ctx, s, name)
	if err != nil || held == nil {
		return false, err
	}
	place, err := b.placeOf(ctx, s, held)
	if err != nil {
		return false, err
	}
	if err := putJSON(ctx, s, gonePrefix+name, goneServer{Place: place}); err != nil {
		return false, err
	}
	return true, b.feed.Around(ctx, s, []feed.Event{{Type: feed.Server, Operation: feed.Delete, Name: name}}, func() error {
		return b.servers.delete(ctx, s, name)
	})
}

// serverUsers are the names of those whose allowed_servers names a server.
type serverUsers struct{ clients, roles []string }

func (u *serverUsers) none() bool { return len(u.clients)+len(u.roles) == 0 }

// String lists them.
func (u *serverUsers) String() string {
	var parts []string
	if len(u.clients) > 0 {
		parts = append(parts, someOf("client", u.clients))
	}
	if len(u.roles) > 0 {
		parts = append(parts, someOf("role", u.roles))
	}
	return strings.Join(parts, " and ")
}

// usersOfServer returns the clients and roles whose allowed_servers names the server, and
// whether all were looked at. It takes no lock.
func (b *mcpBackend) usersOfServer(ctx context.Context, s logical.Storage, name string) (*serverUsers, bool) {
	ctx, cancel := context.WithTimeout(ctx, nameScan)
	defer cancel()
	users := &serverUsers{}
	err := errors.Join(
		b.clients.each(ctx, s, func(client string, c *clientEntry) {
			if slices.Contains(c.AllowedServers, name) {
				users.clients = append(users.clients, client)
			}
		}),
		b.roles.each(ctx, s, func(role string, r *roleEntry) {
			if slices.Contains(r.AllowedServers, name) {
				users.roles = append(users.roles, role)
			}
		}))
	return users, err == nil
}
