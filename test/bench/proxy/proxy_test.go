package proxy

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-mcp/test/bench/measure"
)

// What may be set in the environment.
const (
	roundsVariable   = "BENCH_ROUNDS"   // default 9
	durationVariable = "BENCH_DURATION" // of one cell in one round, default 300ms
	tokensVariable   = "BENCH_TOKENS"   // default 1000
	onlyVariable     = "BENCH_ONLY"     // a pattern for scenes and targets; default: all
)

// BenchmarkProxy prints a table. In every round each cell is measured once, one
// right after the other, so that what slows the machine down slows all of them; the
// figures are medians of the rounds, with the least and the most.
func BenchmarkProxy(b *testing.B) {
	machine := measure.ThisMachine(b)
	s := newStage(b, measure.Int(b, tokensVariable, 1000))
	all := chosen(cells(b, s), regexp.MustCompile(os.Getenv(onlyVariable)))
	rounds, duration := run(b, s, all)
	measure.Publish(b, "proxy", machine, table(all, rounds, duration), all, curves(all)...)
}

// BenchmarkLeased prints a table of the same kind, about requests whose credentials are leased.
func BenchmarkLeased(b *testing.B) {
	machine := measure.ThisMachine(b)
	s := newStage(b, 1)
	all := credentials(b, s)
	rounds, duration := run(b, s, all)
	measure.Publish(b, "leased", machine, table(all, rounds, duration), all)
}

func run(b *testing.B, s *stage, all []*cell) (rounds int, duration time.Duration) {
	b.Helper()
	rounds, duration = measure.Int(b, roundsVariable, 9), measure.Duration(b, durationVariable, 300*time.Millisecond)
	for _, c := range all {
		c.warm(b, s, duration/3)
	}
	for range b.N {
		for range rounds {
			for _, c := range order(all) {
				c.run(b, s, duration)
			}
		}
	}
	return rounds, duration
}

// chosen are the cells that the pattern names, and those that they are compared
// with.
func chosen(all []*cell, pattern *regexp.Regexp) []*cell {
	wanted := map[*cell]bool{}
	for _, c := range all {
		if pattern.MatchString(c.Scene + ", " + c.Target) {
			wanted[c] = true
			if c.beside != nil {
				wanted[c.beside] = true
			}
		}
	}
	var kept []*cell
	for _, c := range all {
		if wanted[c] {
			kept = append(kept, c)
		}
	}
	return kept
}

func table(all []*cell, rounds int, duration time.Duration) string {
	var t strings.Builder
	fmt.Fprintf(&t, "Medians of %d interleaved rounds of %s, with the least and the most in brackets.\n", rounds, duration)
	scene := ""
	for _, c := range all {
		if c.Scene != scene {
			scene = c.Scene
			fmt.Fprintf(&t, "\n**%s**\n\n| | connections | requests/s | beside %s | p99 beside it | CPU beside it | p50 µs | p95 µs | p99 µs | CPU µs | memory MB | Vault calls |\n"+
				"|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n", scene, comparedWith(all, scene))
		}
		t.WriteString(c.line())
	}
	return t.String()
}

// comparedWith is the heading of the column with a scene's ratios.
func comparedWith(all []*cell, scene string) string {
	for _, c := range all {
		if c.Scene == scene && c.beside != nil && c.beside.Target != targetProxy {
			return c.beside.Target
		}
	}
	return "`ReverseProxy`"
}

// curves draws requests a second beside the plain proxy, for the kinds of calls that a
// gateway carries most. With BENCH_ONLY some of them, or all, may be missing.
func curves(all []*cell) []measure.Curve {
	picture := measure.Curve{
		Name: "proxy", Title: "Requests a second beside a plain reverse proxy", X: "connections", Y: "ratio", LogX: true,
	}
	plain := measure.Series{Name: "plain reverse proxy"}
	for _, n := range connections {
		plain.Points = append(plain.Points, [2]float64{float64(n), 1})
	}
	picture.Series = append(picture.Series, plain)
	for _, kind := range []struct{ name, scene, target string }{
		{"200 B", base, targetGateway},
		{"64 KB", "64 KB, JSON", targetGateway},
		{"200 B, TLS", "200 B, TLS on both sides", targetGateway},
		{"200 B, /mcp", "`/mcp`, 200 B", "all servers as one"},
	} {
		s := measure.Series{Name: kind.name}
		for _, c := range all {
			if c.Scene == kind.scene && c.Target == kind.target {
				s.Points = append(s.Points, [2]float64{float64(c.Connections), c.ratio(perSecond).Median})
			}
		}
		if len(s.Points) > 0 {
			picture.Series = append(picture.Series, s)
		}
	}
	if len(picture.Series) == 1 {
		return nil
	}
	return []measure.Curve{picture}
}

func (c *cell) line() string {
	micro := func(of func(figures) time.Duration) string {
		s := c.over(func(f figures) float64 { return float64(of(f)) / 1e3 })
		return fmt.Sprintf("%.0f", s.Median)
	}
	rate, ratio := c.over(perSecond), " | | "
	if c.beside != nil {
		r := c.ratio(perSecond)
		ratio = fmt.Sprintf("%.2f [%.2f–%.2f] | %.2f | %.2f", r.Median, r.Min, r.Max, c.ratio(p99).Median, c.ratio(cpu).Median)
	}
	calls := ""
	if c.gateway != nil {
		calls = fmt.Sprintf("%.2f", c.over(func(f figures) float64 { return f.lookups }).Median)
	}
	return fmt.Sprintf("| %s | %d | %.0f [%.0f–%.0f] | %s | %s | %s | %s | %s | %.0f | %s |\n",
		c.Target, c.Connections, rate.Median, rate.Min, rate.Max, ratio,
		micro(func(f figures) time.Duration { return f.p50 }), micro(func(f figures) time.Duration { return f.p95 }),
		micro(func(f figures) time.Duration { return f.p99 }), micro(func(f figures) time.Duration { return f.cpu }),
		c.over(func(f figures) float64 { return float64(f.resident) / (1 << 20) }).Max, calls)
}

// MarshalJSON gives all figures, with times in microseconds.
func (c *cell) MarshalJSON() ([]byte, error) {
	micro := func(of func(figures) time.Duration) measure.Spread {
		return c.over(func(f figures) float64 { return float64(of(f)) / 1e3 })
	}
	of := map[string]any{
		"scene": c.Scene, "target": c.Target, "connections": c.Connections,
		"requests_per_second": c.over(perSecond),
		"p50_us":              micro(func(f figures) time.Duration { return f.p50 }),
		"p95_us":              micro(func(f figures) time.Duration { return f.p95 }),
		"p99_us":              micro(func(f figures) time.Duration { return f.p99 }),
		"cpu_us":              micro(func(f figures) time.Duration { return f.cpu }),
		"resident_bytes":      c.over(func(f figures) float64 { return float64(f.resident) }),
	}
	if c.beside != nil {
		of["ratio"], of["p99_ratio"], of["cpu_ratio"] = c.ratio(perSecond), c.ratio(p99), c.ratio(cpu)
	}
	if c.gateway != nil {
		of["vault_calls"] = c.over(func(f figures) float64 { return f.lookups })
		of["audit_bytes"] = c.over(func(f figures) float64 { return f.audit })
	}
	return json.Marshal(of)
}
