package proxy

import (
	"slices"
	"testing"
	"time"

	"vault-plugin-secrets-mcp/test/bench/measure"
	"vault-plugin-secrets-mcp/test/bench/report"
	"vault-plugin-secrets-mcp/test/bench/rig/job"
	"vault-plugin-secrets-mcp/test/harness"
)

// cell is one line of the table: requests of one kind to one place, over so many
// connections.
type cell struct {
	Scene       string
	Target      string
	Connections int // 0: nothing is asked, and the memory at rest counts

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

// figures are what one run has measured.
type figures struct {
	number        int // of the run: those of one number are compared with each other
	perSecond     float64
	p50, p95, p99 time.Duration
	cpu           time.Duration // for one request
	resident      int64
	parts         parts
	lookups       float64 // for one request, like those below
	audit         float64 // bytes
	allocations   float64
}

// warm sends each of the requests once, at least.
func (c *cell) warm(t testing.TB, s *stage, duration time.Duration) {
	t.Helper()
	once := *c
	once.count = max(c.count, len(c.requests))
	once.run(t, s, 0, 0)
	c.run(t, s, 0, duration)
	c.rounds = nil
}

// run measures it once.
func (c *cell) run(t testing.TB, s *stage, number int, duration time.Duration) {
	t.Helper()
	if c.before != nil {
		c.before()
	}
	f := figures{number: number}
	if c.Connections == 0 {
		f.resident, f.parts = s.atRest, s.partsAtRest
		c.rounds = append(c.rounds, f)
		return
	}
	pid := c.pid
	var asked counts
	if c.gateway != nil {
		pid = c.gateway.Process.Pid()
		asked = countsOf(t, c.gateway)
		s.forget(t, c.gateway)
	}
	before := measure.CPU(t, pid)
	loaded := s.load.Run(c.Scene+", "+c.Target, &job.Load{
		Address: c.address(s), TLS: c.tls, Requests: c.requests, Own: c.own, Connections: c.Connections, Duration: duration, Count: c.count,
		Status: c.status, Contains: c.contains,
	})
	requests := float64(loaded.Requests)
	f.perSecond, f.p50, f.p95, f.p99 = requests/loaded.Elapsed.Seconds(), loaded.P50, loaded.P95, loaded.P99
	f.cpu = time.Duration(float64(measure.CPU(t, pid)-before) / requests)
	f.resident = measure.Resident(t, pid)
	if c.gateway != nil && c.gateway == s.alone {
		f.parts = partsOf(t, c.gateway)
	}
	if c.gateway != nil {
		now := countsOf(t, c.gateway)
		f.lookups = float64(now.lookups-asked.lookups) / requests
		f.allocations = (now.allocations - asked.allocations - s.scrape) / requests
		f.audit = float64(s.forget(t, c.gateway)) / requests
		if f.audit == 0 && !c.refused {
			t.Fatalf("%s, %s: nothing is in the audit log", c.Scene, c.Target)
		}
	}
	c.rounds = append(c.rounds, f)
}

// counts are what a gateway counts.
type counts struct {
	lookups     int
	allocations float64
}

func countsOf(t testing.TB, g *harness.Gateway) counts {
	t.Helper()
	metrics := g.Metrics()
	return counts{measure.Lookups(t, metrics), measure.Value(t, metrics, "go_memstats_mallocs_total")}
}

// parts are what a gateway's resident memory is made of besides its heap, in bytes.
type parts struct{ program, runtime, stacks float64 }

func partsOf(t testing.TB, g *harness.Gateway) parts {
	t.Helper()
	p := parts{program: float64(measure.ResidentFiles(t, g.Process.Pid()))}
	metrics := g.Metrics()
	of := func(name string) float64 { return measure.Value(t, metrics, "go_memstats_"+name+"_bytes") }
	for _, name := range []string{"mspan_sys", "mcache_sys", "buck_hash_sys", "gc_sys", "other_sys"} {
		p.runtime += of(name)
	}
	p.stacks = of("stack_inuse")
	return p
}

// seldom is how many rounds there are for one of those in which cells without a bound take
// part.
const seldom = 3

// runs measures all cells in so many rounds.
func runs(t testing.TB, s *stage, all []*cell, rounds int, duration time.Duration) {
	t.Helper()
	for round := range rounds {
		times := map[*cell]int{}
		for _, c := range order(all, round) {
			c.run(t, s, round<<8+times[c], duration)
			times[c]++
		}
	}
}

// takesPart says whether a cell is measured in a round: what a bound is about is in each.
func (c *cell) takesPart(round int) bool {
	return round%seldom == 0 || c.turns > 0 || report.Bounded(c.Scene, c.Target)
}

// order is that of the runs of one round. What is compared with each other runs one right after
// the other, so that whatever slows the machine down slows all of it, and every second round
// goes backwards. Where the difference is small, two cells take turns, and each of them is as
// often the first as the second.
func order(all []*cell, round int) []*cell {
	var first []*cell
	after := map[*cell][]*cell{}
	for _, c := range all {
		switch {
		case c.turns > 0:
		case c.beside != nil:
			after[c.beside] = append(after[c.beside], c)
		default:
			first = append(first, c)
		}
	}
	var runs []*cell
	for _, c := range all {
		for range c.turns {
			runs = append(runs, c.beside, c, c, c.beside)
		}
	}
	for _, leader := range first {
		if slices.Contains(runs, leader) {
			continue
		}
		var group []*cell
		for _, c := range append([]*cell{leader}, after[leader]...) {
			if c.takesPart(round) {
				group = append(group, c)
			}
		}
		if round%2 == 1 {
			slices.Reverse(group)
		}
		runs = append(runs, group...)
	}
	return runs
}

// over is the spread of one figure over the rounds.
func (c *cell) over(of func(figures) float64) report.Spread {
	values := make([]float64, 0, len(c.rounds))
	for _, f := range c.rounds {
		values = append(values, of(f))
	}
	return report.SpreadOf(values)
}

// ratio is the spread of one figure of the rounds, divided by that of the same round
// of what the cell is compared with.
func (c *cell) ratio(of func(figures) float64) report.Spread {
	if c.beside == nil {
		return report.Spread{}
	}
	others := map[int]figures{}
	for _, f := range c.beside.rounds {
		others[f.number] = f
	}
	var values []float64
	for _, f := range c.rounds {
		if beside := of(others[f.number]); beside > 0 { // a short round may cost no CPU that the kernel counts
			values = append(values, of(f)/beside)
		}
	}
	return report.SpreadOf(values)
}

// row is a cell's line.
func (c *cell) row() report.Row {
	micro := func(of func(figures) time.Duration) report.Spread {
		return c.over(func(f figures) float64 { return float64(of(f)) / 1e3 })
	}
	r := report.Row{
		Scene: c.Scene, Target: c.Target, Connections: c.Connections,
		PerSecond: c.over(func(f figures) float64 { return f.perSecond }),
		P50:       micro(func(f figures) time.Duration { return f.p50 }),
		P95:       micro(func(f figures) time.Duration { return f.p95 }),
		P99:       micro(func(f figures) time.Duration { return f.p99 }),
		CPU:       micro(func(f figures) time.Duration { return f.cpu }),
		Resident:  c.over(func(f figures) float64 { return float64(f.resident) }),
	}
	if c.beside != nil {
		r.Beside = c.beside.Target
		r.Ratio = c.ratio(func(f figures) float64 { return f.perSecond })
		r.P99Ratio = c.ratio(func(f figures) float64 { return float64(f.p99) })
		r.CPURatio = c.ratio(func(f figures) float64 { return float64(f.cpu) })
	}
	if c.gateway != nil {
		bytes := func(of func(parts) float64) report.Spread {
			return c.over(func(f figures) float64 { return of(f.parts) })
		}
		r.Gateway = &report.Gateway{
			VaultCalls:  c.over(func(f figures) float64 { return f.lookups }),
			AuditBytes:  c.over(func(f figures) float64 { return f.audit }),
			Allocations: c.over(func(f figures) float64 { return f.allocations }),
		}
		if c.rounds[0].parts != (parts{}) {
			r.Gateway.Parts = &report.Parts{
				Program: bytes(func(p parts) float64 { return p.program }),
				Runtime: bytes(func(p parts) float64 { return p.runtime }),
				Stacks:  bytes(func(p parts) float64 { return p.stacks }),
			}
		}
	}
	return r
}

func rowsOf(all []*cell) []report.Row {
	rows := make([]report.Row, 0, len(all))
	for _, c := range all {
		rows = append(rows, c.row())
	}
	return rows
}
