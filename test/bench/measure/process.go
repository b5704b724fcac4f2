package measure

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// CPU is the CPU time that a process has used, of all its threads that run.
// Unlike /proc/PID/stat, which counts in steps of 10 ms, it is exact.
func CPU(t testing.TB, pid int) time.Duration {
	t.Helper()
	paths, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(paths) == 0 {
		t.Fatalf("process %d does not run, or /proc does not tell: %v", pid, err)
	}
	var used time.Duration
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			continue // the thread has ended
		}
		running, _, _ := bytes.Cut(content, []byte(" "))
		used += time.Duration(number(t, string(running)))
	}
	return used
}

// Resident is the memory that a process has, in bytes.
func Resident(t testing.TB, pid int) int64 {
	t.Helper()
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, found := strings.Cut(string(content), "VmRSS:")
	if !found {
		t.Fatalf("/proc/%d/status names no VmRSS", pid)
	}
	return int64(number(t, strings.Fields(after)[0])) << 10
}

// OpenFiles is how many file descriptors a process has.
func OpenFiles(t testing.TB, pid int) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func number(t testing.TB, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
