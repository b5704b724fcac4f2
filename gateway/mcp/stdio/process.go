package stdio

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"

	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/mcp/bridge"
)

const (
	// maxMessage bounds one message of a child, in bytes.
	maxMessage = 16 << 20

	// sendTimeout is how long a child may leave a message unread.
	sendTimeout = 10 * time.Second

	// drainTimeout bounds the wait for the output of a child that has ended: a
	// process that left its process group may hold the other end.
	drainTimeout = time.Second

	// killTimeout is how long a child may take to end whose credentials were taken away.
	// Nobody waits for the rest of its output longer than that, either.
	killTimeout = 200 * time.Millisecond
)

var (
	// ErrMessageSize: the child has sent a message that is too large.
	ErrMessageSize = fmt.Errorf("a message is larger than %d bytes", maxMessage)
	errStdinClosed = errors.New("the child's standard input is closed")
)

// Process is one child. It is a [bridge.Conn].
type Process struct {
	launcher  *Launcher
	log       hclog.Logger
	receiver  bridge.Receiver
	cmd       *exec.Cmd
	resources resources
	tail      *tail

	stdout, stderr *os.File

	sendMu sync.Mutex
	stdin  *os.File // nil once closed

	mu            sync.Mutex
	reaped        bool // another process may have its id now
	stopRequested bool // by the gateway
	closing       bool
	killing       bool
	timers        []*time.Timer
}

// Start starts the registered server with the values, in the place of those that the
// registration has. Its messages go to the receiver.
func (l *Launcher) Start(server *grants.Server, values Values, receiver bridge.Receiver) (*Process, error) {
	if err := l.begin(); err != nil {
		return nil, err
	}
	p, err := l.launch(server, values, receiver)
	if err != nil {
		l.running.Done()
		return nil, err
	}
	go p.run()
	return p, nil
}

// launch starts the child.
func (l *Launcher) launch(server *grants.Server, values Values, receiver bridge.Receiver) (*Process, error) {
	if err := values.check(); err != nil {
		return nil, err
	}
	path, err := l.program(server.Command)
	if err != nil {
		return nil, err
	}
	of, err := l.allocate(values.Files)
	if err != nil {
		return nil, err
	}
	p := &Process{
		launcher: l, receiver: receiver, resources: of, tail: newTail(values),
		cmd: &exec.Cmd{SysProcAttr: attributes(of.account.credential)},
	}
	err = p.start(&order{
		Path: path, Args: append([]string{server.Command}, server.Args...), Env: values.environment(of.home),
		Home: of.home, Homes: l.homes.root, Domain: l.domain,
	})
	if err != nil {
		l.free(of)
		return nil, explain(err, of.account)
	}
	p.log = l.log.With("server", server.Name, "pid", p.cmd.Process.Pid)
	p.log.Info("started a stdio server")
	return p, nil
}

// start makes the pipes, and starts the child with its ends of them.
func (p *Process) start(o *order) (err error) {
	var child []*os.File // the child's ends, which the gateway does not need
	defer func() {
		for _, f := range child {
			_ = f.Close()
		}
		if err != nil {
			for _, f := range []*os.File{p.stdin, p.stdout, p.stderr} {
				if f != nil {
					_ = f.Close()
				}
			}
		}
	}()
	pipe := func() (r, w *os.File) {
		if err == nil {
			r, w, err = os.Pipe()
		}
		return r, w
	}
	inR, inW := pipe()
	outR, outW := pipe()
	errR, errW := pipe()
	for _, f := range []*os.File{inR, outW, errW} {
		if f != nil {
			child = append(child, f)
		}
	}
	p.stdin, p.stdout, p.stderr = inW, outR, errR
	if err != nil {
		return err
	}
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = inR, outW, errW
	if err := p.launcher.instruct(p.cmd, o); err != nil {
		if p.cmd.Process != nil {
			_ = p.cmd.Process.Kill()
			_ = p.cmd.Wait() // err has its report already
		}
		return err
	}
	return nil
}

