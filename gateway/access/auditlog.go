package access

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"vault-plugin-secrets-mcp/gateway/config"
)

const (
	// auditTimeout is how long a decision waits to be written.
	auditTimeout = time.Second

	// auditTick is how often lines that nobody waits for are written, and how
	// often a write that hangs is looked for.
	auditTick = 100 * time.Millisecond

	// auditBacklog bounds the lines kept while a write hangs, in bytes. What
	// comes on top is lost, and counted.
	auditBacklog = 8 << 20
)

// AuditLog writes lines to a file, in the order in which they come. A line that
// somebody waits for is written at once, together with all that have gathered
// by then: one write serves many requests.
//
// Written means that the operating system has taken the line. That survives a
// crash of the gateway, though not one of the machine.
type AuditLog struct {
	log    hclog.Logger
	path   string
	output io.WriteCloser // used by run alone, once it runs
	wakeup chan struct{}
	reopen chan struct{}
	done   chan struct{}

	mu      sync.Mutex
	batch   *batch    // gathers lines
	writing *batch    // is being written; nil if none is
	started time.Time // when the writing began
	stalled bool      // the writing has taken too long
	lost    int       // lines, since the last log line about it
	closed  bool
}

// batch is the lines of one write, and those who wait for it.
type batch struct {
	lines    []byte
	finished chan struct{} // closed when err is known
	settled  bool          // err is known; guarded by AuditLog.mu
	err      error
}

func newBatch(spare []byte) *batch {
	return &batch{lines: spare, finished: make(chan struct{})}
}

// settle tells everybody who waits. The first result counts.
func (b *batch) settle(err error) {
	if !b.settled {
		b.settled, b.err = true, err
		close(b.finished)
	}
}

// OpenAuditLog opens the log. Close it to have everything written.
func OpenAuditLog(settings config.Audit, log hclog.Logger) (*AuditLog, error) {
	output, err := openAuditFile(settings.File)
	if err != nil {
		return nil, err
	}
	a := newAuditLog(output, log)
	a.path = settings.File
	return a, nil
}

func newAuditLog(output io.WriteCloser, log hclog.Logger) *AuditLog {
	a := &AuditLog{
		log:    log,
		output: output,
		wakeup: make(chan struct{}, 1),
		reopen: make(chan struct{}, 1),
		done:   make(chan struct{}),
		batch:  newBatch(nil),
	}
	go a.run()
	return a
}

func openAuditFile(path string) (io.WriteCloser, error) {
	if path == config.AuditStdout {
		return nopCloser{os.Stdout}, nil
	}
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	return file, nil
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// Reopen has the file opened anew, after it was moved away.
func (a *AuditLog) Reopen() {
	select {
	case a.reopen <- struct{}{}:
	default:
	}
}

// Close writes what is left, and ends the log.
func (a *AuditLog) Close() {
	a.mu.Lock()
	if a.closed {
		a.mu.Unlock()
		return
	}
	a.closed = true
	a.mu.Unlock()
	a.wake()
	select {
	case <-a.done:
	case <-time.After(auditTimeout):
		a.log.Error("the audit log could not be written to its end")
	}
}

// Write returns once the line is written. The error is ErrAudit, and means that
// it may not have been.
func (a *AuditLog) Write(line []byte) error {
	a.mu.Lock()
	if a.stalled || a.closed {
		a.mu.Unlock()
		return ErrAudit
	}
	b := a.batch
	b.lines = append(b.lines, line...)
	a.mu.Unlock()
	a.wake()
	<-b.finished
	return b.err
}

// Append has the line written soon.
func (a *AuditLog) Append(line []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.batch.lines) > auditBacklog {
		a.lost++
		return
	}
	a.batch.lines = append(a.batch.lines, line...)
}

func (a *AuditLog) wake() {
	select {
	case a.wakeup <- struct{}{}:
	default:
	}
}

// run writes, and has a second goroutine see to it that nobody waits for long.
func (a *AuditLog) run() {
	defer close(a.done)
	stop := make(chan struct{})
	defer close(stop)
	go a.watch(stop)
	ticker := time.NewTicker(auditTick)
	defer ticker.Stop()
	torn := false // the last write may have ended inside a line
	var spare []byte
	for {
		select {
		case <-a.wakeup:
		case <-ticker.C:
		case <-a.reopen:
			a.reopenFile()
			continue
		}
		b, closed := a.take(spare, torn)
		if b != nil {
			_, err := a.output.Write(b.lines)
			torn = err != nil
			a.finish(b, err)
			spare = reusable(b.lines)
		}
		if closed {
			if err := a.output.Close(); err != nil {
				a.log.Error("cannot close the audit log", "error", err)
			}
			return
		}
	}
}

// take returns the lines that have gathered, or nil if there are none.
func (a *AuditLog) take(spare []byte, torn bool) (b *batch, closed bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.batch.lines) == 0 {
		return nil, a.closed
	}
	b = a.batch
	if torn {
		b.lines = append([]byte{'\n'}, b.lines...)
	}
	a.batch = newBatch(spare)
	a.writing, a.started = b, time.Now()
	return b, a.closed
}

// finish settles what was written, or was not.
func (a *AuditLog) finish(b *batch, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stalled {
		a.log.Info("the audit log can be written again", "lines_lost", a.lost)
		a.stalled, a.lost = false, 0
	}
	a.writing = nil
	if err != nil {
		a.log.Error("cannot write the audit log: requests that would be allowed are refused", "error", err)
		b.settle(ErrAudit)
		return
	}
	b.settle(nil)
}

// watch releases those who wait for a write that hangs.
func (a *AuditLog) watch(stop <-chan struct{}) {
	ticker := time.NewTicker(auditTick)
	defer ticker.Stop()
	for {
		select {
		case <-stop:
			return
		case now := <-ticker.C:
			a.releaseWaiters(now)
		}
	}
}

func (a *AuditLog) releaseWaiters(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.writing == nil || now.Sub(a.started) < auditTimeout-auditTick {
		return
	}
	if !a.stalled {
		a.log.Error("writing the audit log hangs: requests that would be allowed are refused")
	}
	a.stalled = true
	a.writing.settle(ErrAudit)
	lines := a.batch.lines
	a.batch.settle(ErrAudit)
	a.batch = newBatch(lines)
}

// reusable returns the buffer's space unless it grew out of proportion.
func reusable(buffer []byte) []byte {
	const most = 1 << 20
	if cap(buffer) > most {
		return nil
	}
	return buffer[:0]
}

func (a *AuditLog) reopenFile() {
	if a.path == config.AuditStdout || a.path == "" {
		return
	}
	output, err := openAuditFile(a.path)
	if err != nil {
		a.log.Error("cannot reopen the audit log: the old file stays in use", "error", err)
		return
	}
	if err := a.output.Close(); err != nil {
		a.log.Error("cannot close the old audit log", "error", err)
	}
	a.output = output
	a.log.Info("reopened the audit log", "file", a.path)
}
