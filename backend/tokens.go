package backend

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/check"
	"vault-plugin-secrets-mcp/backend/feed"
	"vault-plugin-secrets-mcp/backend/token"
)

// accessorLength is the length of an accessor: the client's id, so that the
// accessor alone leads to its client, and as many random characters again.
const accessorLength = 2 * idLength

// weakTokenLength is the length under which a custom token is accepted with a
// warning: fewer characters may hold fewer bits than an issued token's own.
const weakTokenLength = 32

// minted is a token that has been made but not yet committed.
type minted struct {
	clientToken
	secret string
	sealed string // what its holder is given instead of secret; "" for secret itself
	hidden bool   // it came encrypted, and is not answered in clear
	unlock func() // of a custom token's stripe; nil otherwise
}

// answer is what the request that has made the token answers: all of it, with the
// token as its holder is to present it.
func (m *minted) answer(client, clientID string, now time.Time) map[string]any {
	data := tokenData(client, clientID, &m.tokenInfo, now)
	switch {
	case m.sealed != "":
		data["token"] = m.sealed
	case !m.hidden:
		data["token"] = m.secret
	}
	return data
}

// seal seals the named client's token with the source's key.
func (b *mcpBackend) seal(m *minted, name string, src *tokenSource) error {
	switch {
	case !src.answered:
		return userErrorf("the client's tokens are sealed, and this write answers none: write rotate-client/%s instead, which answers the new token in its sealed form", name)
	case src.key == nil:
		return userErrorf("seal was changed meanwhile: try again")
	}
	sealed, err := src.key.Seal(b.opts.Random, m.secret)
	if err != nil {
		return userErrorf("field %s: %s", src.field, err)
	}
	m.sealed, m.DataKey = sealed, src.key.ID()
	return nil
}

// release unlocks a custom token's stripe. Only the first call counts.
func (m *minted) release() {
	if m.unlock != nil {
		m.unlock()
		m.unlock = nil
	}
}

// pointer returns the pointer for a token of that client.
func (m *minted) pointer(name string, c *clientEntry) *pointer {
	return &pointer{tokenInfo: m.tokenInfo, Client: name, ClientID: c.ID, Generation: c.Generation}
}

// mint makes an issued or leased token for the client with that id.
func (b *mcpBackend) mint(ctx context.Context, s logical.Storage, clientID string, kind tokenKind) (*minted, error) {
	secret, err := token.New(b.opts.Random)
	if err != nil {
		return nil, err
	}
	hash, err := b.hashToken(ctx, s, secret)
	if err != nil {
		return nil, err
	}
	info, err := b.newTokenInfo(ctx, s, clientID, kind)
	if err != nil {
		return nil, err
	}
	return &minted{clientToken: clientToken{tokenInfo: *info, Hash: hash}, secret: secret}, nil
}

func (b *mcpBackend) newTokenInfo(ctx context.Context, s logical.Storage, clientID string, kind tokenKind) (*tokenInfo, error) {
	mount, err := b.mountEntry(ctx, s)
	if err != nil {
		return nil, err
	}
	suffix, err := token.RandomID(b.opts.Random, accessorLength-idLength)
	if err != nil {
		return nil, err
	}
	return &tokenInfo{
		Accessor: clientID + suffix, Kind: kind, IssuedAt: b.now(), MountGeneration: mount.Generation,
	}, nil
}

// adopt takes a custom token for the client in hand, and keeps the token's
// stripe locked until release, so that no other client takes the same one. It
// returns nil where the token is the client's current one already. The caller
// holds the client's lock.
func (b *mcpBackend) adopt(ctx context.Context, s logical.Storage, name string, c *clientEntry, src *tokenSource) (*minted, error) {
	conf, err := b.config(ctx, s)
	if err != nil {
		return nil, err
	}
	form := token.CheckCustom(src.custom, conf.MinCustomTokenLength)
	if form != nil {
		form = userErrorf("field %s: %s%s", src.field, form, schemeHint(src.custom))
	}
	if token.CheckCustom(src.custom, token.MinCustomLength) != nil {
		return nil, form
	}
	hash, err := b.hashToken(ctx, s, src.custom)
	if err != nil {
		return nil, err
	}
	m := &minted{secret: src.custom, hidden: src.encrypted, unlock: b.pointers.lock(hash)}
	// A raised minimum is for the tokens to come. It is told before anything is told
	// of others' tokens.
	if current := c.current(); form != nil && (current == nil || current.Hash != hash) {
		m.release()
		return nil, form
	}
	taken, err := b.checkAdoptable(ctx, s, name, c, hash, src)
	if err == nil && taken {
		err = form
	}
	if err != nil || !taken {
		m.release()
		return nil, err
	}
	info, err := b.newTokenInfo(ctx, s, c.ID, kindCustom)
	if err != nil {
		m.release()
		return nil, err
	}
	m.clientToken = clientToken{tokenInfo: *info, Hash: hash}
	return m, nil
}

