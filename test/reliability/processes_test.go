package reliability

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-mcp/test/harness"
)

// wantNoneLeft fails the test if a gateway still has children after a while, be it
// as zombies, or if any process does that has the marker in its command line.
func wantNoneLeft(t *testing.T, g *harness.Gateway, marker string) {
	t.Helper()
	deadline := time.After(impatience)
	for {
		left := leftBehind(t, g, marker)
		if len(left) == 0 {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("left behind: %s", strings.Join(left, ", "))
		case <-time.After(pace):
		}
	}
}

func leftBehind(t *testing.T, g *harness.Gateway, marker string) []string {
	t.Helper()
	folders, err := filepath.Glob("/proc/[0-9]*")
	if err != nil || len(folders) == 0 {
		t.Fatalf("there is no /proc to look into: %v", err)
	}
	var left []string
	for _, folder := range folders {
		stat, err := os.ReadFile(filepath.Join(folder, "stat"))
		if err != nil {
			continue // it has ended
		}
		// pid (name) state ppid …
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		command, err := os.ReadFile(filepath.Join(folder, "cmdline"))
		if err != nil {
			continue
		}
		if string(fields[1]) == fmt.Sprint(g.Process.Pid()) || bytes.Contains(command, []byte(marker)) {
			left = append(left, string(bytes.TrimSpace(stat)))
		}
	}
	return left
}
