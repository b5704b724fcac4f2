package proxy

import (
	"testing"
	"time"

	"vault-plugin-secrets-mcp/test/bench/measure"
	"vault-plugin-secrets-mcp/test/bench/rig/job"
	"vault-plugin-secrets-mcp/test/harness"
)

// cell is one line of the table: requests of one kind to one place, over so many
// connections.
type cell struct {
	Scene       string `json:"scene"`
	Target      string `json:"target"`
	Connections int    `json:"connections"`

	requests [][]byte
	own      bool // each connection has a request of its own
	status   int
	contains string
	refused  bool             // of many refusals of a kind, the audit log has the number alone
	count    int              // each request once; 0: for some time
	at       string           // host:port, where that is neither a gateway nor what has no TLS
	tls      string           // the files with which connections speak TLS
	pid      int              // whose CPU and memory count
	gateway  *harness.Gateway // nil: none is on the way
	before   func()           // what each round begins with
	beside   *cell            // what it is compared with
	turns    int              // of four runs in a round, two of it and two of what is beside it; 0: it is run once

	rounds []figures
}

// figures are what one round has measured.
type figures struct {
	perSecond     float64
	p50, p95, p99 time.Duration
	cpu           time.Duration // for one request
	resident      int64
	lookups       float64 // for one request
	audit         float64 // bytes, for one request
}

// warm sends each of the requests once, at least.
func (c *cell) warm(t testing.TB, s *stage, duration time.Duration) {
	t.Helper()
	once := *c
	once.count = max(c.count, len(c.requests))
	once.run(t, s, 0)
	c.run(t, s, duration)
	c.rounds = nil
}

// run measures one round.
func (c *cell) run(t testing.TB, s *stage, duration time.Duration) {
	t.Helper()
	if c.before != nil {
		c.before()
	}
	pid := c.pid
	lookups := 0
	if c.gateway != nil {
		pid = c.gateway.Process.Pid()
		lookups = measure.Lookups(t, c.gateway)
		s.forget(t, c.gateway)
	}
	before := measure.CPU(t, pid)
	loaded := s.load.Run(c.Scene+", "+c.Target, &job.Load{
		Address: c.address(s), TLS: c.tls, Requests: c.requests, Own: c.own, Connections: c.Connections, Duration: duration, Count: c.count,
		Status: c.status, Contains: c.contains,
	})
	requests := float64(loaded.Requests)
	f := figures{
		perSecond: requests / loaded.Elapsed.Seconds(), p50: loaded.P50, p95: loaded.P95, p99: loaded.P99,
		cpu:      time.Duration(float64(measure.CPU(t, pid)-before) / requests),
		resident: measure.Resident(t, pid),
	}
	if c.gateway != nil {
		f.lookups = float64(measure.Lookups(t, c.gateway)-lookups) / requests
		f.audit = float64(s.forget(t, c.gateway)) / requests
		if f.audit == 0 && !c.refused {
			t.Fatalf("%s, %s: nothing is in the audit log", c.Scene, c.Target)
		}
	}
	c.rounds = append(c.rounds, f)
}

// order is that of the runs of one round. Where the difference is small, two cells take turns,
// and each of them is as often the first as the second.
func order(all []*cell) []*cell {
	paired := map[*cell]bool{}
	for _, c := range all {
		paired[c] = paired[c] || c.turns > 0
		if c.turns > 0 {
			paired[c.beside] = true
		}
	}
	var runs []*cell
	for _, c := range all {
		if !paired[c] {
			runs = append(runs, c)
		}
		for range c.turns {
			runs = append(runs, c.beside, c, c, c.beside)
		}
	}
	return runs
}

// over is the spread of one figure over the rounds.
func (c *cell) over(of func(figures) float64) measure.Spread {
	values := make([]float64, 0, len(c.rounds))
	for _, f := range c.rounds {
		values = append(values, of(f))
	}
	return measure.SpreadOf(values)
}

// ratio is the spread of one figure of the rounds, divided by that of the same round
// of what the cell is compared with.
func (c *cell) ratio(of func(figures) float64) measure.Spread {
	if c.beside == nil {
		return measure.Spread{}
	}
	values := make([]float64, 0, len(c.rounds))
	for i, f := range c.rounds {
		if beside := of(c.beside.rounds[i]); beside > 0 { // a short round may cost no CPU that the kernel counts
			values = append(values, of(f)/beside)
		}
	}
	if len(values) == 0 {
		return measure.Spread{}
	}
	return measure.SpreadOf(values)
}

func perSecond(f figures) float64 { return f.perSecond }
func p99(f figures) float64       { return float64(f.p99) }
func cpu(f figures) float64       { return float64(f.cpu) }
