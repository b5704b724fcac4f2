package backend

import (
	"context"
	"fmt"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/feed"
)

func (b *mcpBackend) pathRevoke() []*framework.Path {
	revoke := func(do framework.OperationFunc) operations {
		return operations{logical.UpdateOperation: {do: do, verb: "revoke"}}
	}
	return build(
		path{
			pattern:  "revoke-client/" + segment("name"),
			fields:   fields{"name": nameField},
			about:    "client",
			ops:      revoke(b.revokeClient),
			synopsis: "End all tokens of a client at once.",
			help: `
The client itself stays: rotate-client issues a new token for it. Leased tokens
end too, though Vault lists their leases until they run out.`,
		},
		path{
			pattern:  "revoke-all",
			about:    "all-tokens",
			ops:      revoke(b.revokeAll),
			synopsis: "End all tokens of the mount at once.",
			help: `
Every client and every server stays as it is: rotate-client issues new tokens.`,
		},
		path{
			pattern:  "revoke",
			fields:   fields{"token": tokenField},
			about:    "token",
			ops:      revoke(b.revokeToken),
			synopsis: "End one token at once.",
			help: `
It is not an error if the token has ended already, or never existed: the answer has a
warning. White space at the ends is cut. A value that cannot be a token, such as one
with "Bearer" in front, is refused, since nothing was revoked.`,
		},
		path{
			pattern:  "revoke-accessor",
			fields:   fields{"accessor": accessorField},
			about:    "accessor",
			ops:      revoke(b.revokeAccessor),
			synopsis: "End the token of an accessor at once.",
			help: `
Like revoke, for those who have the accessor and not the token.`,
		},
	)
}

func (b *mcpBackend) revokeClient(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	name := d.Get("name").(string)
	ctx, cancel := durable(ctx)
	defer cancel()
	defer b.clients.lock(name)()
	held, err := b.clients.getLocked(ctx, req.Storage, name)
	if err != nil {
		return nil, err
	}
	if held == nil {
		return nil, noSuchClient(name)
	}
	change := &clientChange{name: name, next: held.clone()}
	change.dropped = change.next.endAll()
	change.spent = change.dropped
	change.events = []feed.Event{{Type: feed.Client, Operation: feed.Revoke, Client: name, ClientID: held.ID}}
	return nil, b.commit(ctx, req.Storage, change)
}

// revokeAll ends every token of the mount by one Put.
func (b *mcpBackend) revokeAll(ctx context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	ctx, cancel := durable(ctx)
	defer cancel()
	if _, err := b.mountEntry(ctx, req.Storage); err != nil { // makes it
		return nil, err
	}
	defer b.mounts.lock(mountKey)()
	m, err := b.mounts.getLocked(ctx, req.Storage, mountKey)
	if err != nil {
		return nil, err
	}
	next := *m
	next.Generation++
	return nil, b.feed.Around(ctx, req.Storage, []feed.Event{{Type: feed.Mount, Operation: feed.Revoke}}, func() error {
		return b.mounts.put(ctx, req.Storage, mountKey, &next)
	})
}

func (b *mcpBackend) revokeToken(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	secret, err := required(d, "token", "give the token to revoke in the request's body")
	if err != nil {
		return nil, err
	}
	if err := notAToken("token", secret); err != nil {
		return nil, err
	}
	ctx, cancel := durable(ctx)
	defer cancel()
	unsealed, err := b.unseal(ctx, req.Storage, secret)
	if err != nil {
		return nil, kmsFailure(fmt.Errorf("the token cannot be opened, so revoke it by its accessor, or its client by name: %w", err))
	}
	if unsealed == nil {
		return nothingToRevoke(), nil
	}
	hash, err := b.hashToken(ctx, req.Storage, unsealed.token)
	if err != nil {
		return nil, err
	}
	p, err := b.pointers.get(ctx, req.Storage, hash)
	if err != nil {
		return nil, err
	}
	if p == nil {
		if err := b.accessorGivenAsToken(ctx, req.Storage, unsealed.token, "write revoke-accessor to end it"); err != nil {
			return nil, err
		}
		return nothingToRevoke(), nil
	}
	return b.revokeAt(ctx, req.Storage, p.Accessor, &tokenLocation{client: p.Client, hash: hash, leased: p.Kind == kindLeased})
}

func (b *mcpBackend) revokeAccessor(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	accessor, err := required(d, "accessor", "give the accessor of the token to revoke")
	if err != nil {
		return nil, err
	}
	return b.revokeByAccessor(ctx, req.Storage, accessor, "")
}

