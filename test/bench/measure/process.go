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

// CPU is the CPU time of all running threads of a process. Unlike /proc/PID/stat, which
// counts in steps of 10 ms, it is exact.
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

// Resident is the resident memory of a process, in bytes.
func Resident(t testing.TB, pid int) int64 {
	t.Helper()
	return int64(status(t, pid, "VmRSS")) << 10
}

// ResidentFiles is the part of it that are pages of files: of the program, above all.
func ResidentFiles(t testing.TB, pid int) int64 {
	t.Helper()
	return int64(status(t, pid, "RssFile")) << 10
}

// Parent is the id of a process's parent.
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

// OpenFiles is the number of a process's file descriptors.
func OpenFiles(t testing.TB, pid int) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// Number parses a number, or fails the test.
func Number(t testing.TB, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// SameSession fails if one of the processes belongs to another session than this one. The
// kernel shares the processors among sessions first (sched_autogroup), so a process of
// another session would have another share.
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
