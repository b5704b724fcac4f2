package harness

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// Programs are the paths of the programs under test.
type Programs struct {
	Vault, Plugin, Gateway, Bootstrap string
	// OpenBao: Vault is OpenBao's server instead.
	OpenBao bool
}

// FindPrograms calls make once to build the programs that the environment does not name.
func FindPrograms(t testing.TB) Programs {
	t.Helper()
	programs, err := findPrograms()
	if err != nil {
		t.Fatal(err)
	}
	return programs
}

var findPrograms = sync.OnceValues(func() (Programs, error) {
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		return Programs{}, fmt.Errorf("cannot find the repository")
	}
	root := filepath.Join(filepath.Dir(file), "..", "..")

	vault, dir := os.Getenv("TEST_VAULT"), os.Getenv("TEST_PROGRAMS")
	if vault == "" {
		out, err := run(root, "scripts/tool.sh", "vault")
		if err != nil {
			return Programs{}, err
		}
		vault = strings.TrimSpace(out)
	}
	if dir == "" {
		if _, err := run(root, "make", "test-programs"); err != nil {
			return Programs{}, err
		}
		dir = filepath.Join(root, ".cache", "race")
	}
	programs := Programs{
		Vault:     vault,
		Plugin:    filepath.Join(dir, "vault-plugin-secrets-mcp"),
		Gateway:   filepath.Join(dir, "mcp-gateway"),
		Bootstrap: filepath.Join(dir, "mcp-bootstrap"),
	}
	for _, path := range []string{programs.Vault, programs.Plugin, programs.Gateway, programs.Bootstrap} {
		if _, err := os.Stat(path); err != nil {
			return Programs{}, fmt.Errorf("a program to test is missing: %w", err)
		}
	}
	version, err := exec.Command(programs.Vault, "version").Output()
	if err != nil {
		return Programs{}, fmt.Errorf("%s does not tell its version: %w", programs.Vault, err)
	}
	programs.OpenBao = bytes.HasPrefix(version, []byte("OpenBao "))
	return programs, nil
})

func run(dir, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("cannot build the programs to test: %s: %w", cmd, err)
	}
	return string(out), nil
}
