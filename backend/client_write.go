package backend

import (
	"context"
	"fmt"
	"reflect"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/check"
	"vault-plugin-secrets-mcp/backend/feed"
	"vault-plugin-secrets-mcp/backend/token"
)

// createClient makes a client and, unless people sign in as it, its first token. Storage is
// written in the order: index of the id, pointer of the token, client entry.
func (b *mcpBackend) createClient(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	name := d.Get("name").(string)
	if err := refused(check.ClientName(name)); err != nil {
		return nil, err
	}
	c := &clientEntry{CreatedAt: b.now()}
	if err := c.apply(req.Operation, d); err != nil {
		return nil, err
	}
	src, err := b.tokenSource(ctx, req, d, name, &c.clientSettings, !c.SignIn)
	if err != nil {
		return nil, err
	}
	defer src.done()
	ctx, cancel := durable(ctx)
	defer cancel()
	defer b.clients.lock(name)()
	held, err := b.clients.getLocked(ctx, req.Storage, name)
	if err != nil {
		return nil, err
	}
	if err := checkStillThere(req, held != nil, "client", name); err != nil {
		return nil, err
	}

	if c.ID, err = token.RandomID(b.opts.Random, idLength); err != nil {
		return nil, err
	}
	c.markWritten(c.CreatedAt)
	warnings, err := b.settingWarnings(ctx, req.Storage, c)
	if err != nil {
		return nil, err
	}
	made := &clientCreation{name: name, client: c}
	if !c.SignIn || src.given() {
		var more []string
		if made.minted, more, err = b.newClientToken(ctx, req, name, c, src); err != nil {
			return nil, err
		}
		defer made.minted.release()
		c.Tokens = []clientToken{made.minted.clientToken}
		warnings = append(warnings, more...)
	} else {
		warnings = append(warnings, "the client has no token of its own, since people sign in as it: rotate-client issues one")
	}
	if err := b.putCreated(ctx, req.Storage, made); err != nil {
		return nil, err
	}
	return &logical.Response{Data: made.answer(b.now()), Warnings: warnings}, nil
}

// clientCreation is a client about to be created.
type clientCreation struct {
	name   string
	client *clientEntry
	minted *minted // nil: it has no token of its own
}

// putCreated writes the client, and the pointer of its token before it.
func (b *mcpBackend) putCreated(ctx context.Context, s logical.Storage, made *clientCreation) error {
	if err := putJSON(ctx, s, uidPrefix+made.client.ID, uidEntry{Client: made.name}); err != nil {
		return err
	}
	var events []feed.Event
	if m := made.minted; m != nil {
		if err := b.putPointer(ctx, s, m, m.pointer(made.name, made.client)); err != nil {
			return err
		}
		events = announceCustom(made.name, made.client.ID, m)
	}
	return b.feed.Around(ctx, s, events, func() error { return b.clients.put(ctx, s, made.name, made.client) })
}

// answer is the answer to the write: without a token, that to whom it belongs.
func (made *clientCreation) answer(now time.Time) map[string]any {
	data := map[string]any{"client": made.name, "client_id": made.client.ID}
	if made.minted != nil {
		data = with(made.minted.answer(made.name, made.client.ID, now), map[string]any{"send_as": sendAs})
	}
	data["allowed_servers"] = orEmpty(made.client.AllowedServers)
	return data
}

// uidEntry leads from a client's id to its name.
type uidEntry struct {
	Client string `json:"client"`
}

// updateClient changes a client, by an update or a patch.
func (b *mcpBackend) updateClient(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	name := d.Get("name").(string)
	src, err := b.customSource(ctx, req, d, name)
	if err != nil {
		return nil, err
	}
	ctx, cancel := durable(ctx)
	defer cancel()
	defer b.clients.lock(name)()
	held, err := b.clients.getLocked(ctx, req.Storage, name)
	if err != nil {
		return nil, err
	}
	if held == nil && req.Operation == logical.PatchOperation {
		return nil, notFound(noSuchClient(name))
	}
	if err := checkStillThere(req, held != nil, "client", name); err != nil {
		return nil, err
	}
	return b.changeClient(ctx, req, d, name, held, src)
}

// changeClient writes the client if the request changes it. The caller holds the client's
// lock.
func (b *mcpBackend) changeClient(ctx context.Context, req *logical.Request, d *framework.FieldData, name string, held *clientEntry, src *tokenSource) (*logical.Response, error) {
	next := held.clone()
	if err := next.apply(req.Operation, d); err != nil {
		return nil, err
	}
	warnings, err := b.settingWarnings(ctx, req.Storage, next)
	if err != nil {
		return nil, err
	}
	if held.SignIn && !next.SignIn {
		next.SignInGeneration++ // the tokens of sign-ins end, and stay so if it is given back
	}
	change := &clientChange{name: name, next: next}
	if src.given() {
		m, more, err := b.newClientToken(ctx, req, name, next, src)
		if err != nil {
			return nil, err
		}
		if m != nil {
			defer m.release()
			conf, err := b.config(ctx, req.Storage)
			if err != nil {
				return nil, err
			}
			if err := b.replaceToken(ctx, req.Storage, change, m, rotation{grace: conf.GracePeriod}); err != nil {
				return nil, err
			}
			warnings = append(append(warnings, more...), predecessorWarnings(next)...)
		}
	}
	if reflect.DeepEqual(held, next) {
		return warned(warnings), nil
	}
	if !reflect.DeepEqual(held.clientSettings, next.clientSettings) {
		change.events = append(change.events, feed.Event{Type: feed.Client, Operation: feed.Update, Client: name, ClientID: next.ID})
	}
	if err := b.commit(ctx, req.Storage, change); err != nil {
		return nil, err
	}
	return warned(warnings), nil
}

