package aggregate

import (
	"context"
	"time"
)

// waits is how long an answer that many servers have a part in waits for them.
type waits struct {
	// usual is for the slowest of them.
	usual time.Duration
	// first is for the first of them, where a client would get nothing at all
	// otherwise: many clients ask once, and go by the answer. Others are then
	// waited for as long as they go on answering. No longer than usual: none of
	// this.
	first time.Duration
}

// waits returns what is configured.
func (h *Handler) waits() waits {
	w := waits{usual: h.budget, first: h.settings().Aggregate.FirstListWait}
	if w.usual == 0 {
		w.usual = h.settings().Aggregate.ListWait
	}
	return w
}

// wait is how long the gateway waits for a server where nobody else does.
func (h *Handler) wait() time.Duration { return h.waits().usual }

// await waits for that many servers. Each sends whether it has something to
// show; there tells that something is there already.
func (w waits) await(ctx context.Context, pending int, there bool, arrivals <-chan bool) {
	var end time.Time // zero: the usual wait
	if w.first > w.usual {
		end = time.Now().Add(w.first)
	}
	timer := time.NewTimer(w.usual)
	defer timer.Stop()
	for pending > 0 {
		select {
		case some := <-arrivals:
			pending--
			there = there || some
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

// triedFor is how long a server for which a client has waited in vain is not
// waited for any longer than others.
const triedFor = knownFor

// tried notes whether the client has waited for the server in vain.
func (k *known) tried(client string, inVain bool, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !inVain {
		delete(k.vain, client)
		return
	}
	if k.vain == nil {
		k.vain = make(map[string]time.Time)
	}
	k.vain[client] = now
}

// mayBeStarting reports whether the client has not waited for the server in vain.
func (k *known) mayBeStarting(client string, now time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	at, found := k.vain[client]
	return !found || now.Sub(at) >= triedFor
}
