package engine

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-mcp/test/bench/measure"
	"vault-plugin-secrets-mcp/test/bench/report"
	"vault-plugin-secrets-mcp/test/harness"
)

// What may be set in the environment.
const (
	roundsVariable   = "BENCH_ROUNDS"   // default 5
	durationVariable = "BENCH_DURATION" // of one path in one round, default 2s
	auditVariable    = "BENCH_AUDIT"    // 1: with an audit log in a file, as in production
)

var connections = []int{1, 8, 64}

// BenchmarkEngine prints a table. In every round each path is measured once at
// each number of connections, one right after the other, so that what slows the
// machine down slows all of them; the figures are medians of the rounds. Lookups
// come before all that makes leases: a Vault that holds a hundred thousand of them
// has another heap than one that was asked for nothing but lookups.
func BenchmarkEngine(b *testing.B) {
	machine := measure.ThisMachine(b)
	rounds, duration := measure.Int(b, roundsVariable, 5), measure.Duration(b, durationVariable, 2*time.Second)
	for range b.N {
		cells := run(b, rounds, duration)
		measure.Publish(b, "engine", machine, table(cells, rounds, duration), cells)
	}
}

func audited() bool { return os.Getenv(auditVariable) == "1" }

// cell is one path, asked over so many connections by one kind of caller.
type cell struct {
	Caller      string        `json:"caller"`
	Path        string        `json:"path"`
	Connections int           `json:"connections"`
	PerSecond   report.Spread `json:"requests_per_second"`
	P50         report.Spread `json:"p50_us"`
	P99         report.Spread `json:"p99_us"`
	VaultCPU    report.Spread `json:"vault_cpu_us"`
	PluginCPU   report.Spread `json:"plugin_cpu_us"`
	// Ratio is that of the requests a second to those of Vault's own path, in the
	// same round. It is empty of that itself.
	Ratio report.Spread `json:"ratio"`

	target target
	rounds []figures
}

// run is the benchmark, and its short form.
func run(t testing.TB, rounds int, duration time.Duration) []*cell {
	t.Helper()
	h := harness.New(t, harness.WithCluster(1))
	if !audited() {
		if err := h.Vault.Client().Sys().DisableAudit("file"); err != nil {
			t.Fatal(err)
		}
	}
	s := newStage(t, h)
	var all []*cell
	for _, of := range s.groups(t) {
		var group []*cell
		for _, c := range connections {
			for i := range of {
				group = append(group, &cell{Caller: of[i].caller, Path: of[i].name, Connections: c, target: of[i]})
			}
		}
		for i := range of {
			of[i].run(t, s, 8, duration/2) // warm
		}
		for range rounds {
			for _, c := range group {
				c.rounds = append(c.rounds, c.target.run(t, s, c.Connections, duration))
			}
		}
		all = append(all, group...)
	}
	for _, c := range all {
		c.sum(all)
	}
	return all
}

// sum makes the cell's figures out of its rounds.
func (c *cell) sum(all []*cell) {
	c.PerSecond = spread(c.rounds, func(f figures) float64 { return f.perSecond })
	c.P50 = spread(c.rounds, func(f figures) float64 { return microseconds(f.p50) })
	c.P99 = spread(c.rounds, func(f figures) float64 { return microseconds(f.p99) })
	c.VaultCPU = spread(c.rounds, func(f figures) float64 { return microseconds(f.vault) })
	c.PluginCPU = spread(c.rounds, func(f figures) float64 { return microseconds(f.plugin) })
	for _, beside := range all {
		if beside.Caller == c.Caller && beside.Path == c.target.beside && beside.Connections == c.Connections {
			ratios := make([]float64, len(c.rounds))
			for i := range c.rounds {
				ratios[i] = c.rounds[i].perSecond / beside.rounds[i].perSecond
			}
			c.Ratio = report.SpreadOf(ratios)
		}
	}
}

func spread(all []figures, of func(figures) float64) report.Spread {
	values := make([]float64, len(all))
	for i := range all {
		values[i] = of(all[i])
	}
	return report.SpreadOf(values)
}

func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func table(cells []*cell, rounds int, duration time.Duration) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Medians of %d interleaved rounds of %s, ratios with the least and the most; Vault on integrated storage, audit log %s.\n",
		rounds, duration, map[bool]string{true: "on", false: "off"}[audited()])
	caller := ""
	for _, c := range cells {
		if c.Caller != caller {
			caller = c.Caller
			fmt.Fprintf(&b, "\n**%s**\n\n| connections | path | requests/s | beside Vault's own | p50 ms | p99 ms | Vault's CPU µs | the plugin's CPU µs |\n", caller)
			b.WriteString("|---:|---|---:|---:|---:|---:|---:|---:|\n")
		}
		ratio := ""
		if c.Ratio.Median > 0 {
			ratio = fmt.Sprintf("%.2f [%.2f–%.2f]", c.Ratio.Median, c.Ratio.Min, c.Ratio.Max)
		}
		fmt.Fprintf(&b, "| %d | %s | %.0f | %s | %.2f | %.2f | %.0f | %.0f |\n", c.Connections, c.Path, c.PerSecond.Median, ratio,
			c.P50.Median/1000, c.P99.Median/1000, c.VaultCPU.Median, c.PluginCPU.Median)
	}
	return b.String()
}
