package access

import (
	"net/netip"
	"sync"
	"time"
)

// limitedTick is the time between two lines about a client that keeps exceeding its rate.
const limitedTick = 10 * time.Second

// limitedCounts counts the requests that were refused for the rate limits of their clients.
// The first one has a line of its own; after that there is one line for each client and
// limitedTick, for as long as there is something to count. So a client cannot fill the disk
// with requests that it may not send.
type limitedCounts struct {
	write func(*line)

	mu      sync.Mutex
	clients map[string]*limitedCount // by client id
	timer   *time.Timer
}

type limitedCount struct {
	client string
	source netip.Addr // of the first one that is counted
	detail string     // likewise
	status int
	count  int64
	ids    []string
}

func newLimitedCounts(write func(*line)) *limitedCounts {
	return &limitedCounts{write: write, clients: make(map[string]*limitedCount)}
}

// add counts the refusal, and returns false if it is the first, which has a line of its own.
func (a *limitedCounts) add(r *Request, f *Refusal) (counted bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := a.clients[r.Grant.ClientID]
	if c == nil {
		a.clients[r.Grant.ClientID] = &limitedCount{client: r.Grant.Client, status: f.Status}
		if a.timer == nil {
			a.timer = time.AfterFunc(limitedTick, a.tick)
		}
		return false
	}
	if c.count == 0 {
		c.source, c.detail = r.Source, f.Detail
	}
	c.count++
	if len(c.ids) < idsNamed {
		c.ids = append(c.ids, r.ID)
	}
	return true
}

// tick writes the counts, and forgets the clients that have none.
func (a *limitedCounts) tick() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.timer = nil
	now, l := time.Now(), new(line)
	for id, c := range a.clients {
		if c.count == 0 {
			delete(a.clients, id)
			continue
		}
		l.start(now, "refusals")
		l.source(c.source)
		l.field("client", c.client)
		l.field("client_id", id)
		l.counted(ReasonRateLimited, c.detail, c.status, c.count, c.ids)
		a.write(l)
		c.count, c.ids = 0, nil
	}
	if len(a.clients) > 0 {
		a.timer = time.AfterFunc(limitedTick, a.tick)
	}
}

// flush writes the counts, and ends the counting.
func (a *limitedCounts) flush() {
	a.tick()
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.clients)
	if a.timer != nil {
		a.timer.Stop()
		a.timer = nil
	}
}
