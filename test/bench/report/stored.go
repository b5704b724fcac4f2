package report

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"vault-plugin-secrets-mcp/test/bench/report/picture"
)

// Stored is one file of figures.
type Stored[Figures any] struct {
	Machine Machine         `json:"machine"`
	Figures Figures         `json:"figures"`
	Curves  []picture.Lines `json:"curves,omitempty"`
}

// Load reads the file of a name in a folder.
func Load[Figures any](folder, name string) (Stored[Figures], error) {
	var s Stored[Figures]
	path := filepath.Join(folder, name+".json")
	content, err := os.ReadFile(path)
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(content, &s); err != nil {
		return s, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// Save writes it.
func (s Stored[Figures]) Save(folder, name string) error {
	content, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, name+".json"), append(content, '\n'), 0o644)
}

// Machine is the machine of a measurement.
type Machine struct {
	CPUs   int       `json:"cpus"`
	Model  string    `json:"model"`
	Kernel string    `json:"kernel"`
	Go     string    `json:"go"`
	When   time.Time `json:"when"`
	// Busy is the number of CPUs that did other work just before.
	Busy float64 `json:"busy"`
}

// busy is the number of CPUs above which other work distorts the figures.
const busy = 0.2

// String describes the machine in one line, with a warning if it was busy.
func (m Machine) String() string {
	text := fmt.Sprintf("%d × %s, Linux %s, %s, %s.", m.CPUs, m.Model, m.Kernel, m.Go, m.When.Format(time.DateOnly))
	if m.Busy > busy {
		text += fmt.Sprintf(" **The machine was doing other work (%.1f of its CPUs): take the ratios, not the figures.**", m.Busy)
	}
	return text
}

// Spread is a figure over all rounds of its measurement.
type Spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// SpreadOf is the spread of some values.
func SpreadOf(values []float64) Spread {
	if len(values) == 0 {
		return Spread{}
	}
	sorted := slices.Sorted(slices.Values(values))
	return Spread{Median: sorted[len(sorted)/2], Min: sorted[0], Max: sorted[len(sorted)-1]}
}
