package access

import (
	"net/netip"
	"sync"
	"time"
)

const (
	// sourcesCounted bounds the sources with their own count within one second. The
	// others share one.
	sourcesCounted = 256

	// idsNamed bounds the request ids of a line.
	idsNamed = 5
)

// refusalCounts counts refusals of requests without a known token, and writes one
// line for each source, reason and second. So clients without a token cannot fill the
// disk.
type refusalCounts struct {
	write func(*line)

	mu     sync.Mutex
	counts map[refusalKey]*refusalCount
	seen   map[netip.Prefix]struct{}
	timer  *time.Timer
}

type refusalKey struct {
	source netip.Prefix // invalid: all that had no room of their own
	event  string       // of a sign-in; "" for requests to an MCP endpoint
	reason string
}

type refusalCount struct {
	count  int64
	status int
	addr   netip.Addr // of the first one
	detail string     // of the first one
	ids    []string
}

func newRefusalCounts(write func(*line)) *refusalCounts {
	return &refusalCounts{
		write:  write,
		counts: make(map[refusalKey]*refusalCount),
		seen:   make(map[netip.Prefix]struct{}),
	}
}

// add counts a refusal under the key, to which it adds the source. first is what the line says
// if it is the first of its kind.
func (a *refusalCounts) add(key refusalKey, first refusalCount, id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	key.source = sourceRange(first.addr)
	if _, ok := a.seen[key.source]; !ok {
		if len(a.seen) < sourcesCounted {
			a.seen[key.source] = struct{}{}
		} else {
			key.source = netip.Prefix{}
		}
	}
	c := a.counts[key]
	if c == nil {
		c = &first
		a.counts[key] = c
	}
	c.count++
	if len(c.ids) < idsNamed {
		c.ids = append(c.ids, id)
	}
	if a.timer == nil {
		a.timer = time.AfterFunc(time.Second, a.flush)
	}
}

// flush writes the counts, and resets them.
func (a *refusalCounts) flush() {
	a.mu.Lock()
	counts := a.counts
	a.counts = make(map[refusalKey]*refusalCount)
	a.seen = make(map[netip.Prefix]struct{})
	if a.timer != nil {
		a.timer.Stop()
		a.timer = nil
	}
	a.mu.Unlock()
	now := time.Now()
	l := new(line)
	for key, c := range counts {
		l.start(now, "refusals")
		if key.source.IsValid() {
			l.source(c.addr)
		}
		l.field("event", key.event)
		l.counted(key.reason, c.detail, c.status, c.count, c.ids)
		a.write(l)
	}
}

// counted appends what a line says of many refusals, and ends it.
func (l *line) counted(reason, detail string, status int, count int64, ids []string) {
	l.decision(Decision{Reason: reason, Detail: detail})
	l.number("status", int64(status))
	l.number("count", count)
	l.list("request_ids", ids)
	l.end()
}
