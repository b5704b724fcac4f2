package aggregate

import "sync"

// maxUpstreams bounds the streams of servers that one client has open: one of
// its own may stand for one of each server.
const maxUpstreams = 4096

// upstreams counts them, by the client's id.
type upstreams struct {
	mu   sync.Mutex
	open map[string]int
}

func (u *upstreams) take(client string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.open == nil {
		u.open = make(map[string]int)
	}
	if u.open[client] >= maxUpstreams {
		return false
	}
	u.open[client]++
	return true
}

func (u *upstreams) release(client string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.open[client]--; u.open[client] == 0 {
		delete(u.open, client)
	}
}
