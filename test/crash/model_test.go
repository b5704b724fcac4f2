package crash

import (
	"fmt"
	"sync"
	"time"
)

// state is the worker's knowledge about a token.
type state int

const (
	// active: it was answered as issued, and nobody has tried to end it.
	active state = iota
	// ended: it was answered as ended, or once was seen not to be active.
	ended
	// unknown: the answer of a request that ends it, or brings it, was lost.
	unknown
)

// held is a token that the test knows.
type held struct {
	secret   string
	accessor string // empty of one whose answer was lost
	lease    string // of a leased one
	custom   bool
	state    state
}

// client is one client of the engine, as far as its worker knows. No other worker
// touches it, so the order of its changes is known.
type client struct {
	name   string
	exists state // active: it does; ended: it does not
	id     string
	tokens []*held
}

// those returns the client's tokens of which ok is true.
func (c *client) those(ok func(*held) bool) []*held {
	var some []*held
	for _, t := range c.tokens {
		if ok(t) {
			some = append(some, t)
		}
	}
	return some
}

func isActive(t *held) bool { return t.state == active }
func isOwn(t *held) bool    { return t.lease == "" }
func isLeased(t *held) bool { return t.lease != "" }

// become records the result of a request to end tokens.
func become(tokens []*held, answered bool) {
	for _, t := range tokens {
		switch {
		case answered:
			t.state = ended
		case t.state == active:
			t.state = unknown
		}
	}
}

// ledger has the ends that the change feed must report: all that were answered as
// ended, by accessor or by client id.
type ledger struct {
	mu     sync.Mutex
	ended  map[string]time.Time
	told   map[string]bool
	resets int
}

func newLedger() *ledger {
	return &ledger{ended: map[string]time.Time{}, told: map[string]bool{}}
}

// mustTell notes that everybody must hear of the end of an accessor or a client.
func (l *ledger) mustTell(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended[id] = time.Now()
}

func (l *ledger) tell(ids ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range ids {
		l.told[id] = true
	}
}

func (l *ledger) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.resets++
}

// untold returns the ends that the feed has not reported yet.
func (l *ledger) untold() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, at := range l.ended {
		if !l.told[id] {
			return fmt.Errorf("the change feed has not told of the end of %s at %s", id, at.Format(time.StampMilli))
		}
	}
	return nil
}