// revokeByAccessor ends the token of an accessor. If a client is named, it ends no other's.
func (b *mcpBackend) revokeByAccessor(ctx context.Context, s logical.Storage, accessor, client string) (*logical.Response, error) {
	if err := notAnAccessor(accessor); err != nil {
		return nil, err
	}
	ctx, cancel := durable(ctx)
	defer cancel()
	at, err := b.locate(ctx, s, accessor)
	if err != nil {
		return nil, err
	}
	if at == nil {
		return b.announceEnd(ctx, s, accessor, client)
	}
	if client != "" && at.client != client {
		return nothingToRevoke(), nil
	}
	return b.revokeAt(ctx, s, accessor, at)
}

func nothingToRevoke() *logical.Response {
	return &logical.Response{Warnings: []string{"this token does not exist: it has ended already, or was never issued"}}
}

// revokeAt ends one token. An own token leaves its client's list; a leased one
// loses its pointer.
func (b *mcpBackend) revokeAt(ctx context.Context, s logical.Storage, accessor string, at *tokenLocation) (*logical.Response, error) {
	var ended bool
	var err error
	if at.leased {
		ended, err = b.endLeased(ctx, s, at.client, accessor, at.hash)
	} else {
		ended, err = b.endOwn(ctx, s, at.client, accessor)
	}
	if err != nil || ended {
		return nil, err
	}
	return b.announceEnd(ctx, s, accessor, at.client)
}

// endOwn ends an own token of the client. It answers false if the token had ended already.
func (b *mcpBackend) endOwn(ctx context.Context, s logical.Storage, client, accessor string) (bool, error) {
	defer b.clients.lock(client)()
	held, err := b.clients.getLocked(ctx, s, client)
	if err != nil || held == nil || held.byAccessor(accessor) == nil {
		return false, err
	}
	change := &clientChange{name: client, next: held.clone()}
	change.dropped = change.next.remove(accessor)
	change.spent = change.dropped
	change.events = tokenEvents(feed.Revoke, client, held.ID, change.dropped)
	return true, b.commit(ctx, s, change)
}

// announceEnd tells gateways of the end of a token that no longer exists. Storage may have
// failed to write the end when it was first asked for, and have written it later: a gateway
// that asked in between knows the token as valid, and must ask again. If a client is named, no
// other's token is announced. It reads the client, so its caller holds no lock of one.
func (b *mcpBackend) announceEnd(ctx context.Context, s logical.Storage, accessor, client string) (*logical.Response, error) {
	if len(accessor) != accessorLength {
		return nothingToRevoke(), nil
	}
	id := accessor[:idLength]
	name, c, err := b.clientOfID(ctx, s, id)
	if err != nil {
		return nil, err
	}
	if c == nil || client != "" && name != client {
		return nothingToRevoke(), nil
	}
	event := feed.Event{Type: feed.Token, Operation: feed.Revoke, Client: name, ClientID: id, Accessor: accessor}
	if err := b.feed.Around(ctx, s, []feed.Event{event}, func() error { return nil }); err != nil {
		return nil, err
	}
	return nothingToRevoke(), nil
}

// endLeased ends a leased token: its pointer is the commit point. It answers false if the
// token had ended already.
func (b *mcpBackend) endLeased(ctx context.Context, s logical.Storage, client, accessor, hash string) (bool, error) {
	unlock := b.pointers.lock(hash)
	defer unlock()
	p, err := b.pointers.getLocked(ctx, s, hash)
	if err != nil {
		return false, err
	}
	if p == nil || p.Accessor != accessor {
		return false, b.deleteLeaseEntry(ctx, s, accessor)
	}
	remove := func() error { return b.pointers.delete(ctx, s, hash) }
	if p.expired(b.now()) {
		err = remove() // gateways know when it ended
	} else {
		event := feed.Event{Type: feed.Token, Operation: feed.Revoke, Client: client, ClientID: p.ClientID, Accessor: accessor}
		if p.SignIn != nil {
			event.SignIn = p.SignIn.Accessor // a gateway may know another token of it
		}
		err = b.feed.Around(ctx, s, []feed.Event{event}, remove)
	}
	if err != nil {
		return false, err
	}
	return true, b.deleteLeaseEntry(ctx, s, accessor)
}

func (b *mcpBackend) deleteLeaseEntry(ctx context.Context, s logical.Storage, accessor string) error {
	return s.Delete(ctx, leaseKey(accessor[:idLength], accessor[idLength:]))
}
