package credentials

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

// lease is what was taken from Vault at one time for one principal and one server: the child
// tokens and the leases below them. The sets that are made of it share it. When the last of
// them gives it back, the tokens are revoked, and Vault ends the leases with them.
type lease struct {
	store  *Store
	parent vaultclient.Parent

	reader *vaultclient.Child // reads the credentials; nil if there are none
	own    *vaultclient.Child // {{vault.token}}; nil if no value has it
	ids    []string           // of the leases in Vault
	terms  []*term            // what has an end in Vault
	values values

	mu   sync.Mutex
	sets int
}

// values are the fields of each credential. They are secrets.
type values map[string]map[string]any

// children returns the tokens that there are.
func (l *lease) children() []*vaultclient.Child {
	return slices.DeleteFunc([]*vaultclient.Child{l.reader, l.own}, func(c *vaultclient.Child) bool { return c == nil })
}

// accessor is that of the token that reads the credentials, or else of the server's own.
func (l *lease) accessor() string {
	for _, c := range l.children() {
		return c.Accessor
	}
	return ""
}

// take counts a set that is made of the lease.
func (l *lease) take() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sets++
}

// giveBack undoes take. The last one revokes the tokens.
func (l *lease) giveBack() {
	l.mu.Lock()
	l.sets--
	last := l.sets == 0
	l.mu.Unlock()
	if last {
		l.store.revoker.add(l)
	}
}

// with returns a copy of the values in which one credential has other fields.
func (v values) with(name string, fields map[string]any) values {
	next := maps.Clone(v)
	next[name] = fields
	return next
}

// term is one thing that has an end in Vault: a child token, a lease, or a secret that says
// itself when it ends.
type term struct {
	what      string        // for the log
	asked     time.Duration // of each renewal; 0: it cannot be renewed
	sent      time.Time
	ends      time.Time // zero: never
	due       time.Time // of its renewal or replacement
	renew     func(ctx context.Context, increment time.Duration) (time.Duration, error)
	replacing bool // it cannot live longer
	failures  int
}

// begin counts the term's life from the request that was sent then.
func (t *term) begin(sent time.Time, life time.Duration) {
	t.sent, t.ends = sent, sent.Add(life)
	t.due = sent.Add(dueAfter(life))
}

// dueAfter is the part of a life after which it is renewed, or replaced: two thirds, or a
// little less, so that not all are due at once.
func dueAfter(life time.Duration) time.Duration {
	const parts = 3
	return jitter(life * (parts - 1) / parts)
}

// usableUntil is a little before the first of the terms ends, so that no request is sent with
// credentials that end on its way; zero if none ends.
func (l *lease) usableUntil() time.Time {
	const margin = 5 * time.Second
	var first time.Time
	for _, t := range l.terms {
		if until := t.ends.Add(-min(margin, t.ends.Sub(t.sent)/6)); !t.ends.IsZero() && (first.IsZero() || until.Before(first)) {
			first = until
		}
	}
	return first
}
