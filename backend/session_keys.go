package backend

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/feed"
)

const (
	sessionKeySize = 32 // AES-256

	// sessionKeyPeriod is how often a new key is made, and sessionKeyLife how
	// long one is kept: sessions that were sealed under it end with it.
	sessionKeyPeriod = 30 * 24 * time.Hour
	sessionKeyLife   = 90 * 24 * time.Hour
)

// sessionKeys are the keys under which all gateways of the mount seal session ids, and the
// state that sign-in gives to others, so that any gateway can open what another has sealed.
type sessionKeys struct {
	Current int                `json:"current"`
	Keys    map[int]sessionKey `json:"keys"`

	// Registration is the key for the registrations of applications. Time does not end it.
	// Storage of an earlier version has none.
	Registration []byte `json:"registration,omitempty"`
}

type sessionKey struct {
	Key       []byte    `json:"key"`
	CreatedAt time.Time `json:"created_at"`
}

// complete reports whether nothing is to be made.
func (k *sessionKeys) complete() bool { return k != nil && k.Registration != nil }

// sessionKeys returns the mount's session keys, which are made on first use.
func (b *mcpBackend) sessionKeys(ctx context.Context, s logical.Storage) (*sessionKeys, error) {
	k, err := b.keys.get(ctx, s, sessionKeysKey)
	if err != nil || k.complete() {
		return k, err
	}
	defer b.keys.lock(sessionKeysKey)()
	if k, err = b.keys.getLocked(ctx, s, sessionKeysKey); err != nil || k.complete() {
		return k, err
	}
	if k == nil {
		k, err = b.nextSessionKeys(nil, 0)
	} else {
		k, err = b.withRegistrationKey(k)
	}
	if err != nil {
		return nil, err
	}
	return k, b.keys.put(ctx, s, sessionKeysKey, k)
}

// withRegistrationKey returns a copy of held with a registration key of its own.
func (b *mcpBackend) withRegistrationKey(held *sessionKeys) (*sessionKeys, error) {
	next := *held
	var err error
	next.Registration, err = b.newKey()
	return &next, err
}

func (b *mcpBackend) newKey() ([]byte, error) {
	key := make([]byte, sessionKeySize)
	if _, err := io.ReadFull(b.opts.Random, key); err != nil {
		return nil, fmt.Errorf("make a key for gateways: %w", err)
	}
	return key, nil
}

// nextSessionKeys returns held with one more key, the current one from now on,
// and without those older than life. With a life of 0 it has a new registration key, too.
func (b *mcpBackend) nextSessionKeys(held *sessionKeys, life time.Duration) (*sessionKeys, error) {
	now := b.now()
	next := &sessionKeys{Keys: map[int]sessionKey{}}
	if held != nil {
		next.Current = held.Current
		for version, k := range held.Keys {
			if now.Sub(k.CreatedAt) < life {
				next.Keys[version] = k
			}
		}
		if life > 0 {
			next.Registration = held.Registration
		}
	}
	key, err := b.newKey()
	if err != nil {
		return nil, err
	}
	next.Current++
	next.Keys[next.Current] = sessionKey{Key: key, CreatedAt: now}
	if next.Registration == nil {
		return b.withRegistrationKey(next)
	}
	return next, nil
}

// rotateSessionKeys makes a new current key, and forgets those older than life.
// Versions continue, so that a session under a key that is gone never looks like one
// under the new key.
func (b *mcpBackend) rotateSessionKeys(ctx context.Context, s logical.Storage, life time.Duration) error {
	defer b.keys.lock(sessionKeysKey)()
	held, err := b.keys.getLocked(ctx, s, sessionKeysKey)
	if err != nil {
		return err
	}
	next, err := b.nextSessionKeys(held, life)
	if err != nil {
		return err
	}
	return b.feed.Around(ctx, s, []feed.Event{{Type: feed.Config, Operation: feed.Update, Name: "keys"}}, func() error {
		return b.keys.put(ctx, s, sessionKeysKey, next)
	})
}

func (b *mcpBackend) rotateSessionKeysWhenDue(ctx context.Context, s logical.Storage) error {
	k, err := b.sessionKeys(ctx, s)
	if err != nil || b.now().Sub(k.Keys[k.Current].CreatedAt) < sessionKeyPeriod {
		return err
	}
	return b.rotateSessionKeys(ctx, s, sessionKeyLife)
}