// checkAdoptable reports whether the client may take the custom token with that
// HMAC. It answers false without an error where the token is the client's
// current one. The caller holds the client's lock and the token's.
func (b *mcpBackend) checkAdoptable(ctx context.Context, s logical.Storage, name string, c *clientEntry, hash string, src *tokenSource) (bool, error) {
	mount, err := b.mountEntry(ctx, s)
	if err != nil {
		return false, err
	}
	p, err := b.pointers.getLocked(ctx, s, hash)
	if err != nil {
		return false, err
	}
	ended := false
	if p != nil {
		owner := c
		if p.Client != name {
			// Without its lock, which could be held by one who waits for ours.
			if owner, err = b.clients.read(ctx, s, p.Client); err != nil {
				return false, err
			}
		}
		listed := owner != nil && owner.ID == p.ClientID && owner.own(hash) != nil
		switch live := listed && owner.own(hash).MountGeneration == mount.Generation && !owner.own(hash).expired(b.now()); {
		case live && p.Client == name && !owner.own(hash).Replaced:
			return false, nil
		case live && p.Client == name:
			return false, userErrorf("field %s: %s", src.field, check.ErrTokenReplaced)
		case live:
			return false, userErrorf("field %s: %s", src.field, check.ErrTokenInUse)
		case listed:
			ended = true
		}
	}
	if !ended {
		if ended, err = b.isSpent(ctx, s, hash); err != nil {
			return false, err
		}
	}
	if ended && !src.allowReuse {
		return false, userErrorf("field %s: this token was revoked, replaced or has expired in this mount, and a token that may have leaked must not come back: choose a new one, or pass allow_reuse=true", src.field)
	}
	return true, nil
}

// spend remembers those of the tokens that are custom, so that they cannot be
// adopted again. It comes before the write that ends them: a token remembered
// too early is still accepted, one remembered too late could come back.
func (b *mcpBackend) spend(ctx context.Context, s logical.Storage, tokens []clientToken) error {
	for _, t := range tokens {
		if t.Kind != kindCustom {
			continue
		}
		if err := b.putSpent(ctx, s, t.Hash); err != nil {
			return fmt.Errorf("remember the ended custom token: %w", err)
		}
	}
	return nil
}

// putPointer writes the token's pointer. A custom token's stripe is held by
// adopt already.
func (b *mcpBackend) putPointer(ctx context.Context, s logical.Storage, m *minted, p *pointer) error {
	if m.unlock == nil {
		defer b.pointers.lock(m.Hash)()
	}
	return b.pointers.put(ctx, s, m.Hash, p)
}

// sweep removes the pointers of tokens that no client entry lists any more. A
// failure is only logged: the pointers admit nothing, and tidy removes them.
func (b *mcpBackend) sweep(ctx context.Context, s logical.Storage, tokens []clientToken) {
	for _, t := range tokens {
		if err := b.deletePointer(ctx, s, t.Hash, t.Accessor); err != nil {
			b.Logger().Warn("an ended token's entry stays until the next tidy", "accessor", t.Accessor, "error", err)
		}
	}
}

// deletePointer removes the pointer if it is still that accessor's: a custom
// token may have been adopted again since.
func (b *mcpBackend) deletePointer(ctx context.Context, s logical.Storage, hash, accessor string) error {
	defer b.pointers.lock(hash)()
	p, err := b.pointers.getLocked(ctx, s, hash)
	if err != nil || p == nil || p.Accessor != accessor {
		return err
	}
	return b.pointers.delete(ctx, s, hash)
}

// tokenEvents announces the end or the change of tokens of a client.
func tokenEvents(op feed.Operation, name, clientID string, tokens []clientToken) []feed.Event {
	events := make([]feed.Event, 0, len(tokens))
	for _, t := range tokens {
		events = append(events, feed.Event{Type: feed.Token, Operation: op, Client: name, ClientID: clientID, Accessor: t.Accessor})
	}
	return events
}
