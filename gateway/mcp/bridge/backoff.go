package bridge

import "time"

const (
	backoffMin = time.Second
	backoffMax = time.Minute

	// settled is how long a server must have run for its end not to count as a
	// failure to start.
	settled = time.Minute

	// maxBackoffs bounds the clients whose failures are remembered.
	maxBackoffs = 1024
)

// backoff counts the servers that ended too soon, by client.
type backoff map[string]failures

type failures struct {
	n     int
	until time.Time
}

// wait is the time until the client's server may be started.
func (b backoff) wait(client string, now time.Time) time.Duration {
	return max(0, b[client].until.Sub(now))
}

// failed counts a server that ended by itself after it ran for so long.
func (b backoff) failed(client string, ran time.Duration, now time.Time) {
	f := b[client]
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
	b[client] = f
}
