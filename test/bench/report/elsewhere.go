package report

import (
	"fmt"
	"strings"
)

// Peers are figures that were made once by hand, of programs that are not in this repository.
type Peers struct {
	When     string `json:"when"`
	How      string `json:"how"`
	Programs []Peer `json:"programs"`
}

// Peer has those of one program, in the order of Connections where they are three. Ratios are
// beside the same ReverseProxy, in the same run.
type Peer struct {
	Name   string     `json:"name"`
	Short  string     `json:"short"` // for the picture; empty: it is not there
	Kind   string     `json:"kind"`
	Does   string     `json:"does"` // for each request
	Small  [3]float64 `json:"200_b"`
	Large  [3]float64 `json:"64_kb"`
	CPU    [2]float64 `json:"cpu_us"` // with 8 connections, 200 B and 64 KB
	P99    [2]float64 `json:"p99_ms"` // with 64 connections
	Memory float64    `json:"memory_mb,omitempty"`
}

// Kinds of programs.
const (
	kindOurs    = "this gateway"
	kindPlain   = "plain reverse proxy"
	kindPeer    = "agentgateway"
	kindCeiling = "Go without a gateway"
)

// Table has a line for each.
func (p *Peers) Table() string {
	var t strings.Builder
	fmt.Fprintf(&t, "%s. %s\n\n", p.When, p.How)
	t.WriteString("| | for each request | requests/s beside `ReverseProxy`: 200 B | 64 KB | CPU µs: 200 B | 64 KB | p99 ms: 200 B | 64 KB | memory MB |\n" +
		"|---|---|---:|---:|---:|---:|---:|---:|---:|\n")
	for _, is := range p.Programs {
		memory := ""
		if is.Memory > 0 {
			memory = fmt.Sprintf("%.0f", is.Memory)
		}
		fmt.Fprintf(&t, "| %s | %s | %s | %s | %.0f | %.0f | %.1f | %.1f | %s |\n", is.Name, is.Does,
			three(is.Small), three(is.Large), is.CPU[0], is.CPU[1], is.P99[0], is.P99[1], memory)
	}
	return t.String()
}

func three(values [3]float64) string {
	return fmt.Sprintf("%.2f / %.2f / %.2f", values[0], values[1], values[2])
}

// Earlier are the ratios of an earlier version beside ReverseProxy, in the order of Connections.
type Earlier struct {
	Version string       `json:"version"`
	Rows    []EarlierRow `json:"rows"`
}

// EarlierRow has those of one kind of requests.
type EarlierRow struct {
	Scene  string     `json:"scene"`
	Target string     `json:"target"`
	Ratio  [3]float64 `json:"ratio"`
	P99    [3]float64 `json:"p99_ratio"`
	CPU    [3]float64 `json:"cpu_ratio"`
}

// Table has them beside those of now.
func (e *Earlier) Table(now *Calls) string {
	var t strings.Builder
	fmt.Fprintf(&t, "| | requests/s: %[1]s | now | p99: %[1]s | now | CPU: %[1]s | now |\n|---|---:|---:|---:|---:|---:|---:|\n", e.Version)
	for _, r := range e.Rows {
		of := now.three(r.Scene, r.Target)
		fmt.Fprintf(&t, "| %s, %s | %s | %s | %s | %s | %s | %s |\n", r.Scene, r.Target,
			three(r.Ratio), of(perSecond), three(r.P99), of(p99), three(r.CPU), of(cpu))
	}
	return t.String()
}

// three is a figure with each number of connections, or a dash where it was not measured.
func (c *Calls) three(scene, target string) func(figure) string {
	return func(f figure) string {
		var values [3]float64
		for i, n := range Connections {
			r := c.Find(scene, target, n)
			if r == nil {
				return "–"
			}
			values[i] = f.of(r)
		}
		return three(values)
	}
}
