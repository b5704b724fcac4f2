package report

import (
	"fmt"
	"slices"
	"strings"
)

// Scenes and targets that have bounds, or that the page speaks of.
const (
	Small    = "200 B, JSON"
	Large    = "64 KB, JSON"
	SmallTLS = "200 B, TLS on both sides"
	LargeTLS = "64 KB, TLS on both sides"
	LongList = "a list of 100 tools of 1 KB"
	Alone    = "a gateway of its own"

	Direct            = "the upstream itself"
	ReverseProxy      = "`httputil.ReverseProxy`"
	Server            = "`/servers/{name}/mcp`"
	ServerSessions    = "`/servers/{name}/mcp`, sessions"
	Aggregate         = "`/mcp`"
	AggregateSessions = "`/mcp`, sessions"
	AtRest            = "at rest"
	Cold              = "cold: each token's first request"
)

// Connections are the numbers of connections of most rows.
var Connections = []int{1, 8, 64}

// Bound is what a figure of some rows has to reach. No test fails where it does not: the
// benchmark says so, and the page.
type Bound struct {
	Figure        figure
	Scene, Target string
	Limit         float64
	Connections   []int
}

// figure is one that has bounds.
type figure struct {
	name  string
	least bool // the bound is the least that it may be; otherwise the most
	digit int  // behind the point
	of    func(*Row) float64
}

var (
	perSecond   = figure{"requests a second beside `ReverseProxy`", true, 2, func(r *Row) float64 { return r.Ratio.Median }}
	p99         = figure{"p99 beside its p99", false, 2, func(r *Row) float64 { return r.P99Ratio.Median }}
	cpu         = figure{"CPU a request beside its own", false, 2, func(r *Row) float64 { return r.CPURatio.Median }}
	allocations = figure{"allocations a request", false, 0, func(r *Row) float64 {
		if r.Gateway == nil {
			return 0
		}
		return r.Gateway.Allocations.Median
	}}
	resident = figure{"resident memory, MB", false, 0, func(r *Row) float64 { return r.Resident.Max / (1 << 20) }}
)

// Bounds are all bounds.
var Bounds = slices.Concat(
	bounds(perSecond, 1.5, Connections, Small, Server, ServerSessions),
	bounds(perSecond, 1.3, Connections, Small, Aggregate, AggregateSessions),
	bounds(perSecond, 1.45, Connections, Large, Server, ServerSessions),
	bounds(perSecond, 1.2, Connections, Large, Aggregate, AggregateSessions),
	bounds(perSecond, 1.2, Connections, SmallTLS, Server),
	bounds(perSecond, 1.2, Connections, LargeTLS, Server),
	bounds(perSecond, 1.0, Connections, LongList, Aggregate),
	bounds(p99, 0.7, []int{64}, Small, Server, ServerSessions, Aggregate, AggregateSessions),
	bounds(p99, 0.7, []int{64}, Large, Server, ServerSessions),
	bounds(p99, 0.95, []int{64}, Large, Aggregate, AggregateSessions),
	bounds(cpu, 0.75, []int{8}, Small, Server, ServerSessions, Aggregate, AggregateSessions),
	bounds(cpu, 0.75, []int{8}, Large, Server, ServerSessions),
	bounds(cpu, 0.9, []int{8}, Large, Aggregate, AggregateSessions),
	bounds(allocations, formerAllocations/2, []int{8}, Small, Server),
	bounds(resident, 40, []int{0}, Alone, AtRest),
	bounds(resident, 40, []int{64}, Alone, Server),
)

// formerAllocations were those of a warm call with 200 B on 2026-11-30, counted in the same way:
// go_memstats_mallocs_total of the gateway's process before and after some thousand calls.
const formerAllocations = 97

func bounds(of figure, limit float64, connections []int, scene string, targets ...string) []Bound {
	all := make([]Bound, 0, len(targets))
	for _, target := range targets {
		all = append(all, Bound{of, scene, target, limit, connections})
	}
	return all
}

// Bounded says whether there is a bound about a row, or about one that is compared with it.
func Bounded(scene, target string) bool {
	return slices.ContainsFunc(Bounds, func(b Bound) bool {
		return b.Scene == scene && (b.Target == target || target == ReverseProxy)
	})
}

// Judged is a bound beside what was measured.
type Judged struct {
	Bound

	Seen    []float64 // one for each number of connections
	Reached bool
}

// Judge compares the rows with the bounds. It leaves out what was not measured.
func (c *Calls) Judge() []Judged {
	var all []Judged
	for _, b := range Bounds {
		j := Judged{Bound: b, Reached: true}
		for _, n := range b.Connections {
			r := c.Find(b.Scene, b.Target, n)
			if r == nil || b.Figure.of(r) == 0 {
				continue
			}
			value := b.Figure.of(r)
			j.Seen = append(j.Seen, value)
			j.Reached = j.Reached && (value == b.Limit || (value > b.Limit) == b.Figure.least)
		}
		if len(j.Seen) > 0 {
			all = append(all, j)
		}
	}
	return all
}

// BoundTable says what is reached. It can be read as text, too.
func (c *Calls) BoundTable() string {
	rows := [][]string{{"figure", "requests", "connections", "bound", "seen", ""}}
	reached := 0
	judged := c.Judge()
	for _, j := range judged {
		f := j.Figure
		sign, verdict := "≤", "**missed**"
		if f.least {
			sign = "≥"
		}
		if j.Reached {
			reached++
			verdict = "reached"
		}
		var seen, connections []string
		for _, value := range j.Seen {
			seen = append(seen, fmt.Sprintf("%.*f", f.digit, value))
		}
		for _, n := range j.Connections {
			connections = append(connections, fmt.Sprint(n))
		}
		rows = append(rows, []string{
			f.name, j.Scene + ", " + j.Target, strings.Join(connections, " / "),
			fmt.Sprintf("%s %.*f", sign, f.digit, j.Limit), strings.Join(seen, " / "), verdict,
		})
	}
	return fmt.Sprintf("%d of %d bounds are reached.\n\n%s", reached, len(judged), aligned(rows))
}

// aligned is a table of Markdown with columns of equal width.
func aligned(rows [][]string) string {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, text := range row {
			widths[i] = max(widths[i], len([]rune(text)))
		}
	}
	rule := make([]string, len(widths))
	for i, width := range widths {
		rule[i] = strings.Repeat("-", max(width, 3))
		widths[i] = max(width, 3)
	}
	var b strings.Builder
	for _, row := range slices.Insert(slices.Clone(rows), 1, rule) {
		for i, text := range row {
			fmt.Fprintf(&b, "| %s%s ", text, strings.Repeat(" ", widths[i]-len([]rune(text))))
		}
		b.WriteString("|\n")
	}
	return b.String()
}
