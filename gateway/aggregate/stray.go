package aggregate

import (
	"time"

	"vault-plugin-secrets-mcp/gateway/mcp/protocol/rewrite"
)

// maxStrays bounds the lists that a client has a server go on with, though it
// does not wait for them any more: it could give up, and ask anew, without end.
const maxStrays = 4

// What becomes of an inquiry.
const (
	waited int32 = iota // for its end
	strayed
	arrived
)

// leave notes that nobody waits for the inquiry any more.
func (q *inquiry) leave() {
	if q.fate.CompareAndSwap(waited, strayed) {
		q.x.handler.servers.of(q.server.ID).straying(q.x.client(), 1)
	}
}

// come notes that the inquiry has ended.
func (q *inquiry) come() {
	if q.fate.Swap(arrived) == strayed {
		q.x.handler.servers.of(q.server.ID).straying(q.x.client(), -1)
	}
}

func (k *known) straying(client string, change int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.stray == nil {
		k.stray = make(map[string]int)
	}
	if k.stray[client] += change; k.stray[client] <= 0 {
		delete(k.stray, client)
	}
}

func (k *known) strays(client string) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.stray[client]
}

// complainEvery is how often it is logged that entries are left out of a list.
const complainEvery = time.Minute

// complains reports whether to log that entries of the list are left out: a
// server may make up others each time that it is asked.
func (k *known) complains(kind rewrite.Kind, now time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if last, ok := k.complained[kind]; ok && now.Sub(last) < complainEvery {
		return false
	}
	if k.complained == nil {
		k.complained = make(map[rewrite.Kind]time.Time)
	}
	k.complained[kind] = now
	return true
}
