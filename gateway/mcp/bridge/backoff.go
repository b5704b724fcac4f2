package bridge

import (
	"time"

	"vault-plugin-secrets-mcp/gateway/grants"
)

const (
	backoffMin = time.Second
	backoffMax = time.Minute

	// settled is how long a server must have run for its end not to count as a
	// failure to start.
	settled = time.Minute

	// maxBackoffs bounds the principals whose failures are remembered.
	maxBackoffs = 1024
)

// backoff counts the servers that ended too soon, by principal.
type backoff map[grants.Principal]failures

type failures struct {
	n     int
	until time.Time
}

// wait is the time until the principal's server may be started.
func (b backoff) wait(principal grants.Principal, now time.Time) time.Duration {
	return max(0, b[principal].until.Sub(now))
}

// failed counts a server that ended by itself after it ran for so long.
func (b backoff) failed(principal grants.Principal, ran time.Duration, now time.Time) {
	f := b[principal]
	if ran >= settled {
		f.n = 0
	}
	f.n++
	f.until = now.Add(min(backoffMin<<min(f.n-1, 10), backoffMax))
	if len(b) >= maxBackoffs {
		for other, o := range b {
			if now.After(o.until) {
				delete(b, other)
			}
		}
	}
	b[principal] = f
}
