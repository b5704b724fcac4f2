package process

import (
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"syscall"
)

// guard is a shell that waits for this program to end. Where that happens while
// a process still runs, because this program crashed or was killed, the guard
// kills the process's group. (With Pdeathsig, Linux could kill the
// process itself, but not the processes that it started.)
type guard struct {
	cmd  *exec.Cmd
	held io.Closer // the kernel closes it when this program ends
}

// guardScript waits for the end of its input. The group's id is its argument.
const guardScript = `read -r _; kill -s KILL -- "-$1" 2>/dev/null`

// watch starts the guard of a process group.
func watch(leader int) (*guard, error) {
	cmd := exec.Command("/bin/sh", "-c", guardScript, "sh", strconv.Itoa(leader)) //nolint:gosec,noctx // a number is all that is added, and dismiss ends it
	cmd.SysProcAttr = ownGroup()
	held, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("cannot watch over it: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot watch over it: %w", err)
	}
	return &guard{cmd: cmd, held: held}, nil
}

// dismiss ends the guard before it acts.
func (g *guard) dismiss() {
	_ = g.cmd.Process.Kill()
	_ = g.held.Close()
	_ = g.cmd.Wait()
}

// ownGroup makes a child the leader of a process group.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
