package backend

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
)

// tidyMinAge is how old an unconfirmed pointer must be to be removed: a younger
// one may belong to a write that has not committed yet.
const tidyMinAge = 10 * time.Minute

// tidyStage is one kind of entry to examine, and the step for each.
type tidyStage struct {
	prefix string
	step   func(ctx context.Context, s logical.Storage, key string) error
}

// tidyStages returns what a run removes, in order: expired tokens of the clients' lists,
// lease entries without a token, ids of clients that are gone, the pointers that no client
// confirms, custom tokens that ended long ago, sign-ins and used assertions whose time is over,
// usage that is older than usage_days or of clients that are gone, pins of servers that are gone
// or lead elsewhere, texts of definitions that no server's pins name, and the data keys under
// which no token is sealed. A step holds the locks of one entry at most.
func (b *mcpBackend) tidyStages() []tidyStage {
	return []tidyStage{
		{clientPrefix, b.tidyClient},
		{leasePrefix, b.tidyLease},
		{uidPrefix, b.tidyID},
		{tokenPrefix, b.tidyPointer},
		{spentPrefix, b.tidySpent},
		{signInPrefix, b.tidySignIn},
		{assertionPrefix, b.tidyAssertion},
		{usagePrefix, b.tidyUsage},
		{usageRowsPrefix, b.tidyUsageRows},
		{usageDayPrefix, b.tidyUsageDay},
		{pinPrefix, b.tidyPins},
		{pinTextPrefix, b.tidyPinText},
		{kmsPrefix, b.tidyDataKeys},
	}
}

// tidy goes through the stages from where the last run was paused.
func (b *mcpBackend) tidy(ctx context.Context, s logical.Storage) error {
	stages := b.tidyStages()
	for at := b.tidying.read().position; at.stage < len(stages); at = (tidyPosition{stage: at.stage + 1}) {
		names, err := sortedNames(ctx, s, stages[at.stage].prefix)
		if err != nil {
			return err
		}
		for i, name := range names {
			if err := b.tidyName(ctx, s, stages[at.stage], at, name); err != nil {
				return err
			}
			b.tidying.update(func(t *tidyStatus) {
				t.Progress = (100*at.stage + 100*(i+1)/len(names)) / len(stages)
			})
		}
	}
	return nil
}

// tidyName does one key, or the keys of one folder. The position moves with each
// key, so that a run gets on however little time it is given.
func (b *mcpBackend) tidyName(ctx context.Context, s logical.Storage, stage tidyStage, at tidyPosition, name string) error {
	if at.passed(name) {
		return nil
	}
	keys := []string{name}
	if strings.HasSuffix(name, "/") {
		names, err := sortedNames(ctx, s, stage.prefix+name)
		if err != nil {
			return err
		}
		keys = keys[:0]
		for _, key := range names {
			keys = append(keys, name+key)
		}
	}
	for _, key := range keys {
		if at.passed(key) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := stage.step(ctx, s, key); err != nil {
			return err
		}
		b.tidying.update(func(t *tidyStatus) { t.position = tidyPosition{stage: at.stage, after: key} })
	}
	return nil
}

func sortedNames(ctx context.Context, s logical.Storage, prefix string) ([]string, error) {
	names, err := s.List(ctx, prefix)
	slices.Sort(names)
	return names, err
}

// tidyClient takes expired tokens out of the client's list. Custom ones stay
// remembered as spent.
func (b *mcpBackend) tidyClient(ctx context.Context, s logical.Storage, name string) error {
	b.tidying.update(func(t *tidyStatus) { t.ClientsChecked++ })
	held, err := b.clients.get(ctx, s, name)
	if err != nil || held == nil {
		return err
	}
	mount, err := b.mountEntry(ctx, s)
	if err != nil {
		return err
	}
	for i := range held.Tokens {
		if held.Tokens[i].live(mount.Generation, b.now()) {
			b.tidying.uses(held.Tokens[i].DataKey)
		}
	}
	if !held.hasExpired(b.now()) {
		return nil
	}
	ctx, cancel := durable(ctx)
	defer cancel()
	defer b.clients.lock(name)()
	if held, err = b.clients.getLocked(ctx, s, name); err != nil || held == nil {
		return err
	}
	change := &clientChange{name: name, next: held.clone()}
	for _, t := range held.Tokens {
		if t.expired(b.now()) {
			change.dropped = append(change.dropped, change.next.remove(t.Accessor)...)
		}
	}
	change.spent = change.dropped
	b.tidying.update(func(t *tidyStatus) { t.TokensRemoved += int64(len(change.dropped)) })
	return b.commit(ctx, s, change)
}

