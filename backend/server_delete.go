package backend

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/feed"
)

// goneServer remembers a deleted server whose name clients may still have in their
// allowed_servers: they reach the next server under that name at once.
type goneServer struct {
	// Place is where it led to, as an HMAC: a URL's query may be a credential.
	Place string `json:"place"`
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
	users, complete := b.clientsOfServer(ctx, req.Storage, name)
	switch {
	case len(users) > 0:
		return warned([]string{fmt.Sprintf("%s %s this server in allowed_servers, and will reach whatever is registered as %q next: take it out there",
			someOf("client", users), plural(users, "names", "name"), name)}), nil
	case !complete:
		return warned([]string{fmt.Sprintf("not every client was looked at: those that name this server in allowed_servers will reach whatever is registered as %q next", name)}), nil
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

// inherited looks whether clients name a server that is to be registered from the
// time of another one that is gone. It returns the warning for whoever registers it,
// and refuses where it leads elsewhere than the one that is gone, unless forced.
func (b *mcpBackend) inherited(ctx context.Context, s logical.Storage, name string, next *serverEntry, forced bool) ([]string, error) {
	var gone goneServer
	if found, err := getJSON(ctx, s, gonePrefix+name, &gone); err != nil || !found {
		return nil, err
	}
	place, err := b.placeOf(ctx, s, next)
	if err != nil {
		return nil, err
	}
	users, complete := b.clientsOfServer(ctx, s, name)
	who := someOf("client", users)
	switch {
	case len(users) == 0 && complete:
		return nil, nil
	case len(users) == 0:
		who = "clients that have not been looked at"
	}
	if place != gone.Place && !forced {
		return nil, userErrorf("another server of the name %q was deleted, and %s may still name it: they would reach this one at once. Take it out of their allowed_servers first, or pass force=true", name, who)
	}
	return []string{fmt.Sprintf("%s named the deleted server %q, and may reach this one now", who, name)}, nil
}

// forgetGone forgets that there was a server of the name.
func (b *mcpBackend) forgetGone(ctx context.Context, s logical.Storage, name string) error {
	ctx, cancel := durable(ctx)
	defer cancel()
	defer b.servers.lock(name)()
	return s.Delete(ctx, gonePrefix+name)
}

// placeOf identifies the place to which the server leads.
func (b *mcpBackend) placeOf(ctx context.Context, s logical.Storage, e *serverEntry) (string, error) {
	salt, err := b.salt(ctx, s)
	if err != nil {
		return "", err
	}
	return salt.GetHMAC(fmt.Sprintf("%q", append([]string{e.Transport, e.URL, e.Command}, e.Args...))), nil
}

// clientsOfServer returns the names of the clients whose allowed_servers names the
// server, and whether all were looked at. It takes no lock.
func (b *mcpBackend) clientsOfServer(ctx context.Context, s logical.Storage, name string) (users []string, complete bool) {
	ctx, cancel := context.WithTimeout(ctx, nameScan)
	defer cancel()
	err := b.clients.each(ctx, s, func(client string, c *clientEntry) {
		if slices.Contains(c.AllowedServers, name) {
			users = append(users, client)
		}
	})
	return users, err == nil
}

func plural(names []string, one, many string) string {
	if len(names) == 1 {
		return one
	}
	return many
}