// run reads from the child until it ends, and cleans up after it.
func (p *Process) run() {
	defer p.launcher.running.Done()
	var reading sync.WaitGroup
	var readErr error
	reading.Go(func() {
		readErr = p.readMessages()
		p.stop() // a server that has closed its output is of no use
	})
	reading.Go(p.readErrors)

	pid := p.cmd.Process.Pid
	waitable := awaitExit(pid)
	if waitable {
		// The child is a zombie now, so its process group cannot belong to
		// another process.
		p.signal(syscall.SIGKILL)
	}
	err := p.cmd.Wait()
	if !waitable {
		p.signal(syscall.SIGKILL)
	}
	p.mu.Lock()
	p.reaped = true
	for _, t := range p.timers {
		t.Stop()
	}
	stopRequested, drain := p.stopRequested, drainTimeout
	if p.killing {
		drain = killTimeout
	}
	p.mu.Unlock()
	reapGroup(pid)

	deadline := time.Now().Add(drain)
	_ = p.stdout.SetReadDeadline(deadline)
	_ = p.stderr.SetReadDeadline(deadline)
	reading.Wait()
	p.closeStdin()
	_ = p.stdout.Close()
	_ = p.stderr.Close()

	state := p.cmd.ProcessState.String()
	switch {
	case readErr != nil:
		p.log.Error("a stdio server broke the protocol and was ended", "error", readErr, "state", state)
		err = readErr
	case stopRequested:
		p.log.Info("a stdio server has ended", "state", state)
	default:
		p.log.Warn("a stdio server has ended by itself", "state", state, "stderr", p.tail.text())
		if err == nil {
			err = errors.New(state)
		}
	}
	p.receiver.Gone(err)
	p.launcher.free(p.resources)
}

// readMessages passes the child's messages to the receiver until its output ends.
func (p *Process) readMessages() error {
	lines := bufio.NewReaderSize(p.stdout, 64<<10)
	var long []byte // a line that is longer than the reader's buffer
	for {
		part, err := lines.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			if len(long)+len(part) > maxMessage {
				return ErrMessageSize
			}
			long = append(long, part...)
			continue
		}
		line := part
		if len(long) > 0 {
			long = append(long, part...)
			line, long = long, nil
		}
		if line = bytes.TrimSpace(line); len(line) > 0 {
			p.receiver.Message(line)
		}
		if err != nil {
			return nil //nolint:nilerr // the output has ended for any reason: the exit status says more
		}
	}
}

// Send writes one message, on a line of its own.
func (p *Process) Send(message []byte) error {
	line := make([]byte, len(message)+1)
	copy(line, message)
	for i, c := range line {
		if c == '\n' || c == '\r' {
			line[i] = ' ' // in JSON they are only between tokens
		}
	}
	line[len(message)] = '\n'
	p.sendMu.Lock()
	defer p.sendMu.Unlock()
	if p.stdin == nil {
		return errStdinClosed
	}
	_ = p.stdin.SetWriteDeadline(time.Now().Add(p.launcher.sendTimeout))
	if _, err := p.stdin.Write(line); err != nil {
		// The child may have got a part of the message: nothing can follow it.
		_ = p.stdin.Close()
		p.stdin = nil
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return errors.New("the child does not read its standard input")
		}
		return err
	}
	return nil
}

func (p *Process) closeStdin() {
	p.sendMu.Lock()
	defer p.sendMu.Unlock()
	if p.stdin != nil {
		_ = p.stdin.Close()
		p.stdin = nil
	}
}

// Close ends the child. It closes its standard input, later sends it SIGTERM, and at
// last kills it with its process group.
func (p *Process) Close() {
	p.mu.Lock()
	p.stopRequested = true
	p.mu.Unlock()
	p.stop()
}

func (p *Process) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closing || p.reaped {
		return
	}
	p.closing = true
	stop := p.launcher.stop
	p.timers = append(p.timers,
		time.AfterFunc(stop/2, func() { p.signal(syscall.SIGTERM) }),
		time.AfterFunc(stop, func() { p.signal(syscall.SIGKILL) }))
	go p.closeStdin() // it may have to wait for a message that is being written
}

// Kill ends the child as Close does, but at once: it may do no more with its credentials.
func (p *Process) Kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopRequested = true
	if p.killing || p.reaped {
		return
	}
	p.closing, p.killing = true, true
	p.sendSignal(syscall.SIGTERM)
	p.timers = append(p.timers, time.AfterFunc(killTimeout, func() { p.signal(syscall.SIGKILL) }))
	go p.closeStdin() // it may have to wait for a message that is being written
}

// signal sends a signal to the child's process group, until the child is reaped.
func (p *Process) signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sendSignal(s)
}

// sendSignal is signal under the lock.
func (p *Process) sendSignal(s syscall.Signal) {
	if !p.reaped {
		_ = syscall.Kill(-p.cmd.Process.Pid, s) // it may be gone already
	}
}
