package measure

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"
)

// folderVariable names the folder for the figures, docs/performance for those of the
// documentation. Unset: Publish only prints them.
const folderVariable = "BENCH_OUT"

// Publish prints a table, and where the environment names a folder it writes the
// figures there as NAME.json, and the table into the page beside that folder
// (docs/performance.md beside docs/performance), between the lines
// <!-- NAME --> and <!-- /NAME -->.
func Publish(t testing.TB, name string, on Machine, table string, figures any, curves ...Curve) {
	t.Helper()
	text := on.String() + "\n\n" + strings.TrimSpace(table) + "\n"
	fmt.Printf("\n%s\n", text)
	folder := os.Getenv(folderVariable)
	if folder == "" {
		return
	}
	content, err := json.MarshalIndent(map[string]any{"machine": on, "figures": figures, "curves": curves}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, name+".json"), append(content, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := insert(filepath.Clean(folder)+".md", name, text); err != nil {
		t.Fatal(err)
	}
}

// Curve is a picture, which scripts/plot draws.
type Curve struct {
	Name   string   `json:"name"` // of the file, without its ending
	Title  string   `json:"title"`
	X      string   `json:"x"`
	Y      string   `json:"y"`
	LogX   bool     `json:"log_x"`
	Series []Series `json:"series"`
}

// Series is one line of it.
type Series struct {
	Name   string       `json:"name"`
	Points [][2]float64 `json:"points"`
}

// insert replaces the text between a section's marks.
func insert(page, name, text string) error {
	content, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	open, end := "<!-- "+name+" -->\n", "<!-- /"+name+" -->"
	before, rest, opened := strings.Cut(string(content), open)
	_, after, ended := strings.Cut(rest, end)
	if !opened || !ended {
		return fmt.Errorf("%s has no section between %q and %q", page, strings.TrimSpace(open), end)
	}
	return os.WriteFile(page, []byte(before+open+text+end+after), 0o644)
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

// ThisMachine examines the machine. Call it before the benchmark's own work begins.
func ThisMachine(t testing.TB) Machine {
	t.Helper()
	m := Machine{CPUs: runtime.NumCPU(), Go: runtime.Version(), When: time.Now().UTC().Truncate(time.Second)}
	m.Model = match(t, "/proc/cpuinfo", `(?m)^model name\s*: (.*)$`)
	m.Kernel = match(t, "/proc/sys/kernel/osrelease", `^(\d+\.\d+)`)
	idle := idleTime(t)
	<-time.After(time.Second)
	m.Busy = max(0, float64(m.CPUs)-(idleTime(t)-idle).Seconds())
	return m
}

// idleTime is the idle time of all CPUs together.
func idleTime(t testing.TB) time.Duration {
	t.Helper()
	const tick = 10 * time.Millisecond // of Linux, for all programs
	return time.Duration(Number(t, match(t, "/proc/stat", `^cpu +\d+ \d+ \d+ (\d+)`))) * tick
}

func match(t testing.TB, path, pattern string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if found := regexp.MustCompile(pattern).FindSubmatch(content); found != nil {
		return string(found[1])
	}
	return "unknown"
}

// String describes the machine in one line, with a warning if it was busy.
func (m Machine) String() string {
	text := fmt.Sprintf("%d × %s, Linux %s, %s, %s.", m.CPUs, m.Model, m.Kernel, m.Go, m.When.Format(time.DateOnly))
	if m.Busy > busy {
		text += fmt.Sprintf(" **The machine was doing other work (%.1f of its CPUs): take the ratios, not the figures.**", m.Busy)
	}
	return text
}
