package access

import (
	"net/netip"
	"sync"
	"time"
)

const (
	// aggregateSources bounds the sources told apart within one second. The
	// others are counted together.
	aggregateSources = 256

	// aggregateIDs is how many request ids a line names.
	aggregateIDs = 5
)

// aggregate counts refusals of requests without a known token, and writes one
// line for each source, reason and second: nobody without a token can fill the
// disk.
type aggregate struct {
	write func(*line)

	mu     sync.Mutex
	counts map[aggregateKey]*aggregateCount
	seen   map[netip.Prefix]struct{}
	timer  *time.Timer
}

type aggregateKey struct {
	source netip.Prefix // invalid: all that had no room of their own
	reason string
}

type aggregateCount struct {
	count  int64
	status int
	addr   netip.Addr // of the first one
	detail string     // of the first one
	ids    []string
}

func newAggregate(write func(*line)) *aggregate {
	return &aggregate{
		write:  write,
		counts: make(map[aggregateKey]*aggregateCount),
		seen:   make(map[netip.Prefix]struct{}),
	}
}

func (a *aggregate) add(r *Request, f *Refusal) {
	a.mu.Lock()
	defer a.mu.Unlock()
	key := aggregateKey{source: sourceRange(r.Source), reason: f.Reason}
	if _, ok := a.seen[key.source]; !ok {
		if len(a.seen) < aggregateSources {
			a.seen[key.source] = struct{}{}
		} else {
			key.source = netip.Prefix{}
		}
	}
	c := a.counts[key]
	if c == nil {
		c = &aggregateCount{status: f.Status, addr: r.Source, detail: f.Detail}
		a.counts[key] = c
	}
	c.count++
	if len(c.ids) < aggregateIDs {
		c.ids = append(c.ids, r.ID)
	}
	if a.timer == nil {
		a.timer = time.AfterFunc(time.Second, a.flush)
	}
}

// flush writes what was counted, and starts anew.
func (a *aggregate) flush() {
	a.mu.Lock()
	counts := a.counts
	a.counts = make(map[aggregateKey]*aggregateCount)
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
			l.addr("source", c.addr)
		}
		l.decision(Decision{Reason: key.reason, Detail: c.detail})
		l.number("status", int64(c.status))
		l.number("count", c.count)
		l.key("request_ids")
		for i, id := range c.ids {
			l.b = append(l.b, "[,"[min(i, 1)])
			l.b = appendString(l.b, id)
		}
		l.b = append(l.b, ']')
		l.end()
		a.write(l)
	}
}