// tidyPointer removes the pointer if it is expired, or old enough and confirmed
// by no client.
func (b *mcpBackend) tidyPointer(ctx context.Context, s logical.Storage, hash string) error {
	b.tidying.update(func(t *tidyStatus) { t.TokensChecked++ })
	p, err := b.pointers.read(ctx, s, hash) // not through the cache, which serves lookups
	if err != nil || p == nil {
		return err
	}
	needed, err := b.pointerNeeded(ctx, s, p, hash)
	if err != nil {
		return err
	}
	if needed {
		// An own token is one that its client lists.
		if p.Kind == kindLeased {
			b.tidying.uses(p.DataKey)
		}
		return nil
	}
	ctx, cancel := durable(ctx)
	defer cancel()
	defer b.pointers.lock(hash)()
	// A lease may have been renewed meanwhile, or a custom token adopted again.
	again, err := b.pointers.getLocked(ctx, s, hash)
	if err != nil || again == nil || again.Accessor != p.Accessor || !again.ExpiresAt.Equal(p.ExpiresAt) {
		return err
	}
	// No event: the token's end was announced, or the token has expired.
	if err := b.pointers.delete(ctx, s, hash); err != nil {
		return err
	}
	b.tidying.update(func(t *tidyStatus) { t.TokensRemoved++ })
	if p.Kind != kindLeased {
		return nil
	}
	return b.deleteLeaseEntry(ctx, s, p.Accessor)
}

// pointerNeeded reports whether p can still lead to a valid token, now or later: a
// disabled client's can, and so can one whose client may just be written.
func (b *mcpBackend) pointerNeeded(ctx context.Context, s logical.Storage, p *pointer, hash string) (bool, error) {
	if p.Kind == kindLeased && p.expired(b.now()) {
		return false, nil
	}
	if b.now().Sub(p.IssuedAt) < tidyMinAge {
		return true, nil
	}
	c, err := b.clients.get(ctx, s, p.Client)
	if err != nil || c == nil || c.ID != p.ClientID {
		return false, err
	}
	if p.Kind != kindLeased {
		return c.own(hash) != nil, nil
	}
	m, err := b.mountEntry(ctx, s)
	return err == nil && c.confirmsLeased(p) && p.MountGeneration == m.Generation, err
}

// tidyLease removes a lease entry without a pointer, unless it is so young that
// its pointer may still be on the way. The key is the client's id and the rest
// of the accessor.
func (b *mcpBackend) tidyLease(ctx context.Context, s logical.Storage, key string) error {
	var lease leaseEntry
	if ok, err := getJSON(ctx, s, leasePrefix+key, &lease); err != nil || !ok {
		return err
	}
	p, err := b.pointers.read(ctx, s, lease.Hash)
	if err != nil || p != nil || b.now().Sub(lease.IssuedAt) < tidyMinAge {
		return err
	}
	return s.Delete(ctx, leasePrefix+key)
}

// tidyID removes the index of an id whose client is gone.
func (b *mcpBackend) tidyID(ctx context.Context, s logical.Storage, id string) error {
	var uid uidEntry
	if ok, err := getJSON(ctx, s, uidPrefix+id, &uid); err != nil || !ok {
		return err
	}
	defer b.clients.lock(uid.Client)()
	c, err := b.clients.getLocked(ctx, s, uid.Client)
	if err != nil || c != nil && c.ID == id {
		return err
	}
	return s.Delete(ctx, uidPrefix+id)
}

// tidyEntry removes the collection's entry under the key, if its time is over. It checks
// the time again under the lock, since a request may have written the entry meanwhile.
func tidyEntry[T any](ctx context.Context, s logical.Storage, c *collection[T], key string, over func(*T) bool) error {
	held, err := c.read(ctx, s, key)
	if err != nil || held == nil || !over(held) {
		return err
	}
	ctx, cancel := durable(ctx)
	defer cancel()
	defer c.lock(key)()
	held, err = c.getLocked(ctx, s, key)
	if err != nil || held == nil || !over(held) {
		return err
	}
	return c.delete(ctx, s, key)
}

// tidyDataKeys removes the data keys that have sealed nothing since the run started, if
// the run has found no token under them: it has looked at every token that was sealed
// before, unless that has ended.
func (b *mcpBackend) tidyDataKeys(ctx context.Context, s logical.Storage, _ string) error {
	e, err := b.kmsEntry(ctx, s)
	if err != nil || e == nil {
		return err
	}
	unused := b.tidying.unused(e.superseded(b.tidying.read().StartedAt))
	if len(unused) == 0 {
		return nil
	}
	ctx, cancel := durable(ctx)
	defer cancel()
	return b.dropDataKeys(ctx, s, unused)
}
