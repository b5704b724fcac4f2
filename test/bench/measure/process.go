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

	"golang.org/x/sys/unix"
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
		used += time.Duration(Number(t, string(running)))
	}
	return used
}

// Resident is the memory that a process has, in bytes.
func Resident(t testing.TB, pid int) int64 {
	t.Helper()
	return int64(status(t, pid, "VmRSS")) << 10
}

// Parent is the process that has started a process.
func Parent(t testing.TB, pid int) int {
	t.Helper()
	return status(t, pid, "PPid")
}

// status is a number in /proc/PID/status.
func status(t testing.TB, pid int, field string) int {
	t.Helper()
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, found := strings.Cut(string(content), "\n"+field+":")
	if !found {
		t.Fatalf("/proc/%d/status names no %s", pid, field)
	}
	return Number(t, strings.Fields(after)[0])
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

// Number reads one that must be there.
func Number(t testing.TB, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// SameSession fails where one of the processes is of another session than this one.
// The kernel shares the processors among sessions first (sched_autogroup), so a
// process of another session has another share than those it is compared with.
func SameSession(t testing.TB, pids ...int) {
	t.Helper()
	own, err := unix.Getsid(0)
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids {
		if its, err := unix.Getsid(pid); err != nil || its != own {
			t.Fatalf("process %d is of session %d, and not of %d: %v", pid, its, own, err)
		}
	}
}
