package proxy

import (
	"fmt"
	"os"
	"regexp"
	"testing"
	"time"

	"vault-plugin-secrets-mcp/test/bench/measure"
	"vault-plugin-secrets-mcp/test/bench/report"
)

// What may be set in the environment.
const (
	roundsVariable   = "BENCH_ROUNDS"   // default 9
	durationVariable = "BENCH_DURATION" // of one cell in one round, default 300ms
	tokensVariable   = "BENCH_TOKENS"   // default 1000
	onlyVariable     = "BENCH_ONLY"     // a pattern for scenes and targets; default: all
	runsVariable     = "BENCH_RUNS"     // whole runs, with processes of their own; default 1
)

// BenchmarkProxy prints a table of all rows, and one of the bounds. The figures are medians of
// the rounds, with the least and the most, and of several runs those of the one in the middle.
func BenchmarkProxy(b *testing.B) {
	machine := measure.ThisMachine(b)
	only := regexp.MustCompile(os.Getenv(onlyVariable))
	tokens, number := measure.Int(b, tokensVariable, 1000), measure.Int(b, runsVariable, 1)
	var figures report.Calls
	var all [][]report.Row
	for i := range number {
		if !b.Run(fmt.Sprintf("run %d", i+1), func(b *testing.B) {
			s := newStage(b, tokens)
			figures = run(b, s, chosen(cells(b, s), only))
			all = append(all, figures.Rows)
		}) {
			return
		}
	}
	figures.Rows, figures.Runs = report.Middle(all), number
	measure.Store(b, "proxy", machine, figures, figures.Table(), figures.BoundTable())
}

// BenchmarkLeased prints a table of the same kind, about requests whose credentials are leased.
func BenchmarkLeased(b *testing.B) {
	machine := measure.ThisMachine(b)
	s := newStage(b, 1)
	figures := run(b, s, credentials(b, s))
	measure.Publish(b, "leased", machine, figures.Table(), figures)
}

func run(b *testing.B, s *stage, all []*cell) report.Calls {
	b.Helper()
	rounds, duration := measure.Int(b, roundsVariable, 9), measure.Duration(b, durationVariable, 300*time.Millisecond)
	for _, c := range all {
		c.warm(b, s, duration/3)
	}
	runs(b, s, all, rounds, duration)
	figures := report.Calls{Rounds: rounds, Seldom: rounds, Duration: duration, Rows: rowsOf(all)}
	for _, c := range all {
		figures.Seldom = min(figures.Seldom, len(c.rounds))
	}
	return figures
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
