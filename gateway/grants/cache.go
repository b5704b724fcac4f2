package grants

import (
	"crypto/sha256"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// key is the SHA-256 of a token. The cache uses it in place of the token.
type key [sha256.Size]byte

func keyOf(token string) key { return sha256.Sum256([]byte(token)) }

const shardCount = 64

// cache maps tokens to entries. Reading takes one shard's lock, shared; every
// change is made under Broker.mu, so that entries and indexes agree.
type cache struct {
	shards [shardCount]struct {
		sync.RWMutex
		entries map[key]*entry
		_       [64]byte // keep the locks on cache lines of their own
	}
	size atomic.Int64

	byAccessor  map[string]*entry
	byPrincipal map[Principal]*principalState
	people      map[string]map[Principal]struct{} // the principals of byPrincipal that are people, by the client's id
}

func newCache() *cache {
	c := &cache{
		byAccessor: make(map[string]*entry), byPrincipal: make(map[Principal]*principalState),
		people: make(map[string]map[Principal]struct{}),
	}
	for i := range c.shards {
		c.shards[i].entries = make(map[key]*entry)
	}
	return c
}

func (c *cache) get(k key) *entry {
	shard := &c.shards[k[0]%shardCount]
	shard.RLock()
	e := shard.entries[k]
	shard.RUnlock()
	return e
}

// add makes an entry for g. There must be none of that key.
func (c *cache) add(k key, g *Grant, now time.Time) {
	principal := c.stateOf(g.Principal())
	e := &entry{key: k, principal: principal, next: principal.entries}
	if e.next != nil {
		e.next.prev = e
	}
	principal.entries = e
	e.markUsed(now)
	g.entry = e
	e.grant.Store(g)
	c.byAccessor[g.Accessor] = e

	shard := &c.shards[k[0]%shardCount]
	shard.Lock()
	shard.entries[k] = e
	shard.Unlock()
	c.size.Add(1)
}

// stateOf returns the principal's state, and makes it if there is none.
func (c *cache) stateOf(p Principal) *principalState {
	state := c.byPrincipal[p]
	if state != nil {
		return state
	}
	state = new(principalState)
	c.byPrincipal[p] = state
	if p.IsPerson() {
		if c.people[p.client] == nil {
			c.people[p.client] = make(map[Principal]struct{})
		}
		c.people[p.client][p] = struct{}{}
	}
	return state
}

// drop forgets a principal of whom no token is here any more.
func (c *cache) drop(p Principal, state *principalState) {
	if c.byPrincipal[p] != state {
		return
	}
	delete(c.byPrincipal, p)
	if people := c.people[p.client]; people != nil {
		delete(people, p)
		if len(people) == 0 {
			delete(c.people, p.client)
		}
	}
}

// ofClient calls f with each entry of the client: of its own tokens, and of those of people
// who act as it. f may remove the entry.
func (c *cache) ofClient(clientID string, f func(*entry)) {
	c.byPrincipal[PrincipalOf(clientID)].each(f)
	for p := range c.people[clientID] {
		c.byPrincipal[p].each(f)
	}
}

// remove takes an entry out that held g, and reports whether it was its principal's last.
func (c *cache) remove(e *entry, g *Grant) (last bool) {
	if c.byAccessor[g.Accessor] == e {
		delete(c.byAccessor, g.Accessor)
	}
	if e.prev != nil {
		e.prev.next = e.next
	} else {
		e.principal.entries = e.next
	}
	if e.next != nil {
		e.next.prev = e.prev
	}
	e.next, e.prev = nil, nil
	last = e.principal.entries == nil
	if e.principal.isUnused() {
		c.drop(g.Principal(), e.principal)
	}
	shard := &c.shards[e.key[0]%shardCount]
	shard.Lock()
	delete(shard.entries, e.key)
	shard.Unlock()
	c.size.Add(-1)
	return last
}

// all returns the entries of one shard.
func (c *cache) all(i int) []*entry {
	shard := &c.shards[i]
	shard.RLock()
	defer shard.RUnlock()
	entries := make([]*entry, 0, len(shard.entries))
	for _, e := range shard.entries {
		entries = append(entries, e)
	}
	return entries
}

// longestUnused returns, of a few entries picked at random, the one that was unused
// for the longest time; nil if there are none.
func (c *cache) longestUnused(start byte) *entry {
	const sample = 8
	var oldest *entry
	seen := 0
	for i := range shardCount {
		shard := &c.shards[(int(start)+i)%shardCount]
		shard.RLock()
		for _, e := range shard.entries { // in an order that Go makes random
			if seen == sample {
				break
			}
			seen++
			if oldest == nil || e.used.Load() < oldest.used.Load() {
				oldest = e
			}
		}
		shard.RUnlock()
		if seen == sample {
			break
		}
	}
	return oldest
}

// errEvicted: the entry made room for others. Its token is as good as before.
var errEvicted = errors.New("the grant was evicted from the cache")

// entry is the cache's place for one token: its present grant, and the requests
// that live on it. An entry that is gone never comes back; another lookup of
// the token makes another entry.
type entry struct {
	key   key
	grant atomic.Pointer[Grant] // nil once gone

	// Guarded by Broker.mu.
	principal  *principalState
	next, prev *entry // among the principal's entries

	mu               sync.Mutex    // after Broker.mu, never before it
	ended            error         // why the entry is dead; nil while it is not
	live             *Hold         // list of the requests in flight
	unconfirmedSince time.Duration // uptime since which its live requests have waited for a confirmation; 0: they do not
	inLiveSet        bool          // in the set of entries that have had live requests
	expired          bool          // its token's lease has: see expiry.go
	revalidating     *Grant        // the grant that waits for a revalidation; nil: none does

	used atomic.Uint32 // unix seconds of the last use, for eviction
}

// principalState is the state that the tokens of one principal share.
type principalState struct {
	entries  *entry       // list, guarded by Broker.mu
	outlived int          // entries that are in the list no more, and have requests in flight; likewise
	live     atomic.Int64 // requests in flight
}

// isUnused reports whether nothing is known of the principal any more.
func (p *principalState) isUnused() bool { return p.entries == nil && p.outlived == 0 }

// each calls f with each entry, which f may remove. p may be nil.
func (p *principalState) each(f func(*entry)) {
	if p == nil {
		return
	}
	for e := p.entries; e != nil; {
		next := e.next
		f(e)
		e = next
	}
}

// markUsed notes a use, once a second at most: a write that is not needed would
// only take the cache line away from the other cores.
func (e *entry) markUsed(now time.Time) {
	if second := uint32(now.Unix()); e.used.Load() != second { //nolint:gosec // enough until 2106
		e.used.Store(second)
	}
}

// hasLive reports whether requests live on the entry.
func (e *entry) hasLive() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.live != nil
}

