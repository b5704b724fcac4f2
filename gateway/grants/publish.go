package grants

import (
	"errors"
	"time"
)

// Why an answer was thrown away.
var (
	errOutdated   = errors.New("the answer is older than a change that concerns it")
	errOtherEpoch = errors.New("the answer belongs to another history than the change feed")
)

// publish makes the answer to a lookup known, or throws it away. Its lock is
// the one that apply takes: each change is applied either before, and then the
// answer is compared with it, or after, and then it finds the grant.
//
// The error is nil for a grant in place, ErrInactive for a "no", and one of the
// above for an answer that must be asked for again.
func (b *Broker) publish(k key, l *Lookup, g *Grant, now time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()

	v := b.view.Load()
	if l.Epoch != v.epoch {
		if v.synced {
			return errOtherEpoch
		}
	} else if b.history.touched(l) {
		return errOutdated
	}

	e := b.cache.get(k)
	if g == nil || g.expired(now) {
		if e != nil {
			b.end(e, ErrInactive)
		}
		if g == nil {
			b.negatives.Add(k, now)
		}
		return ErrInactive
	}
	b.negatives.Remove(k)
	if e != nil {
		old := e.grant.Load()
		if old.Accessor == g.Accessor && old.ClientID == g.ClientID {
			e.replace(g)
			b.notify(End{Grant: old, Successor: g})
			return nil
		}
		// The same token, but another record of it: what lived on the old one
		// must not go on under the new one's name.
		b.end(e, ErrInactive)
	}
	b.makeRoom(k[0])
	b.cache.add(k, g, now)
	return nil
}

// end kills an entry. Broker.mu is held.
func (b *Broker) end(e *entry, cause error) {
	g := e.kill(cause)
	if g == nil {
		return
	}
	b.cache.remove(e, g)
	b.notify(End{Grant: g})
}

// makeRoom keeps the cache within its bound, as far as live requests allow.
func (b *Broker) makeRoom(start byte) {
	for range 4 {
		if b.cache.size.Load() < int64(b.options.Grants.MaxEntries) {
			return
		}
		if e := b.cache.longestUnused(start); e != nil {
			b.evict(e)
		}
	}
}

// evict takes an entry out unless something lives on it, and tells those who hold
// something for its token: they hear no more of it. Broker.mu is held.
func (b *Broker) evict(e *entry) {
	g := e.grant.Load()
	if g == nil || !e.evict() {
		return
	}
	b.cache.remove(e, g)
	b.notify(End{Grant: g})
}

// apply takes in one answer of the feed to a request that was sent at sent.
func (b *Broker) apply(answer *Changes, sent time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()

	v := *b.view.Load()
	todo := effects{}
	if answer.Reset || answer.Epoch != v.epoch || answer.Index < v.applied {
		if v.epoch != "" {
			b.log.Warn("the change feed has a gap: grants are confirmed one by one as they are used",
				"epoch", answer.Epoch, "index", answer.Index)
		}
		b.history.reset(answer.Index)
		b.negatives.Purge()
		v.epoch, v.floor, v.servers = answer.Epoch, answer.Index, answer.Index
		todo = effects{servers: true, keys: true, sweep: true}
	} else {
		for i := range answer.Changes {
			if c := &answer.Changes[i]; c.Index > v.applied {
				b.applyOne(c, &v, &todo)
			}
		}
	}
	v.applied, v.sent, v.synced, v.maxAge = answer.Index, sent, true, b.options.Grants.MaxStale
	b.view.Store(&v)
	if todo.servers {
		wake(b.wakeRegistry)
	}
	if todo.keys {
		wake(b.wakeKeys)
		wake(b.wakeDataKeys)
	}
	if todo.sweep {
		b.live.each(func(e *entry) { b.revalidate(e, e.grant.Load()) })
	}
}

// effects is what an answer of the feed makes necessary once it is applied.
type effects struct {
	servers bool // fetch the registry
	keys    bool // fetch the session keys
	sweep   bool // look at everything that has live requests
}

// applyOne applies one change. Grants that knew of it already, since their
// lookup was answered later, are left alone.
func (b *Broker) applyOne(c *Change, v *view, todo *effects) {
	b.history.remember(c)
	if c.admits() {
		b.negatives.Purge()
	}
	switch c.scope() {
	case scopeToken:
		if e := b.cache.byAccessor[c.Accessor]; e != nil {
			b.touch(e, c, v)
		}
	case scopeClient:
		if client := b.cache.byClient[c.ClientID]; client != nil {
			for e := client.entries; e != nil; {
				next := e.next // touch may unlink e
				b.touch(e, c, v)
				e = next
			}
		}
	case scopeServers:
		v.servers = c.Index
		todo.servers = true
	case scopeKeys:
		todo.keys = true
	case scopeEverything:
		if c.ends() {
			b.endAll(c, v)
		}
		v.floor = c.Index
		todo.sweep = true
		todo.servers = todo.servers || c.Type == typeMount
		todo.keys = todo.keys || c.Type == typeMount || c.Type == typeConfig
	}
}

// touch applies a change to one entry.
func (b *Broker) touch(e *entry, c *Change, v *view) {
	g := e.grant.Load()
	if g.epoch == v.epoch && g.index >= c.Index {
		return
	}
	if c.ends() {
		b.endForGood(e)
		return
	}
	g.stale.Store(true)
	b.revalidate(e, g)
}

// endAll applies a change that ends every token of the mount.
func (b *Broker) endAll(c *Change, v *view) {
	for i := range shardCount {
		for _, e := range b.cache.all(i) {
			if g := e.grant.Load(); g.epoch != v.epoch || g.index < c.Index {
				b.endForGood(e)
			}
		}
	}
}

// endForGood ends an entry whose token the feed says has ended, and remembers that
// as Vault's answer: clients ask again at once, and thousands of them may have lost
// their tokens at the same time. Whatever may admit the token again has it forgotten.
func (b *Broker) endForGood(e *entry) {
	b.end(e, ErrInactive)
	b.negatives.Add(e.key, time.Now())
}
