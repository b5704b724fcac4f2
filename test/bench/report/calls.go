package report

import (
	"fmt"
	"strings"
)

// Table has all rows, a table for each scene.
func (c *Calls) Table() string {
	var t strings.Builder
	t.WriteString(c.how() + "\n")
	scene := ""
	for _, r := range c.Rows {
		if r.Scene != scene {
			scene = r.Scene
			fmt.Fprintf(&t, "\n**%s**\n\n| | connections | requests/s | beside %s | p99 beside it | CPU beside it | p50 µs | p95 µs | p99 µs | CPU µs | memory MB | Vault calls | allocations |\n"+
				"|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n", scene, c.besideIn(scene))
		}
		t.WriteString(r.line())
	}
	return t.String()
}

// how says how the figures were made.
func (c *Calls) how() string {
	text := fmt.Sprintf("Medians of %d interleaved rounds of %s", c.Rounds, c.Duration)
	if c.Seldom > 0 && c.Seldom != c.Rounds {
		text += fmt.Sprintf(", of %d where there is no bound", c.Seldom)
	}
	text += ", with the least and the most in brackets."
	if c.Runs > 1 {
		text += fmt.Sprintf(" Each figure is that of the run in the middle, of %d whole runs.", c.Runs)
	}
	return text
}

// besideIn is what the ratios of a scene compare with.
func (c *Calls) besideIn(scene string) string {
	for _, r := range c.Rows {
		if r.Scene == scene && r.Beside != "" {
			return strings.Replace(r.Beside, "httputil.", "", 1)
		}
	}
	return "`ReverseProxy`"
}

func (r *Row) line() string {
	if r.Connections == 0 {
		return fmt.Sprintf("| %s | | | | | | | | | | %.0f | | |\n", r.Target, r.Resident.Max/(1<<20))
	}
	ratio, gateway := " | | ", " | "
	if r.Beside != "" {
		ratio = fmt.Sprintf("%.2f [%.2f–%.2f] | %.2f | %.2f", r.Ratio.Median, r.Ratio.Min, r.Ratio.Max, r.P99Ratio.Median, r.CPURatio.Median)
	}
	if g := r.Gateway; g != nil {
		gateway = fmt.Sprintf("%.2f | %.0f", g.VaultCalls.Median, g.Allocations.Median)
	}
	return fmt.Sprintf("| %s | %d | %.0f [%.0f–%.0f] | %s | %.0f | %.0f | %.0f | %.0f | %.0f | %s |\n",
		r.Target, r.Connections, r.PerSecond.Median, r.PerSecond.Min, r.PerSecond.Max, ratio,
		r.P50.Median, r.P95.Median, r.P99.Median, r.CPU.Median, r.Resident.Max/(1<<20), gateway)
}

// MemoryTable says what the memory of a gateway is made of.
func (c *Calls) MemoryTable() string {
	var t strings.Builder
	t.WriteString("| MB | resident | pages of the program | heap, garbage included | stacks | Go's runtime |\n|---|---:|---:|---:|---:|---:|\n")
	for _, r := range c.Rows {
		if r.Gateway == nil || r.Gateway.Parts == nil {
			continue
		}
		name := r.Target
		if r.Connections > 0 {
			name += fmt.Sprintf(", 200 B, %d connections", r.Connections)
		}
		p := r.Gateway.Parts
		heap := r.Resident.Median - p.Program.Median - p.Runtime.Median - p.Stacks.Median
		fmt.Fprintf(&t, "| %s |", name)
		for _, bytes := range []float64{r.Resident.Median, p.Program.Median, max(0, heap), p.Stacks.Median, p.Runtime.Median} {
			fmt.Fprintf(&t, " %.1f |", bytes/(1<<20))
		}
		t.WriteString("\n")
	}
	return t.String()
}
