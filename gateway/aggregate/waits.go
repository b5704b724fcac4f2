package aggregate

import (
	"context"
	"time"
)

// waits is how long an answer that many servers contribute to waits for them.
type waits struct {
	// usual is for the slowest server.
	usual time.Duration
	// first is for the first server, if the client would get nothing otherwise: many clients
	// ask only once. After the first answer, others are awaited as long as they keep coming.
	// If first is not longer than usual, there is no such wait.
	first time.Duration
}

// waits returns the configured waits.
func (h *Handler) waits() waits {
	return waits{usual: h.usualWait(), first: h.settings().Aggregate.FirstListWait}
}

// usualWait is how long the gateway waits for a server.
func (h *Handler) usualWait() time.Duration {
	if h.listWait != 0 {
		return h.listWait
	}
	return h.settings().Aggregate.ListWait
}

// wait waits for that many servers. Each sends whether it has something to show; there
// tells that something is there already.
func (w waits) wait(ctx context.Context, servers int, there bool, arrivals <-chan bool) {
	var end time.Time // of the wait for the first server; zero without one
	if w.first > w.usual {
		end = time.Now().Add(w.first)
	}
	timer := time.NewTimer(w.usual)
	defer timer.Stop()
	for servers > 0 {
		select {
		case shows := <-arrivals:
			servers--
			there = there || shows
			if there && !end.IsZero() {
				timer.Reset(min(w.usual, time.Until(end)))
			}
		case <-timer.C:
			if there || !time.Now().Before(end) {
				return
			}
			timer.Reset(time.Until(end))
		case <-ctx.Done():
			return
		}
	}
}
