package access

import (
	"bytes"
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

	// auditTick is the time between two writes of lines that no request waits for, and
	// between two looks for a write that hangs.
	auditTick = 100 * time.Millisecond

	// auditBacklog bounds the lines kept while a write hangs, in bytes. Further lines
	// are lost, and counted.
	auditBacklog = 8 << 20
)

// AuditLog writes lines to a file, in the order in which they come. Lines that requests
// wait for are written together: while one write is under way, the next batch gathers,
// and the first request in it writes it for all. So a single request writes its line
// without another goroutine, and many requests share a write.
//
// Written means that the operating system has taken the line. That survives a
// crash of the gateway, though not one of the machine.
//
// A write to anything but a plain file, such as a pipe that nobody reads, may
// hang. Such an output is written by a goroutine of its own, so that no request
// hangs with it.
type AuditLog struct {
	log    hclog.Logger
	path   string
	output io.WriteCloser // for the goroutine that has the turn
	plain  bool           // the output is a plain file

	turn   chan struct{} // holds a value during a write
	wakeup chan struct{}
	reopen chan struct{}
	done   chan struct{}

	mu      sync.Mutex
	batch   *batch    // gathers lines
	spare   []byte    // for the next batch
	writing *batch    // is being written; nil if none is
	started time.Time // when the writing began
	torn    bool      // the last write may have ended inside a line
	stalled bool      // the writing has taken too long
	lost    int       // lines, while it was stalled
	dropped int       // lines, ever
	closed  bool
}

// batch is the lines of one write, and those who wait for it. All of it is
// guarded by AuditLog.mu until it is settled.
type batch struct {
	lines    []byte
	led      bool          // a request has undertaken to write it
	settled  bool          // err is known
	finished chan struct{} // closed when it is; nil while nobody waits
	err      error
}

// wait returns the channel to wait on.
func (b *batch) wait() <-chan struct{} {
	if b.finished == nil {
		b.finished = make(chan struct{})
	}
	return b.finished
}

// settle tells everybody who waits. The first result counts.
func (b *batch) settle(err error) {
	if b.settled {
		return
	}
	b.settled, b.err = true, err
	if b.finished != nil {
		close(b.finished)
	}
}

func newAuditLog(output io.WriteCloser, log hclog.Logger) *AuditLog {
	a := &AuditLog{
		log:    log,
		turn:   make(chan struct{}, 1),
		wakeup: make(chan struct{}, 1),
		reopen: make(chan struct{}, 1),
		done:   make(chan struct{}),
		batch:  &batch{},
	}
	a.setOutput(output)
	go a.run()
	return a
}

// Close writes the remaining lines, and ends the log.
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
	lead := a.plain && !b.led
	b.led = b.led || lead
	if lead && a.tryTurn() {
		a.mu.Unlock()
		a.commit(b)
		return b.err
	}
	finished := b.wait()
	a.mu.Unlock()
	switch {
	case lead:
		select {
		case a.turn <- struct{}{}:
			a.commit(b)
		case <-finished: // given up
		}
	case !a.plain:
		a.wake()
		fallthrough
	default:
		<-finished
	}
	return b.err
}

// Append has the line written soon.
func (a *AuditLog) Append(line []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.batch.lines) > auditBacklog {
		a.lost++
		a.dropped++
		return
	}
	a.batch.lines = append(a.batch.lines, line...)
}

// AuditStats is a look at the log's state, for metrics.
type AuditStats struct {
	Up   bool // the last write succeeded, and none hangs
	Lost int  // lines, because a write failed or hung
}

// Stats returns the present ones.
func (a *AuditLog) Stats() AuditStats {
	a.mu.Lock()
	defer a.mu.Unlock()
	return AuditStats{Up: !a.stalled && !a.torn, Lost: a.dropped}
}

func (a *AuditLog) tryTurn() bool {
	select {
	case a.turn <- struct{}{}:
		return true
	default:
		return false
	}
}

func (a *AuditLog) wake() {
	select {
	case a.wakeup <- struct{}{}:
	default:
	}
}

// commit writes a batch, and gives up the turn, which the caller has. It does
// nothing if the batch was written, or given up, while the caller waited.
func (a *AuditLog) commit(b *batch) {
	defer func() { <-a.turn }()
	a.mu.Lock()
	if b.settled {
		a.mu.Unlock()
		return
	}
	if a.torn {
		b.lines = append([]byte{'\n'}, b.lines...)
	}
	a.batch, a.spare = &batch{lines: a.spare}, nil
	a.writing, a.started = b, time.Now()
	a.mu.Unlock()

	_, err := a.output.Write(b.lines)

	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stalled {
		a.log.Info("the audit log can be written again", "lines_lost", a.lost)
		a.stalled, a.lost = false, 0
	}
	a.writing, a.torn, a.spare = nil, err != nil, reusable(b.lines)
	if err != nil {
		a.log.Error("cannot write the audit log: requests that would be allowed are refused", "error", err)
		err = ErrAudit
		a.dropped += bytes.Count(b.lines, []byte{'\n'})
	}
	b.settle(err)
}

// run writes the lines that no request waits for, and all lines where the output may
// hang. A second goroutine ends the wait of requests where a write takes long.
func (a *AuditLog) run() {
	defer close(a.done)
	stop := make(chan struct{})
	defer close(stop)
	go a.watch(stop)
	ticker := time.NewTicker(auditTick)
	defer ticker.Stop()
	for {
		select {
		case <-a.wakeup:
		case <-ticker.C:
		case <-a.reopen:
			a.reopenFile()
			continue
		}
		if a.flush() {
			return
		}
	}
}

// flush writes the waiting lines, and reports whether they were the last.
func (a *AuditLog) flush() (last bool) {
	a.mu.Lock()
	b, closed := a.batch, a.closed
	due := len(b.lines) > 0 && (!b.led || closed)
	b.led = b.led || due
	a.mu.Unlock()
	if due {
		a.turn <- struct{}{}
		a.commit(b)
	}
	if !closed {
		return false
	}
	a.turn <- struct{}{} // for good
	if err := a.output.Close(); err != nil {
		a.log.Error("cannot close the audit log", "error", err)
	}
	return true
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
	a.batch = &batch{lines: lines}
}

// reusable returns the buffer's space unless it grew out of proportion.
func reusable(buffer []byte) []byte {
	const most = 1 << 20
	if cap(buffer) > most {
		return nil
	}
	return buffer[:0]
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

func (a *AuditLog) setOutput(output io.WriteCloser) {
	a.output = output
	file, ok := output.(*os.File)
	if !ok {
		return
	}
	info, err := file.Stat()
	a.plain = err == nil && info.Mode().IsRegular()
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

// Reopen opens the file again after it was moved away.
func (a *AuditLog) Reopen() {
	select {
	case a.reopen <- struct{}{}:
	default:
	}
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
	a.turn <- struct{}{}
	old := a.output
	a.mu.Lock()
	a.setOutput(output)
	a.mu.Unlock()
	<-a.turn
	if err := old.Close(); err != nil {
		a.log.Error("cannot close the old audit log", "error", err)
	}
	a.log.Info("reopened the audit log", "file", a.path)
}
