package vaultclient

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

const (
	// LookupTimeout bounds one lookup, with a login if it needs one, unless Vault
	// hangs: see [Outage].
	LookupTimeout = time.Second

	// LookupsInFlight bounds the lookups of one gateway, so that many gateways with
	// empty caches do not overload Vault.
	LookupsInFlight = 16

	// probeTimeout bounds a lookup while Vault hangs. Vault then has time to start a
	// plugin on a busy machine, once for every lookup that was given up before.
	probeTimeout = 15 * time.Second

	// outageInterval is the time between two log lines about one outage.
	outageInterval = 10 * time.Second
)

// ErrHangs: Vault hangs, and another lookup has its turn.
var ErrHangs = errors.New("Vault accepts requests and does not answer; the gateway tries one lookup at a time") //nolint:staticcheck // a name starts it

// Outage knows from the results of lookups whether Vault answers. It turns many failures
// into a few log lines: at the start of an outage, now and then, and at its end.
//
// While Vault hangs (it accepts requests and does not answer), Outage admits one lookup
// at a time, with a longer timeout. Vault restarts a crashed plugin on the next request,
// and allows the start only that request's time. All other requests wait for it, and each
// of them starts the plugin from scratch if the one before gave up. So many lookups with
// a timeout of one second would keep a slow plugin from ever starting.
type Outage struct {
	log hclog.Logger

	mu       sync.Mutex
	failures int
	logged   time.Time
	answers  chan struct{} // closed once Vault answers; nil unless it hangs
	probing  bool          // a lookup is under way although Vault hangs
}

// NewOutage returns an Outage without any results yet.
func NewOutage(log hclog.Logger) *Outage { return &Outage{log: log} }

// Admit waits until a lookup may begin, and returns a context that bounds it. Call done
// at its end. The error is ErrHangs.
func (o *Outage) Admit(ctx context.Context) (_ context.Context, done func(), _ error) {
	timer := time.NewTimer(LookupTimeout)
	defer timer.Stop()
	for {
		answers, probe := o.turn()
		switch {
		case probe:
			ctx, done = o.probe(ctx, answers)
			return ctx, done, nil
		case answers == nil:
			ctx, done = context.WithTimeout(ctx, LookupTimeout)
			return ctx, done, nil
		}
		select {
		case <-answers:
		case <-timer.C:
			return nil, nil, ErrHangs
		}
	}
}

// turn reports whether the caller may probe Vault. While Vault hangs, it also returns a
// channel that is closed once Vault answers.
func (o *Outage) turn() (answers <-chan struct{}, probe bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.answers == nil {
		return nil, false
	}
	probe = !o.probing
	o.probing = true
	return o.answers, probe
}

// probe bounds a lookup while Vault hangs. Once Vault has answered another request, the
// lookup has only the usual time left.
func (o *Outage) probe(ctx context.Context, answers <-chan struct{}) (context.Context, func()) {
	bounded, cancel := context.WithTimeout(ctx, probeTimeout)
	go func() {
		select {
		case <-answers:
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

// Hangs reports whether Vault accepts requests and does not answer.
func (o *Outage) Hangs() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.answers != nil
}

// Observe learns from the error of a request, or nil, whether Vault hangs.
func (o *Outage) Observe(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	hung := errors.Is(err, context.DeadlineExceeded)
	switch {
	case hung && o.answers == nil:
		o.answers = make(chan struct{})
	case !hung && o.answers != nil:
		close(o.answers)
		o.answers = nil
	}
}

// Log logs the result of a lookup, but not every one.
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
