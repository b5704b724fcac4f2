package grants

import "time"

// view is what the feed has told so far. It is immutable and read without a
// lock: the warm path compares a grant with it and is done.
type view struct {
	// epoch and applied say which changes have been applied: all up to and
	// including applied. An empty epoch is a feed that never answered.
	epoch   string
	applied uint64

	// floor is the least index that a grant of this epoch must have: changes
	// that touch every grant, and those that the feed could not tell, raise it.
	floor uint64

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

// covers reports whether every change up to now that concerns g would have
// been noticed.
func (v *view) covers(g *Grant) bool {
	return g.epoch == v.epoch && g.index >= v.floor
}

// confirmed returns the sending of the request that last confirmed g, and
// whether g may be used at all.
func (v *view) confirmed(g *Grant) (time.Time, bool) {
	if g.stale.Load() {
		return g.sent, false
	}
	if v.covers(g) {
		return later(g.sent, v.sent), true
	}
	return g.sent, g.epoch != v.epoch && !v.synced
}

// usable reports whether g may be used without asking Vault.
func (v *view) usable(g *Grant, now time.Time) bool {
	confirmed, ok := v.confirmed(g)
	return ok && age(now, confirmed) < v.maxAge && !g.expired(now)
}
