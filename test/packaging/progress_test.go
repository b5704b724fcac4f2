package packaging

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTheTestsAreNeverSilentForLong runs scripts/test.sh with a `go` that tests two
// packages, of which the second one fails, and none of it before it is told to.
func TestTheTestsAreNeverSilentForLong(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "go"), []byte(`#!/bin/bash
if [ "$1" = list ]; then printf 'm/secrets-mcp/first\nm/secrets-mcp/second\n'; exit; fi
echo "a build's warning" >&2
printf 'ok  \tm/secrets-mcp/first\t1.2s\n'
printf 'half a line'
read -r _ <"$0.go-on"
printf ', and the rest\n--- FAIL: TestX (0.00s)\nFAIL\tm/secrets-mcp/second\t0.1s\nFAIL\n'
exit 3
`), 0o700))
	fifo := filepath.Join(dir, "go.go-on")
	output, err := exec.CommandContext(t.Context(), "mkfifo", fifo).CombinedOutput()
	require.NoError(t, err, string(output))

	command := exec.CommandContext(t.Context(), "../../scripts/test.sh", "-race", "-run", "TestX", "./...")
	command.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "TEST_SILENCE=0.2")
	var stdout strings.Builder
	command.Stdout = &stdout
	stderr, err := command.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, command.Start())
	var lines []string
	told := false
	for scanner := bufio.NewScanner(stderr); scanner.Scan(); {
		lines = append(lines, scanner.Text())
		if !told && strings.Contains(scanner.Text(), "1 of 2 packages have a result; not yet: second …") {
			told = true
			require.NoError(t, os.WriteFile(fifo, []byte("\n"), 0o600))
		}
	}
	err = command.Wait()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, 3, exit.ExitCode(), "the tests' own status")
	require.True(t, told, "%v", lines)
	require.Contains(t, lines, "a build's warning")
	require.Equal(t, "ok  \tm/secrets-mcp/first\t1.2s\nhalf a line, and the rest\n--- FAIL: TestX (0.00s)\nFAIL\tm/secrets-mcp/second\t0.1s\nFAIL\n", stdout.String())
}
