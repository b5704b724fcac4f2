package access

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"vault-plugin-secrets-mcp/backend/policy"
	"vault-plugin-secrets-mcp/gateway/grants"
)

const (
	// rateTick is how often limiters are looked through for those that may be forgotten.
	rateTick = 10 * time.Second

	// longestWait bounds the Retry-After of a client whose rate is a request in a week.
	longestWait = 24 * time.Hour
)

// ClientRates bounds the requests of each principal by the rate_limit and rate_burst of its
// client, at this gateway. All tokens of a principal share one limit. Two principals share
// nothing: a request takes no lock of another one's. The zero value is ready for use.
type ClientRates struct {
	limits   sync.Map // grants.Principal -> *clientRate
	sweeping atomic.Bool
	refused  atomic.Int64
}

// clientRate is the limit of one principal.
type clientRate struct {
	mu      sync.Mutex
	limiter *rate.Limiter
	gone    bool // it is forgotten, and another one takes its place
}

// Refused returns how many requests were refused.
func (r *ClientRates) Refused() int64 { return r.refused.Load() }

// take takes one request of the principal's. If there is none left, it returns the time until
// there is one. Another limit than before counts at once, for the requests that are left
// too: it brings no new burst.
func (r *ClientRates) take(principal grants.Principal, limit policy.RateLimit) (wait time.Duration) {
	for {
		c := r.of(principal, limit)
		if wait, ok := c.take(time.Now(), limit); ok {
			if wait > 0 {
				r.refused.Add(1)
			}
			return wait
		}
		r.limits.CompareAndDelete(principal, c)
	}
}

func (r *ClientRates) of(principal grants.Principal, limit policy.RateLimit) *clientRate {
	if c, ok := r.limits.Load(principal); ok {
		return c.(*clientRate)
	}
	c, found := r.limits.LoadOrStore(principal, &clientRate{limiter: rate.NewLimiter(rate.Limit(limit.Rate), limit.Burst)})
	if !found {
		r.sweepLater()
	}
	return c.(*clientRate)
}

func (c *clientRate) take(now time.Time, limit policy.RateLimit) (wait time.Duration, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		return 0, false
	}
	if c.limiter.Limit() != rate.Limit(limit.Rate) {
		c.limiter.SetLimitAt(now, rate.Limit(limit.Rate))
	}
	if c.limiter.Burst() != limit.Burst {
		c.limiter.SetBurstAt(now, limit.Burst)
	}
	if c.limiter.AllowN(now, 1) {
		return 0, true
	}
	missing := (1 - c.limiter.TokensAt(now)) / limit.Rate
	return max(time.Duration(min(missing, longestWait.Seconds())*float64(time.Second)), 1), true
}

// forget reports whether the limiter is as good as a new one, and ends it if so.
func (c *clientRate) forget(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone = c.limiter.TokensAt(now) >= float64(c.limiter.Burst())
	return c.gone
}

func (r *ClientRates) sweepLater() {
	if r.sweeping.CompareAndSwap(false, true) {
		time.AfterFunc(rateTick, r.sweep)
	}
}

// sweep forgets the limiters of those that have used nothing for a while.
func (r *ClientRates) sweep() {
	r.sweeping.Store(false)
	now, left := time.Now(), false
	r.limits.Range(func(principal, c any) bool {
		if c.(*clientRate).forget(now) {
			r.limits.CompareAndDelete(principal, c)
		} else {
			left = true
		}
		return true
	})
	if left {
		r.sweepLater()
	}
}

// checkRate takes one request of the client's rate, once for each request.
func (g *Gate) checkRate(req *Request) *Refusal {
	limit := req.Grant.RateLimit()
	if limit.Rate <= 0 || req.rated {
		return nil
	}
	req.rated = true
	wait := g.options.Rates.take(req.Grant.Principal(), limit)
	if wait == 0 {
		return nil
	}
	return &Refusal{
		Status:     http.StatusTooManyRequests,
		Reason:     ReasonRateLimited,
		Detail:     fmt.Sprintf("more than %v requests a second, beyond a burst of %d", limit.Rate, limit.Burst),
		Message:    "This client has sent more requests than its rate limit allows.",
		RetryAfter: wait,
	}
}
