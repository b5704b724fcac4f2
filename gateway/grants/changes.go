package grants

import (
	"time"

	"vault-plugin-secrets-mcp/backend/clock"
	"vault-plugin-secrets-mcp/backend/policy"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

// Types and operations of changes.
const (
	typeToken  = "token"
	typeClient = "client"
	typeRole   = "role"
	typePolicy = "policy"
	typeServer = "server"
	typeConfig = "config"
	typeMount  = "mount"

	nameKeys = "keys" // of a change of config that concerns the session keys alone

	operationCreate = "create"
	operationUpdate = "update"
	operationRevoke = "revoke"
	operationDelete = "delete"
)

// scope is the kind of grants that a change concerns.
type scope int

const (
	scopeEverything scope = iota
	scopeToken
	scopeClient
	scopeRole
	scopeServers
	scopeKeys
)

// scopeOf a change. One that is not understood, since the engine may be newer
// than the gateway, touches everything.
func scopeOf(c *vaultclient.Change) scope {
	switch {
	case c.Type == typeToken && c.Accessor != "":
		return scopeToken
	case c.Type == typeClient && c.ClientID != "":
		return scopeClient
	case c.Type == typeRole && c.Name != "":
		return scopeRole
	case c.Type == typeServer:
		return scopeServers
	case c.Type == typeConfig && c.Name == nameKeys:
		return scopeKeys
	}
	return scopeEverything
}

// ends reports whether the change ends the grants in its scope, rather than altering
// them.
func ends(c *vaultclient.Change) bool {
	if c.Type == typeRole || c.Type == typePolicy || c.Type == typeConfig {
		return false
	}
	return c.Operation == operationRevoke || c.Operation == operationDelete
}

// admits reports whether a token that was not active may be so after the
// change: a custom token was created, or a client enabled. It is false only for
// a change that certainly takes access away.
func admits(c *vaultclient.Change) bool {
	switch c.Type {
	case typeToken, typeClient:
		return !ends(c)
	case typeRole, typeServer, typePolicy:
		return false
	}
	return true
}

// feedPosition is how far the feed has been read. It is immutable and read without a
// lock: the warm path compares a grant with it and is done.
type feedPosition struct {
	// epoch and applied say which changes have been applied: all up to and
	// including applied. An empty epoch is a feed that never answered.
	epoch   string
	applied uint64

	// floor is the least index that a grant of this epoch must have: changes
	// that touch every grant, and those that the feed could not tell, raise it.
	floor uint64

	// roles are the least indexes that grants with these roles must have. It is never
	// changed inside.
	roles map[string]uint64

	// servers is the least index that a registry of this epoch must have.
	servers uint64

	// sent is when the request was sent whose answer came last.
	sent time.Time

	// synced tells that the last request was answered. Then a grant of another
	// epoch is one of another history, and is not used.
	synced bool

	// maxAge is how long a confirmation holds.
	maxAge time.Duration
}

// tracks reports whether every change up to now that concerns g would have
// been noticed.
func (v *feedPosition) tracks(g *Grant) bool {
	return g.epoch == v.epoch && g.index >= v.floor && (g.role == "" || g.index >= v.roles[g.role])
}

// lastConfirmed returns the sending of the request that last confirmed g, and
// whether g may be used at all.
func (v *feedPosition) lastConfirmed(g *Grant) (time.Time, bool) {
	if g.stale.Load() {
		return g.sent, false
	}
	if v.tracks(g) {
		return later(g.sent, v.sent), true
	}
	return g.sent, g.epoch != v.epoch && !v.synced
}

// fresh reports whether g may be used without asking Vault.
func (v *feedPosition) fresh(g *Grant, now time.Time) bool {
	confirmed, ok := v.lastConfirmed(g)
	return ok && clock.Age(now, confirmed) < v.maxAge && !g.Expired(now)
}

// later returns the later one of two times.
func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// apply takes in one answer of the feed to a request that was sent at sent.
func (b *Broker) apply(answer *vaultclient.Changes, sent time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()

	v := *b.position.Load()
	todo := effects{}
	if answer.Reset || answer.Epoch != v.epoch || answer.Index < v.applied {
		if v.epoch != "" {
			b.log.Warn("the change feed has a gap: grants are confirmed one by one as they are used",
				"epoch", answer.Epoch, "index", answer.Index)
		}
		b.recent.reset(answer.Index)
		b.negatives.Purge()
		v.epoch, v.floor, v.roles, v.servers = answer.Epoch, answer.Index, nil, answer.Index
		clear(b.changedRoles)
		todo = effects{servers: true, keys: true, sweep: true}
		b.notify(End{Unheard: true})
	} else {
		for i := range answer.Changes {
			if c := &answer.Changes[i]; c.Index > v.applied {
				b.applyOne(c, &v, &todo)
			}
		}
	}
	v.applied, v.sent, v.synced, v.maxAge = answer.Index, sent, true, b.options.Grants.MaxStale
	b.position.Store(&v)
	if todo.servers {
		wake(b.wakeRegistry)
	}
	if todo.keys {
		wake(b.wakeKeys)
		b.opener.keysChanged()
	}
	if todo.sweep {
		b.live.each(func(e *entry) { b.revalidate(e, e.grant.Load()) })
	}
}

// effects is the work that follows the changes of an answer.
type effects struct {
	servers bool // fetch the registry
	keys    bool // fetch the session keys
	sweep   bool // look at everything that has live requests
}

// applyOne applies one change. Grants that knew of it already, since their
// lookup was answered later, are left alone.
func (b *Broker) applyOne(c *vaultclient.Change, v *feedPosition, todo *effects) {
	b.recent.remember(c)
	if admits(c) {
		b.negatives.Purge()
	}
	b.applyToOutlived(c, v)
	switch scopeOf(c) {
	case scopeToken:
		if e := b.cache.byAccessor[c.Accessor]; e != nil {
			b.applyToEntry(e, c, v)
		} else if ends(c) {
			b.loseUnheard(c)
			b.notify(End{Unheard: true, ClientID: c.ClientID, SignIn: c.SignIn, OwnTokens: c.SignIn == ""})
		}
	case scopeClient:
		b.cache.ofClient(c.ClientID, func(e *entry) { b.applyToEntry(e, c, v) })
		b.notify(End{Unheard: true, ClientID: c.ClientID})
	case scopeRole:
		b.applyToRole(c, v)
	case scopeServers:
		v.servers = c.Index
		todo.servers = true
	case scopeKeys:
		todo.keys = true
	case scopeEverything:
		if ends(c) {
			b.endAll(c, v)
			b.notify(End{Unheard: true})
		}
		v.floor = c.Index
		todo.sweep = true
		todo.servers = todo.servers || c.Type == typeMount
		todo.keys = todo.keys || c.Type == typeMount || c.Type == typeConfig
	}
}

// applyToEntry applies a change to one entry.
func (b *Broker) applyToEntry(e *entry, c *vaultclient.Change, v *feedPosition) {
	g := e.grant.Load()
	if g.epoch == v.epoch && g.index >= c.Index {
		return
	}
	if ends(c) {
		b.revoke(e)
		return
	}
	g.stale.Store(true)
	b.revalidate(e, g)
}

// endAll applies a change that ends every token of the mount.
func (b *Broker) endAll(c *vaultclient.Change, v *feedPosition) {
	for i := range shardCount {
		for _, e := range b.cache.all(i) {
			if g := e.grant.Load(); g.epoch != v.epoch || g.index < c.Index {
				b.revoke(e)
			}
		}
	}
}

// revoke ends an entry that the feed reports as revoked, and remembers the negative
// answer: clients ask again at once, and thousands of them may have lost their tokens at
// the same time. A later change that may admit the token again clears it.
func (b *Broker) revoke(e *entry) {
	b.end(e, ErrInactive)
	b.negatives.Add(e.key, time.Now())
}

// recentSize is the number of changes that the gateway remembers, to compare them with
// lookups that were under way. A lookup takes a second at most. An answer that is older
// than the oldest remembered change counts as overtaken.
const recentSize = 4096

// recentChanges has the changes that were applied lately, to find answers that are older.
type recentChanges struct {
	floor uint64 // changes up to here are forgotten

	everything uint64 // last change that touches every grant
	negatives  uint64 // last change after which an unknown token may be a known one
	accessors  map[string]uint64
	clients    map[string]uint64
	roles      map[string]uint64

	ring []recentChange // oldest first, from next on, once it is full
	next int
}

type recentChange struct {
	index    uint64
	accessor string
	client   string
	role     string
}

// reset forgets everything. The changes up to index are unknown from then on.
func (h *recentChanges) reset(index uint64) {
	*h = recentChanges{
		floor:     index,
		accessors: make(map[string]uint64),
		clients:   make(map[string]uint64),
		roles:     make(map[string]uint64),
	}
}

// remember stores the change with its scope.
func (h *recentChanges) remember(c *vaultclient.Change) {
	entry := recentChange{index: c.Index}
	switch scopeOf(c) {
	case scopeToken:
		entry.accessor = c.Accessor
		h.accessors[c.Accessor] = c.Index
	case scopeClient:
		entry.client = c.ClientID
		h.clients[c.ClientID] = c.Index
	case scopeRole:
		entry.role = c.Name
		h.roles[c.Name] = c.Index
	case scopeEverything:
		h.everything = c.Index
	case scopeServers, scopeKeys:
		return
	}
	if admits(c) {
		h.negatives = c.Index
	}
	if len(h.ring) < recentSize {
		h.ring = append(h.ring, entry)
		return
	}
	h.forget(h.ring[h.next])
	h.ring[h.next] = entry
	h.next = (h.next + 1) % recentSize
}

func (h *recentChanges) forget(r recentChange) {
	h.floor = max(h.floor, r.index)
	if h.accessors[r.accessor] == r.index {
		delete(h.accessors, r.accessor)
	}
	if h.clients[r.client] == r.index {
		delete(h.clients, r.client)
	}
	if h.roles[r.role] == r.index {
		delete(h.roles, r.role)
	}
}

// overtake reports whether a change that was applied since the answer's index
// may concern the answer.
func (h *recentChanges) overtake(l *vaultclient.Lookup) bool {
	if l.Index < h.floor || l.Index < h.everything {
		return true
	}
	if !l.Active {
		return l.Index < h.negatives
	}
	return l.Index < h.accessors[l.Accessor] || l.Index < h.clients[l.ClientID] || l.Index < h.roles[policy.RoleOf(l.Rights)]
}
