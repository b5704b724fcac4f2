package backend

import (
	"context"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
)

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