func predecessorWarnings(c *clientEntry) []string {
	if len(c.Tokens) < 2 {
		return nil
	}
	return []string{fmt.Sprintf("the token that this one replaces is accepted until %s: rotate-client with grace_period=0 ends it at once", formatTime(c.Tokens[1].ExpiresAt))}
}

func (b *mcpBackend) deleteClient(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	name := d.Get("name").(string)
	deleted, err := b.removeClient(ctx, req.Storage, name)
	if err != nil || deleted == nil {
		return nil, err
	}
	b.forgetUsage(ctx, req.Storage, deleted.ID)
	return warned(b.nameWarnings(ctx, req.Storage, name, deleted)), nil
}

// removeClient deletes the client, and returns it; nil if there was none.
func (b *mcpBackend) removeClient(ctx context.Context, s logical.Storage, name string) (*clientEntry, error) {
	ctx, cancel := durable(ctx)
	defer cancel()
	defer b.clients.lock(name)()
	held, err := b.clients.getLocked(ctx, s, name)
	if err != nil || held == nil {
		return nil, err
	}
	event := feed.Event{Type: feed.Client, Operation: feed.Delete, Client: name, ClientID: held.ID}
	err = b.feed.Around(ctx, s, []feed.Event{event}, func() error {
		if err := b.spend(ctx, s, held.Tokens); err != nil {
			return err
		}
		return b.clients.delete(ctx, s, name)
	})
	if err != nil {
		return nil, err
	}
	b.sweep(ctx, s, held.Tokens)
	return held, nil
}

// newClientToken makes the client's token: the custom one in the source, or else an
// issued one. It returns nil if the custom one is the client's current token. The caller
// holds the client's lock, and releases the token.
func (b *mcpBackend) newClientToken(ctx context.Context, req *logical.Request, name string, c *clientEntry, src *tokenSource) (m *minted, warnings []string, err error) {
	conf, err := b.config(ctx, req.Storage)
	if err != nil {
		return nil, nil, err
	}
	if src.given() {
		m, err = b.adopt(ctx, req.Storage, name, c, src)
	} else {
		m, err = b.mint(ctx, req.Storage, c.ID, kindIssued)
	}
	if err != nil || m == nil {
		return nil, nil, err
	}
	if sealOf(&c.clientSettings, conf) == check.SealKMS {
		if err := b.seal(m, name, src); err != nil {
			m.release()
			return nil, nil, err
		}
	}
	ttl, warnings := capTTL(firstTTL(c.TokenTTL, conf.DefaultTTL),
		limit{"the client's token_max_ttl", c.TokenMaxTTL}, limit{"the mount's max_ttl", conf.MaxTTL})
	m.ExpiresAt = expiry(m.IssuedAt, ttl)
	m.issuer = b.issuerOf(req)
	if ttl == 0 {
		warnings = append(warnings, "the token does not expire: set token_ttl on the client or default_ttl in config, or use creds/ for short-lived tokens")
	}
	if src.given() && len(m.secret) < weakTokenLength {
		warnings = append(warnings, fmt.Sprintf("the access_token has fewer than %d characters and may be guessed: let the engine issue one", weakTokenLength))
	}
	if src.given() && m.sealed != "" {
		warnings = append(warnings, "the access_token is not accepted as it is: hand out the token in this answer, in which it is sealed")
	}
	return m, warnings, nil
}

// clientChange is a change of a client entry, about to be committed.
type clientChange struct {
	name    string
	next    *clientEntry
	events  []feed.Event
	dropped []clientToken // no longer listed in next
	spent   []clientToken // no longer the current token
	minted  *minted       // the new current token, if there is one
}

// replaceToken rotates the client of change to m and writes m's pointer. The
// caller holds the client's lock and commits the change.
func (b *mcpBackend) replaceToken(ctx context.Context, s logical.Storage, change *clientChange, m *minted, r rotation) error {
	change.minted = m
	before := change.next.clone()
	r.token = m.clientToken
	dropped, err := change.next.rotate(r, m.MountGeneration, b.now())
	if err != nil {
		return err
	}
	change.dropped = append(change.dropped, dropped...)
	change.spent = append(change.spent, before.Tokens...)
	change.events = append(change.events, tokenEvents(feed.Revoke, change.name, before.ID, dropped)...)
	change.events = append(change.events, tokenEvents(feed.Update, change.name, before.ID, shortened(before, change.next))...)
	change.events = append(change.events, announceCustom(change.name, before.ID, m)...)
	return b.putPointer(ctx, s, m, m.pointer(change.name, change.next))
}

// shortened returns the tokens of after that end sooner than they did before.
func shortened(before, after *clientEntry) []clientToken {
	var changed []clientToken
	for _, t := range after.Tokens {
		if old := before.byAccessor(t.Accessor); old != nil && !old.ExpiresAt.Equal(t.ExpiresAt) {
			changed = append(changed, t)
		}
	}
	return changed
}

// commit writes the change: first the spent tokens, then the client entry, then it removes
// pointers that are no longer needed. The caller holds the client's lock.
func (b *mcpBackend) commit(ctx context.Context, s logical.Storage, change *clientChange) error {
	change.next.markWritten(b.now())
	err := b.feed.Around(ctx, s, change.events, func() error {
		if err := b.spend(ctx, s, change.spent); err != nil {
			return err
		}
		return b.clients.put(ctx, s, change.name, change.next)
	})
	if err != nil {
		return err
	}
	if change.minted != nil {
		change.minted.release() // sweep may need the same stripe
	}
	b.sweep(ctx, s, change.dropped)
	return nil
}
