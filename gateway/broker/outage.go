package broker

import (
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// outageInterval is the time between two log lines about one outage.
const outageInterval = 10 * time.Second

// outage turns a stream of failures into a few log lines: one when it starts,
// one now and then, one when it ends.
type outage struct {
	log hclog.Logger

	mu       sync.Mutex
	failures int
	logged   time.Time
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
