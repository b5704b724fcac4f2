package backend

import (
	"context"
	"crypto/sha256"
	"hash"
	"sync/atomic"
	"time"

	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/helper/salt"
	"github.com/hashicorp/vault/sdk/logical"

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

// salt returns the mount's salt, which is made on first use.
func (b *mcpBackend) salt(ctx context.Context, s logical.Storage) (*salt.Salt, error) {
	b.saltLock.RLock()
	held := b.saltHeld
	b.saltLock.RUnlock()
	if held != nil {
		return held, nil
	}
	b.saltLock.Lock()
	defer b.saltLock.Unlock()
	if b.saltHeld != nil {
		return b.saltHeld, nil
	}
	made, err := salt.NewSalt(ctx, s, &salt.Config{HMAC: newHMACHash, HMACType: hmacType, Location: salt.DefaultLocation})
	if err != nil {
		return nil, err
	}
	b.saltHeld = made
	return made, nil
}

const hmacType = "hmac-sha256"

func newHMACHash() hash.Hash { return sha256.New() }

// hashToken returns the key of tok below tokenPrefix and spentPrefix: its
// HMAC-SHA256 under the mount's salt. The first two digits are a folder of their
// own, so that no listing ever returns all tokens at once.
func (b *mcpBackend) hashToken(ctx context.Context, s logical.Storage, tok string) (string, error) {
	held, err := b.salt(ctx, s)
	if err != nil {
		return "", err
	}
	mac := held.GetHMAC(tok)
	return mac[:2] + "/" + mac[2:], nil
}

// cachedSystem answers from memory, for a second, the questions that the framework asks on
// every request. Each of these questions is a call back into Vault, and takes about as long
// as a lookup.
type cachedSystem struct {
	logical.SystemView
	now  func() time.Time
	held atomic.Pointer[systemState]
}

type systemState struct {
	replication consts.ReplicationState
	local       bool
	until       time.Time
}

func newCachedSystem(view logical.SystemView, now func() time.Time) *cachedSystem {
	return &cachedSystem{SystemView: view, now: now}
}

// ReplicationState returns the node's replication state, at most a second old.
func (c *cachedSystem) ReplicationState() consts.ReplicationState { return c.state().replication }

// LocalMount reports whether the mount is local to its cluster.
func (c *cachedSystem) LocalMount() bool { return c.state().local }

func (c *cachedSystem) state() *systemState {
	now := c.now()
	if held := c.held.Load(); held != nil && now.Before(held.until) {
		return held
	}
	asked := &systemState{
		replication: c.SystemView.ReplicationState(), local: c.SystemView.LocalMount(), until: now.Add(time.Second),
	}
	c.held.Store(asked)
	return asked
}
