package vaultclient

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

const (
	// LookupTimeout bounds one lookup, a login that it may need included, unless
	// Vault hangs: see [Outage].
	LookupTimeout = time.Second

	// LookupsInFlight bounds the lookups of one gateway, so that a fleet whose caches
	// are all cold does not overrun Vault.
	LookupsInFlight = 16

	// probeTimeout bounds a lookup while Vault hangs: time enough for Vault to start
	// a plugin on a busy machine, once for every lookup that was given up before.
	probeTimeout = 15 * time.Second

	// outageInterval is the time between two log lines about one outage.
	outageInterval = 10 * time.Second
)

// ErrHangs: Vault hangs, and another lookup has its turn.
var ErrHangs = errors.New("Vault takes requests and answers none; one lookup at a time tries") //nolint:staticcheck // a name starts it

// Outage is what lookups have found out about Vault. It turns a stream of failures
// into a few log lines: one when it starts, one now and then, one when it ends.
//
// While Vault takes requests and answers none, it admits one lookup at a time, and
// gives that one longer. Vault restarts a plugin that has died on the next request,
// and gives the plugin only that request's time. All other requests wait behind it,
// and each of them starts the plugin anew where the one before gave up. Many lookups,
// each given up after a second, would so keep a plugin that is slow to start from
// ever coming up.
type Outage struct {
	log hclog.Logger

	mu       sync.Mutex
	failures int
	logged   time.Time
	over     chan struct{} // closed once Vault answers; nil while it does not hang
	probing  bool          // a lookup is under way although Vault hangs
}

// NewOutage returns one that has seen nothing yet.
func NewOutage(log hclog.Logger) *Outage { return &Outage{log: log} }

// Admit returns once a lookup may be made, with the context that bounds it. The lookup
// is to end with done. The error is ErrHangs.
func (o *Outage) Admit(ctx context.Context) (_ context.Context, done func(), _ error) {
	timer := time.NewTimer(LookupTimeout)
	defer timer.Stop()
	for {
		over, probe := o.turn()
		switch {
		case probe:
			ctx, done = o.probe(ctx, over)
			return ctx, done, nil
		case over == nil:
			ctx, done = context.WithTimeout(ctx, LookupTimeout)
			return ctx, done, nil
		}
		select {
		case <-over:
		case <-timer.C:
			return nil, nil, ErrHangs
		}
	}
}

// turn returns whether it is the caller's turn to probe Vault, and, while Vault hangs, a
// channel that is closed once it answers.
func (o *Outage) turn() (over <-chan struct{}, probe bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.over == nil {
		return nil, false
	}
	probe = !o.probing
	o.probing = true
	return o.over, probe
}

// probe bounds the lookup that tries. Once Vault has answered something else, it has
// no longer than any other.
func (o *Outage) probe(ctx context.Context, over <-chan struct{}) (context.Context, func()) {
	bounded, cancel := context.WithTimeout(ctx, probeTimeout)
	go func() {
		select {
		case <-over:
		case <-bounded.Done():
			return
		}
		timer := time.NewTimer(LookupTimeout)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel()
		case <-bounded.Done():
		}
	}()
	return bounded, func() {
		cancel()
		o.mu.Lock()
		defer o.mu.Unlock()
		o.probing = false
	}
}

// Hangs reports whether Vault takes requests and answers none.
func (o *Outage) Hangs() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.over != nil
}

// Observe takes the error of a request to Vault, nil for none, as a sign of whether it
// hangs.
func (o *Outage) Observe(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	hung := errors.Is(err, context.DeadlineExceeded)
	switch {
	case hung && o.over == nil:
		o.over = make(chan struct{})
	case !hung && o.over != nil:
		close(o.over)
		o.over = nil
	}
}

// Log takes the result of one lookup, for the log.
func (o *Outage) Log(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	if err == nil {
		if o.failures > 0 {
			o.log.Info("Vault answers lookups again", "failed", o.failures)
		}
		o.failures = 0
		return
	}
	o.failures++
	if o.failures == 1 || now.Sub(o.logged) >= outageInterval {
		o.logged = now
		o.log.Error("cannot ask Vault about a token", "failed", o.failures, "error", err)
	}
}
