// Package backoff spaces attempts that fail, and spreads those of many gateways.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff is the time between attempts: Min after the first failure, twice as much
// after each one that follows, and never more than Max.
type Backoff struct{ Min, Max time.Duration }

// After returns how long to wait after so many failures in a row, the last one
// included.
func (b Backoff) After(failures int) time.Duration {
	return Jitter(min(b.Min<<min(max(failures-1, 0), 10), b.Max))
}

// Jitter spreads d over its last fifth.
func Jitter(d time.Duration) time.Duration {
	return d - time.Duration(rand.Int64N(int64(max(d, 0)/5)+1)) //nolint:gosec // spreading load needs no secrecy
}

// Sleep waits for d, or returns the error of ctx.
func Sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
