package measure

import (
	"fmt"
	"os"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-mcp/test/bench/report"
	"vault-plugin-secrets-mcp/test/bench/report/picture"
)

// folderVariable names the folder for the figures, docs/performance for those of the
// documentation. Unset: Publish only prints them.
const folderVariable = "BENCH_OUT"

// Publish prints a table, and where the environment names a folder it writes the
// figures there as NAME.json, and the table into the page beside that folder
// (docs/performance.md beside docs/performance), between the lines
// <!-- NAME --> and <!-- /NAME -->.
func Publish(t testing.TB, name string, on report.Machine, table string, figures any, curves ...picture.Lines) {
	t.Helper()
	text := on.String() + "\n\n" + strings.TrimSpace(table) + "\n"
	fmt.Printf("\n%s\n", text)
	folder := os.Getenv(folderVariable)
	if folder == "" {
		return
	}
	if err := (report.Stored[any]{Machine: on, Figures: figures, Curves: curves}).Save(folder, name); err != nil {
		t.Fatal(err)
	}
	if err := report.Insert(report.PageOf(folder), name, "\n"+text); err != nil {
		t.Fatal(err)
	}
}

// Store is Publish for figures of which package report makes all that the page says: it leaves
// the page to `make plot`.
func Store(t testing.TB, name string, on report.Machine, figures any, tables ...string) {
	t.Helper()
	fmt.Printf("\n%s\n\n%s\n", on, strings.Join(tables, "\n"))
	if folder := os.Getenv(folderVariable); folder != "" {
		if err := (report.Stored[any]{Machine: on, Figures: figures}).Save(folder, name); err != nil {
			t.Fatal(err)
		}
	}
}

// ThisMachine examines the machine. Call it before the benchmark's own work begins.
func ThisMachine(t testing.TB) report.Machine {
	t.Helper()
	m := report.Machine{CPUs: runtime.NumCPU(), Go: runtime.Version(), When: time.Now().UTC().Truncate(time.Second)}
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
