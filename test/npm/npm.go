// Package npm installs and runs npm packages for tests: MCP clients, servers and the
// conformance suite, as their users install them. A test's folder pins them in
// package.json and package-lock.json; scripts/npm.sh installs them into the
// repository's cache, once, together with a Node that runs all of it.
package npm

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// Modules are the installed packages of a package-lock.json.
type Modules struct {
	// Dir holds node_modules.
	Dir string
	// Node is the program that runs them.
	Node string
}

// Install installs the packages that the folder of the test pins, unless they are
// installed already.
func Install(t testing.TB) Modules {
	t.Helper()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	folder, err := filepath.Rel(root(t), here)
	if err != nil {
		t.Fatal(err)
	}
	return InstallFrom(t, folder)
}

// InstallFrom is Install for the packages of another folder of the repository. If
// $TEST_NPM names a folder that scripts/npm.sh has made, it uses the packages there.
func InstallFrom(t testing.TB, folder string) Modules {
	t.Helper()
	if dir := os.Getenv("TEST_NPM"); dir != "" {
		return Modules{Dir: dir, Node: filepath.Join(dir, "node")}
	}
	root := root(t)
	cmd := exec.CommandContext(t.Context(), filepath.Join(root, "scripts", "npm.sh"), folder)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", cmd, err)
	}
	dir := strings.TrimSpace(string(out))
	return Modules{Dir: dir, Node: filepath.Join(dir, "node")}
}

// root is the repository's folder.
func root(t testing.TB) string {
	t.Helper()
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		t.Fatal("cannot tell where the repository is")
	}
	return filepath.Join(filepath.Dir(file), "..", "..")
}

// Path is a file of an installed package.
func (m Modules) Path(elements ...string) string {
	return filepath.Join(append([]string{m.Dir, "node_modules"}, elements...)...)
}

// Program is the script that a package installs under a name.
func (m Modules) Program(name string) string { return m.Path(".bin", name) }

// Command runs a package's program.
func (m Modules) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, m.Node, append([]string{m.Program(name)}, args...)...)
}
