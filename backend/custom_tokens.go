package backend

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/check"
	"vault-plugin-secrets-mcp/backend/feed"
	"vault-plugin-secrets-mcp/backend/token"
)

// weakTokenLength is the length under which a custom token is accepted with a
// warning: fewer characters may hold fewer bits than an issued token's own.
const weakTokenLength = 32

// customSource takes the custom token out of the request, if it has one. It must be called
// before any lock is taken.
func (b *mcpBackend) customSource(ctx context.Context, req *logical.Request, d *framework.FieldData, name string) (*tokenSource, error) {
	src := &tokenSource{allowReuse: d.Get("allow_reuse").(bool)}
	plain, given := d.GetOk("access_token")
	if given {
		src.custom, src.field = plain.(string), "access_token"
	}
	if ciphertext, ok := d.GetOk("access_token_ciphertext"); ok {
		if given {
			return nil, userErrorf("fields access_token and access_token_ciphertext: give one of them")
		}
		decrypted, err := b.decryptToken(ctx, req, name, ciphertext.(string))
		if err != nil {
			return nil, err
		}
		src.custom, src.field, src.encrypted = decrypted, "access_token_ciphertext", true
	}
	return src, nil
}

// adopt takes a custom token for the client. The token's stripe stays locked until
// release, so that no other client takes the same token. It returns nil if the token is
// the client's current one already. The caller holds the client's lock.
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
	// A raised minimum applies to new tokens. It comes first, so that a caller who tries
	// short tokens learns nothing about those of others.
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
// HMAC. It answers false without an error if the token is the client's current one.
// The caller holds the client's lock and the token's.
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
			// Without its lock: its holder may wait for ours.
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

// announceCustom is the event of a new custom token. Gateways may have seen the token before,
// and remember that it was not valid. Nobody can know an issued token before it is answered.
func announceCustom(name, clientID string, m *minted) []feed.Event {
	if m.Kind != kindCustom {
		return nil
	}
	return tokenEvents(feed.Create, name, clientID, []clientToken{m.clientToken})
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

// spentLife is how long a custom token that has ended is remembered, so that it does
// not come back with the next apply of a file that still has it.
const spentLife = 365 * 24 * time.Hour

// spentEntry is a custom token that has ended, under its HMAC.
type spentEntry struct {
	// At is when it ended. Entries of earlier versions have none.
	At time.Time `json:"at,omitzero"`
}

// isSpent reports whether a custom token with that HMAC has ended before.
func (b *mcpBackend) isSpent(ctx context.Context, s logical.Storage, hash string) (bool, error) {
	entry, err := s.Get(ctx, spentPrefix+hash)
	return entry != nil, err
}

// putSpent remembers that a custom token ends.
func (b *mcpBackend) putSpent(ctx context.Context, s logical.Storage, hash string) error {
	b.spentLock.Lock()
	defer b.spentLock.Unlock()
	return putJSON(ctx, s, spentPrefix+hash, spentEntry{At: b.now()})
}

// tidySpent forgets a custom token that ended long ago, and notes the time for one
// that an earlier version remembered without.
func (b *mcpBackend) tidySpent(ctx context.Context, s logical.Storage, hash string) error {
	b.tidying.update(func(t *tidyStatus) { t.TokensChecked++ })
	if due, err := b.spentDue(ctx, s, hash); err != nil || !due {
		return err
	}
	ctx, cancel := durable(ctx)
	defer cancel()
	b.spentLock.Lock()
	defer b.spentLock.Unlock()
	var held spentEntry // it may have ended again meanwhile
	if ok, err := getJSON(ctx, s, spentPrefix+hash, &held); err != nil || !ok {
		return err
	}
	if held.At.IsZero() {
		return putJSON(ctx, s, spentPrefix+hash, spentEntry{At: b.now()})
	}
	if b.now().Sub(held.At) < spentLife {
		return nil
	}
	if err := s.Delete(ctx, spentPrefix+hash); err != nil {
		return err
	}
	b.tidying.update(func(t *tidyStatus) { t.TokensRemoved++ })
	return nil
}

// spentDue reports whether there is something to do about the entry.
func (b *mcpBackend) spentDue(ctx context.Context, s logical.Storage, hash string) (bool, error) {
	var held spentEntry
	ok, err := getJSON(ctx, s, spentPrefix+hash, &held)
	return ok && (held.At.IsZero() || b.now().Sub(held.At) >= spentLife), err
}
