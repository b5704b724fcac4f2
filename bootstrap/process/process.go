// Package process runs other programs and makes sure that they end.
//
// Each Process leads a process group of its own. So a Ctrl-C in the terminal reaches only
// the program that started it, which then stops its children in an order of its choice; and
// stopping a Process also stops the programs that it has started (Vault's plugins, a
// gateway's stdio servers). If the starting program is killed, a guard kills them.
package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// Spec describes a process.
type Spec struct {
	// Name is the name of the process in messages.
	Name string
	// Path is the program, Args its arguments without the program's name. No
	// secret belongs in Args: every user of the machine can read them.
	Path string
	Args []string
	// Env is added to the environment of this program.
	Env []string
	// Log is the file that gets standard output and standard error. It is
	// created for its owner alone, or appended to.
	Log string
	// Keep decides which lines reach the log; nil keeps all of them. It is
	// there for programs that print secrets.
	Keep func(line []byte) bool
}

// Process is a program that was started.
type Process struct {
	spec Spec
	cmd  *exec.Cmd
	done chan struct{}
	err  error // how it ended; set before done is closed
}

// Start runs the program. It returns as soon as the program runs, which says
// nothing yet about whether it works.
func Start(spec Spec) (*Process, error) {
	if err := os.MkdirAll(filepath.Dir(spec.Log), 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the folder for the log of %s: %w", spec.Name, err)
	}
	logFile, err := os.OpenFile(spec.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot open the log of %s: %w", spec.Name, err)
	}

	cmd := exec.Command(spec.Path, spec.Args...) //nolint:gosec,noctx // running the given program is the purpose, and Stop ends it more gently than a context would
	cmd.Env = append(os.Environ(), spec.Env...)
	cmd.Stdout = &filter{keep: spec.Keep, out: logFile}
	if spec.Keep == nil {
		cmd.Stdout = logFile // the program writes by itself, and goes on if we die
	}
	cmd.Stderr = cmd.Stdout
	cmd.SysProcAttr = ownGroup()
	// Grandchildren may hold the output open longer than the program lives.
	cmd.WaitDelay = time.Second

	if err := cmd.Start(); err != nil {
		_ = logFile.Close()
		return nil, fmt.Errorf("cannot start %s: %w", spec.Name, err)
	}
	guard, err := watch(cmd.Process.Pid)
	if err != nil {
		killGroup(cmd.Process.Pid)
		return nil, errors.Join(fmt.Errorf("cannot start %s: %w", spec.Name, err), cmd.Wait(), logFile.Close())
	}
	p := &Process{spec: spec, cmd: cmd, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		killGroup(p.Pid()) // now, while the id cannot be anybody else's yet
		guard.dismiss()
		if f, ok := cmd.Stdout.(*filter); ok {
			f.flush()
		}
		_ = logFile.Close()
		close(p.done)
	}()
	return p, nil
}

// Name is the name of the process in messages.
func (p *Process) Name() string { return p.spec.Name }

// Log is the path of its log.
func (p *Process) Log() string { return p.spec.Log }

// Pid is the process's id, and that of its process group.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended and was reaped.
func (p *Process) Done() <-chan struct{} { return p.done }

// Running reports whether the process has not ended yet.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Err says how the process ended, in words that name it and its log. It is nil
// while the process runs.
func (p *Process) Err() error {
	if p.Running() {
		return nil
	}
	how := "exit status 0"
	if p.err != nil {
		how = p.err.Error()
	}
	return fmt.Errorf("%s ended by itself (%s); its log is %s:\n%s", p.spec.Name, how, p.spec.Log, p.Tail(10))
}

// Signal sends a signal to the process alone, not to its group.
func (p *Process) Signal(signal os.Signal) error {
	if err := p.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("cannot signal %s: %w", p.spec.Name, err)
	}
	return nil
}

// Stop ends the process: SIGTERM, then, after grace, SIGKILL. It returns once the
// process was reaped and the rest of its group has been killed.
func (p *Process) Stop(grace time.Duration) {
	_ = p.Signal(syscall.SIGTERM)
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		p.Kill()
	}
}

// Kill ends the process and its group with SIGKILL, and waits until it was
// reaped. It loses its unfinished work, as crash tests want.
func (p *Process) Kill() {
	if p.Running() {
		killGroup(p.Pid())
	}
	<-p.done
}

// Tail returns the last lines of the log, indented, for an error message.
func (p *Process) Tail(lines int) string {
	content, err := os.ReadFile(p.spec.Log)
	if err != nil {
		return "    (cannot read the log: " + err.Error() + ")"
	}
	content = bytes.TrimRight(content, "\n")
	if len(content) == 0 {
		return "    (the log is empty)"
	}
	all := bytes.Split(content, []byte("\n"))
	if len(all) > lines {
		all = all[len(all)-lines:]
	}
	return "    " + string(bytes.Join(all, []byte("\n    ")))
}

// Await polls until ready returns nil. It gives up when the process ends, when
// the context does, or after timeout; the error then says why, with the last
// answer of ready.
func (p *Process) Await(ctx context.Context, timeout time.Duration, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout,
		fmt.Errorf("%s was not ready within %s; its log is %s", p.spec.Name, timeout, p.spec.Log))
	defer cancel()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return p.Err()
		case <-ctx.Done():
			return fmt.Errorf("%w (%w)", context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}

// filter passes on the lines that keep wants, each whole.
type filter struct {
	keep func([]byte) bool
	out  io.Writer
	rest []byte
}

func (f *filter) Write(p []byte) (int, error) {
	f.rest = append(f.rest, p...)
	for {
		end := bytes.IndexByte(f.rest, '\n')
		if end < 0 {
			return len(p), nil
		}
		line := f.rest[:end+1]
		f.rest = f.rest[end+1:]
		if !f.keep(line) {
			continue
		}
		if _, err := f.out.Write(line); err != nil {
			return 0, err
		}
	}
}

// flush passes on a last line without an end.
func (f *filter) flush() {
	if len(f.rest) > 0 && f.keep(f.rest) {
		_, _ = f.out.Write(f.rest)
	}
	f.rest = nil
}
