package engine

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

// processes are those whose CPU a request takes.
type processes struct {
	vault, plugin int
}

// findProcesses finds the processes that run out of the test's folder: the plugin
// by its program, and Vault, which has started it.
func findProcesses(b *testing.B, dir string) processes {
	b.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		b.Fatal(err)
	}
	for _, link := range links {
		if exe, err := os.Readlink(link); err != nil || !strings.HasPrefix(exe, dir) {
			continue
		}
		plugin := number(b, filepath.Base(filepath.Dir(link)))
		return processes{plugin: plugin, vault: number(b, string(stat(b, plugin)[1]))}
	}
	b.Fatal("the plugin does not run")
	return processes{}
}

// stat is the fields of /proc/PID/stat that follow the program's name.
func stat(b *testing.B, pid int) [][]byte {
	b.Helper()
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	return bytes.Fields(content[bytes.LastIndexByte(content, ')')+1:])
}

// cpu is the CPU time that a process has used.
func cpu(b *testing.B, pid int) time.Duration {
	b.Helper()
	const tick = 10 * time.Millisecond // of Linux, for all programs
	fields := stat(b, pid)
	return time.Duration(number(b, string(fields[11]))+number(b, string(fields[12]))) * tick
}

func number(b *testing.B, text string) int {
	b.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		b.Fatal(err)
	}
	return n
}
