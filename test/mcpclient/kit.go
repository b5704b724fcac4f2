// Package mcpclient runs MCP clients as their users do: those from npm as programs,
// and the Go SDK's. A scripted model answers Claude Code in place of a real
// one.
package mcpclient

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"vault-plugin-secrets-mcp/test/npm"
)

// Patience bounds the time of one command of a client.
const Patience = time.Minute

// Kit has the means to run clients from npm.
type Kit struct {
	Modules npm.Modules
	// Environment is the environment of a program with the folder as its home.
	Environment func(home string) []string
	// Patience bounds how long a program may run.
	Patience time.Duration
}

// Command is a program in the kit's environment, in its own folder. It and its child
// processes end with the test.
func (k *Kit) Command(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), k.Patience)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = t.TempDir()
	cmd.Env = k.Environment(cmd.Dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	return cmd
}

// Program is a package's program.
func (k *Kit) Program(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	return k.Command(t, k.Modules.Node, append([]string{k.Modules.Program(name)}, args...)...)
}

// Quiet are settings with which the programs report nothing to their makers, and
// print no colours.
func Quiet() []string {
	return []string{
		"LANG=C.UTF-8", "TERM=dumb", "NO_COLOR=1", "CI=1",
		"DO_NOT_TRACK=1", "NO_UPDATE_NOTIFIER=1",
		"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1", "DISABLE_AUTOUPDATER=1",
		"GEMINI_TELEMETRY_ENABLED=false",
	}
}

// Output runs a program to its end, and returns its standard output. The error has
// everything that it printed.
func Output(cmd *exec.Cmd) (string, error) {
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%w\n%s%s", err, out.String(), problems.String())
	}
	return out.String(), nil
}
