package growth

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-mcp/test/bench/measure"
	"vault-plugin-secrets-mcp/test/bench/report"
	"vault-plugin-secrets-mcp/test/bench/report/picture"
	"vault-plugin-secrets-mcp/test/bench/rig/job"
	"vault-plugin-secrets-mcp/test/harness"
)

// scaleVariable divides all numbers, for a look: default 1.
const scaleVariable = "BENCH_SCALE"

// growth is what one thing costs as there is more of it.
type growth struct {
	Of     string      `json:"of"`
	Order  string      `json:"order"` // the cost's, in words
	Names  []string    `json:"names"` // of what is measured, with units
	Rows   [][]float64 `json:"rows"`  // the number first
	Notes  []string    `json:"notes"`
	curves []picture.Lines
}

// world is one Vault with a gateway, an upstream and clients.
type world struct {
	*harness.Harness
	rig      *measure.Rig
	load     *measure.Load
	upstream measure.Server
	moment   time.Duration // for which one call's time is measured, each time
}

func newWorld(t testing.TB, moment time.Duration) *world {
	t.Helper()
	h := harness.New(t)
	w := &world{Harness: h, rig: measure.NewRig(t, h.Dir), moment: moment}
	w.upstream, w.load = w.rig.Upstream(), w.rig.Load()
	return w
}

// BenchmarkGrowth prints a table for each kind of growth.
func BenchmarkGrowth(b *testing.B) {
	for range b.N {
		publish(b, "growth", measure.ThisMachine(b), measureAll(b, measure.Int(b, scaleVariable, 1)))
	}
}

// BenchmarkCredentials does so for clients with leased credentials.
func BenchmarkCredentials(b *testing.B) {
	for range b.N {
		publish(b, "credentials", measure.ThisMachine(b), []*growth{measureCredentials(b, measure.Int(b, scaleVariable, 1))})
	}
}

// TestEveryKindOfGrowthCanBeMeasured is the benchmarks' short form.
func TestEveryKindOfGrowthCanBeMeasured(t *testing.T) {
	for _, g := range append(measureAll(t, 100), measureCredentials(t, 100)) {
		if len(g.Rows) < 2 || len(g.Rows[0]) != len(g.Names)+1 {
			t.Errorf("%s: %v of %v", g.Of, g.Rows, g.Names)
		}
		if !strings.Contains(g.table(), g.Order) {
			t.Error(g.table())
		}
	}
}

func measureAll(t testing.TB, scale int) []*growth {
	t.Helper()
	w := newWorld(t, 200*time.Millisecond/time.Duration(scale))
	return []*growth{
		w.tokens(t, scaled([]int{1, 1_000, 10_000, 30_000, 100_000}, scale)),
		w.entries(t, scaled([]int{1, 10, 100, 1_000}, scale)),
		w.servers(t, scaled([]int{1, 50, 100, 250, 500}, scale)),
		w.streams(t, scaled([]int{0, 1_000, 3_000, 6_000, 9_000}, scale)),
		w.watchers(t, scaled([]int{0, 100, 300, 1_000}, scale)),
	}
}

func measureCredentials(t testing.TB, scale int) *growth {
	t.Helper()
	return newWorld(t, 0).credentials(t, scaled([]int{1, 100, 300, 1_000}, scale), lives(scale))
}

// scaled divides the numbers, and leaves out those that come to the same.
func scaled(numbers []int, by int) []int {
	var less []int
	for _, n := range numbers {
		if n > 1 {
			n = max(n/by, 2)
		}
		if len(less) == 0 || n > less[len(less)-1] {
			less = append(less, n)
		}
	}
	return less
}

// rounds is how often one call's time is measured.
const rounds = 5

// p50 is the usual time that one call takes over one connection, in microseconds.
func (w *world) p50(t testing.TB, what, address string, requests ...[]byte) float64 {
	t.Helper()
	var times []float64
	for range rounds {
		loaded := w.load.Run(what, &job.Load{
			Address: address, Requests: requests, Connections: 1, Duration: w.moment, Status: 200, Contains: `"result":`,
		})
		times = append(times, float64(loaded.P50)/float64(time.Microsecond))
	}
	return report.SpreadOf(times).Median
}

// once sends each of the requests once, in parts that a pipe takes.
func (w *world) once(what, address string, requests [][]byte) {
	const part = 5_000
	for len(requests) > 0 {
		n := min(part, len(requests))
		w.load.Run(what, &job.Load{Address: address, Requests: requests[:n], Count: n, Connections: min(8, n), Status: 200, Contains: `"result":`})
		requests = requests[n:]
	}
}

func megabytes(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// curve draws columns of the rows, in a panel each: those of one unit that are of one size may
// share one.
func (g *growth) curve(name, title, x string, panels ...[]int) {
	c := picture.Lines{Name: name, Title: title, X: x}
	for _, columns := range panels {
		var panel picture.Panel
		for _, column := range columns {
			line := picture.Line{Name: strings.ReplaceAll(g.Names[column-1], "`", "")}
			for _, row := range g.Rows {
				line.Points = append(line.Points, [2]float64{row[0], row[column]})
			}
			panel.Lines = append(panel.Lines, line)
		}
		panel.Title = panel.Lines[0].Name
		if len(panel.Lines) > 1 {
			panel.Title = unit(panel.Title)
		}
		c.Panels = append(c.Panels, panel)
	}
	g.curves = append(g.curves, c)
}

// unit is that of a column.
func unit(name string) string {
	for _, unit := range []string{"µs", "MB"} {
		if strings.Contains(name, unit) {
			return unit
		}
	}
	return "number"
}

// slope is what one more costs in a column, between the first row and the last.
func (g *growth) slope(column int) float64 {
	first, last := g.Rows[0], g.Rows[len(g.Rows)-1]
	return (last[column] - first[column]) / (last[0] - first[0])
}

func (g *growth) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "**%s**: %s\n\n| number |", g.Of, g.Order)
	for _, name := range g.Names {
		fmt.Fprintf(&b, " %s |", name)
	}
	b.WriteString("\n|---:|" + strings.Repeat("---:|", len(g.Names)) + "\n")
	for _, row := range g.Rows {
		fmt.Fprintf(&b, "| %.0f |", row[0])
		for _, value := range row[1:] {
			fmt.Fprintf(&b, " %.0f |", value)
		}
		b.WriteString("\n")
	}
	for _, note := range g.Notes {
		b.WriteString("\n" + note + "\n")
	}
	return b.String()
}

func publish(t testing.TB, name string, machine report.Machine, all []*growth) {
	t.Helper()
	var tables strings.Builder
	var curves []picture.Lines
	for _, g := range all {
		tables.WriteString(g.table() + "\n")
		for _, c := range g.curves {
			fmt.Fprintf(&tables, "![%s](performance/%s.svg)\n\n", c.Title, c.Name)
		}
		curves = append(curves, g.curves...)
	}
	measure.Publish(t, name, machine, tables.String(), all, curves...)
}
