package report

import (
	"cmp"
	"slices"
	"time"
)

// Calls are the figures of a benchmark that compares requests of many kinds.
type Calls struct {
	Rounds   int           `json:"rounds"` // of what a bound is about, and of what that is compared with
	Seldom   int           `json:"seldom"` // of everything else
	Duration time.Duration `json:"duration_ns"`
	Runs     int           `json:"runs"`
	Rows     []Row         `json:"rows"`
}

// Row has the figures of requests of one kind to one place, over so many connections; times
// are in microseconds.
type Row struct {
	Scene       string `json:"scene"`
	Target      string `json:"target"`
	Connections int    `json:"connections"`

	PerSecond Spread `json:"requests_per_second"`
	P50       Spread `json:"p50_us"`
	P95       Spread `json:"p95_us"`
	P99       Spread `json:"p99_us"`
	CPU       Spread `json:"cpu_us"`
	Resident  Spread `json:"resident_bytes"`

	// What it is compared with, and the ratios, which are made within each round.
	Beside   string `json:"beside,omitempty"`
	Ratio    Spread `json:"ratio,omitzero"`
	P99Ratio Spread `json:"p99_ratio,omitzero"`
	CPURatio Spread `json:"cpu_ratio,omitzero"`

	// Of a gateway only.
	Gateway *Gateway `json:"gateway,omitempty"`
}

// Gateway has what only a gateway can be asked for. Each figure is for one request.
type Gateway struct {
	VaultCalls  Spread `json:"vault_calls"`
	AuditBytes  Spread `json:"audit_bytes"`
	Allocations Spread `json:"allocations"`
	// Parts are what its resident memory is made of, where that was looked at.
	Parts *Parts `json:"memory_bytes,omitempty"`
}

// Parts are those of a gateway's resident memory. The rest is its heap.
type Parts struct {
	Program Spread `json:"program"` // pages of the program that are in memory
	Runtime Spread `json:"runtime"` // Go's own
	Stacks  Spread `json:"stacks"`
}

// Find is the row of a kind; nil: there is none.
func (c *Calls) Find(scene, target string, connections int) *Row {
	for i := range c.Rows {
		if r := &c.Rows[i]; r.Scene == scene && r.Target == target && r.Connections == connections {
			return r
		}
	}
	return nil
}

// spreads are all figures of a row.
func (r *Row) spreads() []*Spread {
	all := []*Spread{&r.PerSecond, &r.P50, &r.P95, &r.P99, &r.CPU, &r.Resident, &r.Ratio, &r.P99Ratio, &r.CPURatio}
	if r.Gateway != nil {
		all = append(all, &r.Gateway.VaultCalls, &r.Gateway.AuditBytes, &r.Gateway.Allocations)
		if p := r.Gateway.Parts; p != nil {
			all = append(all, &p.Program, &p.Runtime, &p.Stacks)
		}
	}
	return all
}

// Middle has of each figure the one of the run in the middle. All runs have the same rows.
func Middle(runs [][]Row) []Row {
	if len(runs) == 0 {
		return nil
	}
	middle := slices.Clone(runs[0])
	for i := range middle {
		if g := middle[i].Gateway; g != nil {
			own := *g
			if g.Parts != nil {
				parts := *g.Parts
				own.Parts = &parts
			}
			middle[i].Gateway = &own
		}
		for figure, into := range middle[i].spreads() {
			of := make([]Spread, 0, len(runs))
			for _, run := range runs {
				of = append(of, *run[i].spreads()[figure])
			}
			slices.SortFunc(of, func(a, b Spread) int { return cmp.Compare(a.Median, b.Median) })
			*into = of[len(of)/2]
		}
	}
	return middle
}
