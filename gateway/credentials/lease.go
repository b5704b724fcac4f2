package credentials

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"vault-plugin-secrets-mcp/backend/clock"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

// lease is the result of one round of requests to Vault for one principal and one server:
// the child tokens and the leases below them. The sets that are made from it share it. When
// the last of them gives it back, the tokens are revoked, and Vault ends the leases with
// them.
type lease struct {
	store  *Store
	parent vaultclient.Parent

	// For the holding's goroutine alone.
	terms    []*term             // tokens and leases that can be renewed, or have an end
	readings map[string]*reading // of credentials without a lease
	values   values

	ids []string // of the leases in Vault

	// ends is a little before the first of all that ends; nil: nothing does.
	ends atomic.Pointer[time.Time]

	mu           sync.Mutex
	reader       *vaultclient.Child // reads the credentials, with the client's alias; nil if there are none
	personReader *vaultclient.Child // reads those of the person, with the person's; nil if there are none
	own          *vaultclient.Child // {{vault.token}}; nil if no value has it
	sets         int
	abandoned    bool
}

// values are the fields of each credential. They are secrets.
type values map[string]map[string]any

func newLease(s *Store) *lease {
	return &lease{store: s, values: make(values), readings: make(map[string]*reading)}
}

// adopt makes the token one of the lease's. It fails, and has the token revoked, if the lease
// was abandoned meanwhile.
func (l *lease) adopt(place **vaultclient.Child, c *vaultclient.Child) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.abandoned {
		l.store.revoker.add(c)
		return false
	}
	*place = c
	return true
}

// abandon has all tokens of the lease revoked, also those that are still to come.
func (l *lease) abandon() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.abandoned {
		return
	}
	l.abandoned = true
	for _, c := range []*vaultclient.Child{l.own, l.personReader, l.reader} { // the server's own is outside: it comes first
		if c != nil {
			l.store.revoker.add(c)
		}
	}
}

// personAccessor is that of the token that reads the person's credentials; "" if there are none.
func (l *lease) personAccessor() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.personReader == nil {
		return ""
	}
	return l.personReader.Accessor
}

// accessor is that of the token that reads the client's credentials, or else of the server's
// own; "" if there is neither.
func (l *lease) accessor() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.reader != nil:
		return l.reader.Accessor
	case l.own != nil:
		return l.own.Accessor
	}
	return ""
}

// take counts a set that is made of the lease.
func (l *lease) take() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sets++
}

// giveBack undoes take.
func (l *lease) giveBack() {
	l.mu.Lock()
	l.sets--
	last := l.sets == 0
	l.mu.Unlock()
	if last {
		l.abandon()
	}
}

// with returns a copy of the values in which one credential has other fields.
func (v values) with(name string, fields map[string]any) values {
	next := maps.Clone(v)
	next[name] = fields
	return next
}

// term is something that has an end in Vault: a child token, or a lease.
type term struct {
	what      string        // for the log
	asked     time.Duration // of each renewal
	sent      time.Time
	ends      time.Time
	due       time.Time // of its renewal or replacement
	renew     func(ctx context.Context, increment time.Duration) (time.Duration, error)
	replacing bool // it cannot live longer
	failures  int
}

// reading is the state of a credential without a lease, which is read again.
type reading struct {
	due      time.Time
	sent     time.Time
	ends     time.Time // zero: not known
	failures int
}

const (
	// minLife is the shortest life of anything that the gateway leases. A lease with a
	// shorter life would be replaced all the time.
	minLife = 5 * time.Second

	// maxLife is the longest that the gateway reckons with.
	maxLife = 30 * 24 * time.Hour
)

// begin counts the term's life from the request that was sent then.
func (t *term) begin(sent time.Time, life time.Duration) {
	life = min(life, maxLife)
	t.sent, t.ends, t.due = sent, sent.Add(life), sent.Add(dueAfter(life))
}

// dueAfter is the part of a life after which it is renewed, or replaced: two thirds, or a
// little less, so that not all are due at once.
func dueAfter(life time.Duration) time.Duration { return jitter(life - life/3) }

// update sets the lease's end to that of the first of its parts that ends, less a margin, so
// that no request is sent with credentials that end on its way.
func (l *lease) update() {
	const margin = 5 * time.Second
	var first time.Time
	add := func(sent, ends time.Time) {
		if ends.IsZero() {
			return
		}
		if until := ends.Add(-min(margin, ends.Sub(sent)/6)); first.IsZero() || until.Before(first) {
			first = until
		}
	}
	for _, t := range l.terms {
		add(t.sent, t.ends)
	}
	for _, r := range l.readings {
		add(r.sent, r.ends)
	}
	if !first.IsZero() {
		l.ends.Store(&first)
	}
}

// hasEnded reports whether the credentials have come to their end in Vault.
func (l *lease) hasEnded(now time.Time) bool {
	ends := l.ends.Load()
	return ends != nil && clock.Reached(now, *ends) || l.parent.Refused()
}

// next returns when something of the lease is due.
func (l *lease) next() time.Time {
	var first time.Time
	add := func(at time.Time) {
		if !at.IsZero() && (first.IsZero() || at.Before(first)) {
			first = at
		}
	}
	if ends := l.ends.Load(); ends != nil {
		add(*ends)
	}
	for _, t := range l.terms {
		add(t.due)
	}
	for _, r := range l.readings {
		add(r.due)
	}
	return first
}

// dueReadings are the names of the credentials that are to be read again, in order.
func (l *lease) dueReadings(now time.Time) []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(l.readings)) {
		if clock.Reached(now, l.readings[name].due) {
			names = append(names, name)
		}
	}
	return names
}
