package grants

import (
	"crypto/sha256"
	"sync"
	"sync/atomic"
	"time"
)

// key is the SHA-256 of a token: what the cache knows it by.
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

	byAccessor map[string]*entry
	byClient   map[string]*clientState
}

func newCache() *cache {
	c := &cache{byAccessor: make(map[string]*entry), byClient: make(map[string]*clientState)}
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
	client := c.byClient[g.ClientID]
	if client == nil {
		client = new(clientState)
		c.byClient[g.ClientID] = client
	}
	e := &entry{key: k, client: client, next: client.entries}
	if e.next != nil {
		e.next.prev = e
	}
	client.entries = e
	e.touch(now)
	g.entry = e
	e.grant.Store(g)
	c.byAccessor[g.Accessor] = e

	shard := &c.shards[k[0]%shardCount]
	shard.Lock()
	shard.entries[k] = e
	shard.Unlock()
	c.size.Add(1)
}

// remove takes an entry out that held g.
func (c *cache) remove(e *entry, g *Grant) {
	if c.byAccessor[g.Accessor] == e {
		delete(c.byAccessor, g.Accessor)
	}
	if e.prev != nil {
		e.prev.next = e.next
	} else {
		e.client.entries = e.next
	}
	if e.next != nil {
		e.next.prev = e.prev
	}
	e.next, e.prev = nil, nil
	if e.client.entries == nil && c.byClient[g.ClientID] == e.client {
		delete(c.byClient, g.ClientID)
	}
	shard := &c.shards[e.key[0]%shardCount]
	shard.Lock()
	delete(shard.entries, e.key)
	shard.Unlock()
	c.size.Add(-1)
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

// liveSet holds the entries that have live requests, or had some until the
// last sweep: they are all that a sweep looks at.
type liveSet struct {
	mu      sync.Mutex
	entries map[*entry]struct{}
}

func (s *liveSet) add(e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entries == nil {
		s.entries = make(map[*entry]struct{})
	}
	s.entries[e] = struct{}{}
}

// each calls f for every entry with live requests, and forgets the others.
func (s *liveSet) each(f func(*entry)) {
	s.mu.Lock()
	entries := make([]*entry, 0, len(s.entries))
	for e := range s.entries {
		entries = append(entries, e)
	}
	s.mu.Unlock()
	for _, e := range entries {
		if s.forget(e) {
			continue
		}
		f(e)
	}
}

// forget drops e if nothing lives on it.
func (s *liveSet) forget(e *entry) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.live != nil {
		return false
	}
	e.tracked = false
	s.mu.Lock()
	delete(s.entries, e)
	s.mu.Unlock()
	return true
}