// kill ends the entry and everything that lives on it, and returns the grant
// that it held.
func (e *entry) kill(cause error) *Grant {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ended != nil {
		return nil
	}
	e.ended = cause
	for h := e.live; h != nil; h = h.next {
		h.cancel(cause)
	}
	return e.grant.Swap(nil)
}

// endCause returns the cause of the entry's end; ErrStale if another entry has replaced
// it.
func (e *entry) endCause() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ended == nil || errors.Is(e.ended, errEvicted) {
		return ErrStale
	}
	return e.ended
}

// evict ends the entry unless something lives on it.
func (e *entry) evict() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ended != nil || e.live != nil {
		return false
	}
	e.ended = errEvicted
	e.grant.Store(nil)
	return true
}

// replace puts a newer grant in place, and cuts the requests that it does not
// admit any more.
func (e *entry) replace(g *Grant) (old *Grant) {
	e.mu.Lock()
	defer e.mu.Unlock()
	g.entry = e
	old = e.grant.Swap(g)
	e.unconfirmedSince = 0
	reruled := old != nil && !g.sameRules(old)
	for h := e.live; h != nil; h = h.next {
		if err := h.admittedBy(g); err != nil {
			h.cancel(err)
		} else if reruled && h.reruled != nil {
			h.reruled()
			h.reruled = nil
		}
	}
	return old
}

// cut cuts the requests that g does not admit, without putting it in place.
func (e *entry) cut(g *Grant) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for h := e.live; h != nil; h = h.next {
		if err := h.admittedBy(g); err != nil {
			h.cancel(err)
		}
	}
}

// cutServers cancels the requests whose server is no longer registered as it
// was.
func (e *entry) cutServers(registered func(*Server) error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for h := e.live; h != nil; h = h.next {
		if h.server == nil {
			continue
		}
		if err := registered(h.server); err != nil {
			h.cancel(err)
		}
	}
}

// takeRevalidation returns the grant to confirm, and the token to ask Vault about: that
// of any live request, or "" if there is none. The entry itself keeps no token; those
// who bear it do.
func (e *entry) takeRevalidation() (token string, unconfirmed *Grant) {
	e.mu.Lock()
	defer e.mu.Unlock()
	unconfirmed, e.revalidating = e.revalidating, nil
	if e.live == nil {
		return "", nil
	}
	return e.live.token, unconfirmed
}

// unconfirmedFor notes whether the live requests go on with a grant that
// nothing confirms, and returns for how long they have.
func (e *entry) unconfirmedFor(now time.Time, unconfirmed bool) time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case !unconfirmed:
		e.unconfirmedSince = 0
		return 0
	case e.unconfirmedSince == 0:
		e.unconfirmedSince = uptime(now)
	}
	return uptime(now) - e.unconfirmedSince
}

// started is the start of the process's uptime.
var started = time.Now()

// uptime is a time by the monotonic clock alone, in a third of the space.
func uptime(now time.Time) time.Duration { return now.Sub(started) }
