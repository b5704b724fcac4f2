package soak

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"vault-plugin-secrets-mcp/test/bench/measure"
	"vault-plugin-secrets-mcp/test/bench/report/picture"
)

// What may be set in the environment.
const (
	timeVariable    = "SOAK_TIME"    // default 80s
	workersVariable = "SOAK_WORKERS" // clients that work at the same time, default 4
)

// sample is what a gateway and its Vault have at one time.
type sample struct {
	At         time.Duration `json:"at"` // since the start
	Goroutines int           `json:"goroutines"`
	Resident   int64         `json:"resident_bytes"`
	OpenFiles  int           `json:"open_files"`
	Leases     int           `json:"leases"`
}

// TestNothingGrows has everything happen at once: calls of every kind, sessions,
// streams, rotations, revocations and leases, while Vault's leader changes and a
// server comes and goes. At the end the gateway must hold no more goroutines, memory
// and open files than after a first part of it, and Vault no more leases; and no
// answer may have been wrong.
func TestNothingGrows(t *testing.T) {
	machine := measure.ThisMachine(t)
	during := measure.Duration(t, timeVariable, 80*time.Second)
	w := newWorld(t)
	// A token is asked for once, and known from then on. That must not be while the
	// first leader steps down: then nobody can say whether it is valid.
	if err := w.opens(t.Context(), w.token); err != nil {
		t.Fatal(err)
	}
	started := time.Now()

	var samples []sample
	take := func(s sample) {
		s.At = time.Since(started)
		samples = append(samples, s)
	}
	first := min(during/3, 5*time.Minute)
	w.run(t, first)
	before := w.settle(t, nil)
	take(before)
	parts := min(max(int((during-first)/(20*time.Second)), 1), 20)
	for range parts {
		w.run(t, (during-first)/time.Duration(parts))
		take(w.sample(t))
	}
	take(w.settle(t, &before))

	for _, wrong := range w.wrong {
		t.Error(wrong)
	}
	for kind := range merge(w.work(), w.changes(), w.failures()) {
		if w.counts[kind] == 0 {
			t.Errorf("%s: none in %s", kind, during)
		}
	}
	measure.Publish(t, "soak", machine, table(during, w.counts, samples), map[string]any{"counts": w.counts, "samples": samples}, curve(samples))
}

func merge(all ...map[string]func(context.Context) error) map[string]func(context.Context) error {
	merged := map[string]func(context.Context) error{}
	for _, m := range all {
		maps.Copy(merged, m)
	}
	return merged
}

// run has everything happen for some time.
func (w *world) run(t *testing.T, during time.Duration) {
	t.Helper()
	end := time.Now().Add(during)
	// Pieces of work are finished after the end, and so is what they wait for.
	ctx := t.Context()
	var all sync.WaitGroup
	repeat := func(name string, pause time.Duration, f func(context.Context) error) {
		all.Go(func() {
			for time.Now().Before(end) {
				w.done(name, f(ctx))
				<-time.After(pause)
			}
		})
	}
	for range measure.Int(t, workersVariable, 4) {
		for name, f := range w.work() {
			repeat(name, 50*time.Millisecond, f)
		}
	}
	for name, f := range w.changes() {
		repeat(name, time.Second, f)
	}
	for name, f := range w.failures() {
		repeat(name, max(5*time.Second, during/4), f)
	}
	all.Wait()
}

// settle waits until nothing is under way any more, and the gateway has no more than
// before, and returns what it has. It fails the test where that does not come about.
func (w *world) settle(t *testing.T, before *sample) sample {
	t.Helper()
	w.client.CloseIdleConnections()
	last := w.sample(t)
	w.Eventually("the gateway is at rest, and as small as before", func() error {
		<-time.After(500 * time.Millisecond)
		now := w.sample(t)
		moved := apart(now.Goroutines, last.Goroutines) || apart(now.OpenFiles, last.OpenFiles)
		last = now
		if moved {
			return fmt.Errorf("it is not at rest: %+v", now)
		}
		return now.grown(before)
	})
	return last
}

// apart reports whether two counts differ by more than looking at them does: each
// look is a connection.
func apart(a, b int) bool { return max(a, b)-min(a, b) > 4 }

// Allowances: connections and goroutines come and go with requests, and memory is
// given back late.
const (
	moreGoroutines = 20
	moreFiles      = 20
	moreMemory     = 24 << 20
)

func (s *sample) grown(before *sample) error {
	switch {
	case before == nil:
		return nil
	case s.Goroutines > before.Goroutines+moreGoroutines:
		return fmt.Errorf("%d goroutines, and %d before", s.Goroutines, before.Goroutines)
	case s.OpenFiles > before.OpenFiles+moreFiles:
		return fmt.Errorf("%d open files, and %d before", s.OpenFiles, before.OpenFiles)
	case s.Resident > before.Resident*5/4+moreMemory:
		return fmt.Errorf("%d MB of memory, and %d before", s.Resident>>20, before.Resident>>20)
	case s.Leases > before.Leases:
		return fmt.Errorf("%d leases, and %d before", s.Leases, before.Leases)
	}
	return nil
}

func (w *world) sample(t *testing.T) sample {
	t.Helper()
	pid := w.gateway.Process.Pid()
	return sample{
		Goroutines: int(measure.Gauge(t, w.gateway, "go_goroutines")),
		Resident:   measure.Resident(t, pid),
		OpenFiles:  measure.OpenFiles(t, pid),
		Leases:     w.leases(t, "sys/leases/lookup/mcp/creds/") + w.leases(t, "sys/leases/lookup/auth/approle/login"),
	}
}

// leases counts those below a path.
func (w *world) leases(t *testing.T, path string) int {
	t.Helper()
	var keys []any
	w.Eventually("Vault says which leases there are", func() error {
		listed, err := w.vault.Logical().ListWithContext(t.Context(), path)
		if err == nil && listed != nil {
			keys, _ = listed.Data["keys"].([]any)
		}
		return err
	})
	count := 0
	for _, key := range keys {
		name, _ := key.(string)
		if below, folder := strings.CutSuffix(name, "/"); folder {
			count += w.leases(t, strings.TrimSuffix(path, "/")+"/"+below)
			continue
		}
		count++
	}
	return count
}

func table(during time.Duration, counts map[string]int, samples []sample) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, with\n\n", during)
	for _, kind := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(&b, "- %d %s\n", counts[kind], kind)
	}
	b.WriteString("\n| after | goroutines | memory MB | open files | leases |\n|---:|---:|---:|---:|---:|\n")
	for _, s := range samples {
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d |\n", s.At.Round(time.Second), s.Goroutines, s.Resident>>20, s.OpenFiles, s.Leases)
	}
	return b.String()
}

// curve draws the samples against the time.
func curve(samples []sample) picture.Lines {
	of := func(name string, value func(sample) float64) picture.Line {
		line := picture.Line{Name: name}
		for _, at := range samples {
			line.Points = append(line.Points, [2]float64{at.At.Minutes(), value(at)})
		}
		return line
	}
	return picture.Lines{Name: "soak", Title: "A gateway under mixed work", X: "minutes", Panels: []picture.Panel{
		{Title: "number", Lines: []picture.Line{
			of("goroutines", func(s sample) float64 { return float64(s.Goroutines) }),
			of("open files", func(s sample) float64 { return float64(s.OpenFiles) }),
		}},
		{Title: "memory, MB", Lines: []picture.Line{of("memory", func(s sample) float64 { return float64(s.Resident >> 20) })}},
	}}
}
