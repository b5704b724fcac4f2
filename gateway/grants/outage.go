package grants

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

const (
	// outageInterval is the time between two log lines about one outage.
	outageInterval = 10 * time.Second

	// probeTimeout bounds a lookup while Vault hangs: time enough for Vault to start
	// a plugin on a busy machine, once for every lookup that was given up before.
	probeTimeout = 15 * time.Second
)

// outage is what lookups have found out about Vault. It turns a stream of failures
// into a few log lines: one when it starts, one now and then, one when it ends.
//
// While Vault takes requests and answers none, it lets through one lookup at a time,
// and gives that one longer. For a plugin that has died is started by the next
// request, within the time that this one is given; behind it all others wait, and
// each of them begins anew where the one before gave up. So lookups in numbers, each
// given up after a second, would keep a plugin that takes longer to start from ever
// coming up.
type outage struct {
	log hclog.Logger

	mu       sync.Mutex
	failures int
	logged   time.Time
	over     chan struct{} // closed once Vault answers; nil while it does not hang
	probing  bool          // a lookup is under way although Vault hangs
}

// admit returns once a lookup may be made, with the context that bounds it. The
// lookup is to end with done.
func (o *outage) admit(ctx context.Context) (_ context.Context, done func(), _ error) {
	timer := time.NewTimer(lookupTimeout)
	defer timer.Stop()
	for {
		over, probe := o.turn()
		switch {
		case probe:
			ctx, done = o.probe(ctx, over)
			return ctx, done, nil
		case over == nil:
			ctx, done = context.WithTimeout(ctx, lookupTimeout)
			return ctx, done, nil
		}
		select {
		case <-over:
		case <-timer.C:
			return nil, nil, fmt.Errorf("%w: Vault takes requests and answers none; one lookup at a time tries", ErrUnavailable)
		}
	}
}

// turn returns what is closed once Vault answers, if it hangs, and whether it is the
// caller's turn to probe it.
func (o *outage) turn() (over <-chan struct{}, probe bool) {
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
func (o *outage) probe(ctx context.Context, over <-chan struct{}) (context.Context, func()) {
	bounded, cancel := context.WithTimeout(ctx, probeTimeout)
	go func() {
		select {
		case <-over:
		case <-bounded.Done():
			return
		}
		timer := time.NewTimer(lookupTimeout)
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

// hangs reports whether Vault takes requests and answers none.
func (o *outage) hangs() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.over != nil
}

// saw takes the error of a request to Vault, nil for none, as a sign of whether it
// hangs.
func (o *outage) saw(err error) {
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

// note takes the result of one lookup.
func (o *outage) note(err error) {
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
