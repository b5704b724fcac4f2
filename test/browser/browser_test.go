package browser

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/npm"
)

// chromium returns the browser's program. It skips the test where the machine lacks a
// part, and fails it if TEST_FIELD is "required".
func chromium(t *testing.T) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join("..", "..", "scripts", "field.sh"), "missing", "browser")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	require.NoError(t, err)
	if missing := strings.TrimSpace(string(out)); missing != "" {
		if os.Getenv("TEST_FIELD") == "required" {
			t.Fatalf("missing on this machine:\n%s", missing)
		}
		t.Skipf("missing on this machine:\n%s", missing)
	}
	program, err := exec.LookPath("chromium")
	require.NoError(t, err)
	return program
}

// run runs a script of this folder in Node, and decodes what it prints.
func run(t *testing.T, script string, input, output any) {
	t.Helper()
	modules := npm.Install(t)
	text, err := json.Marshal(input)
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), modules.Node, script, modules.Dir)
	var told bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader(text), &told
	out, err := cmd.Output()
	require.NoError(t, err, "%s", &told)
	t.Logf("%s", &told)
	require.NoError(t, json.Unmarshal(out, output))
}
