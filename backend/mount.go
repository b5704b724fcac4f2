package backend

import (
	"context"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/feed"
	"vault-plugin-secrets-mcp/backend/token"
)

// idLength is the length of a client's, a mount's and a registration's id, in
// characters of base62: 95 random bits.
const idLength = 16

// mountEntry has the state of the mount as a whole.
type mountEntry struct {
	ID         string `json:"id"`
	Generation uint64 `json:"generation"` // revoke-all raises it
}

// mountEntry returns the mount's entry, which is made on first use.
func (b *mcpBackend) mountEntry(ctx context.Context, s logical.Storage) (*mountEntry, error) {
	m, err := b.mounts.get(ctx, s, mountKey)
	if err != nil || m != nil {
		return m, err
	}
	defer b.mounts.lock(mountKey)()
	if m, err = b.mounts.getLocked(ctx, s, mountKey); err != nil || m != nil {
		return m, err
	}
	id, err := token.RandomID(b.opts.Random, idLength)
	if err != nil {
		return nil, err
	}
	m = &mountEntry{ID: id}
	return m, b.mounts.put(ctx, s, mountKey, m)
}

// revokeAll ends every token of the mount by one Put.
func (b *mcpBackend) revokeAll(ctx context.Context, s logical.Storage) error {
	if _, err := b.mountEntry(ctx, s); err != nil {
		return err
	}
	defer b.mounts.lock(mountKey)()
	m, err := b.mounts.getLocked(ctx, s, mountKey)
	if err != nil {
		return err
	}
	next := *m
	next.Generation++
	return b.feed.Around(ctx, s, []feed.Event{{Type: feed.Mount, Operation: feed.Revoke}}, func() error {
		return b.mounts.put(ctx, s, mountKey, &next)
	})
}

// now is the engine's clock.
func (b *mcpBackend) now() time.Time { return b.opts.Now().UTC() }
