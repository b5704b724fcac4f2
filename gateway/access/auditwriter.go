package access

import (
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

const (
	// auditTimeout is how long a decision waits to be written.
	auditTimeout = time.Second

	// auditTick is the time between two writes of lines that no request waits for, and
	// between two looks for a write that hangs.
	auditTick = 100 * time.Millisecond

	// auditBacklog bounds the lines that wait for the file while a write hangs, in bytes.
	auditBacklog = 8 << 20
)

// output is where lines go. One goroutine at a time calls write.
type output interface {
	// write writes lines, of which the first has this number among all lines. After an error
	// it says how many of them are not written.
	write(first uint64, lines []byte) (lost int, err error)
	// mayHang tells whether a write may take as long as somebody else likes.
	mayHang() bool
	// up reports whether there is nothing known that keeps lines from being written.
	up() bool
	// reopen has lines go where the output's name leads now.
	reopen()
	// abort ends a write that hangs, where that can be done.
	abort()
	// close is called after the last write.
	close()
}

// lineWriter writes lines to an output, in the order in which they come. Lines that requests
// wait for are written together: while one write is under way, the next batch gathers,
// and the first request in it writes it for all. So a single request writes its line
// without another goroutine, and many requests share a write.
//
// An output that may hang, such as a pipe that nobody reads, is written by a goroutine of its
// own, so that no request hangs with it.
type lineWriter struct {
	log     hclog.Logger
	name    string // of the output, in the log
	effect  string // what it means that it cannot be written, in the log
	backlog int    // bounds the lines that wait, in bytes; further ones are lost, and counted
	output  output

	turn   chan struct{} // holds a value during a write
	wakeup chan struct{}
	again  chan struct{} // asks for the output to be opened again
	done   chan struct{}

	mu      sync.Mutex
	direct  bool      // the output does not hang
	batch   *batch    // gathers lines
	spare   *batch    // for the next one, that nobody has any more; nil: there is none
	writing *batch    // is being written; nil if none is
	started time.Time // when the writing began
	stalled bool      // the writing has taken too long
	next    uint64    // number of the next line
	lost    int       // lines, while it was stalled
	dropped int       // lines, ever
	closed  bool
}

// newLineWriter starts one with these fields: log, name, effect, backlog and output.
func newLineWriter(a *lineWriter) *lineWriter {
	a.turn = make(chan struct{}, 1)
	a.wakeup = make(chan struct{}, 1)
	a.again = make(chan struct{}, 1)
	a.done = make(chan struct{})
	a.batch = &batch{}
	a.direct = !a.output.mayHang()
	go a.run()
	return a
}

// close writes the remaining lines, and ends the writer.
func (a *lineWriter) close() {
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
		a.log.Error("lines that remain could not be written to " + a.name)
		a.output.abort()
	}
}

// write returns once the line is written. The error is ErrAudit, and means that
// it may not have been.
func (a *lineWriter) write(line []byte) error {
	w := a.enqueue(line)
	return a.finish(&w)
}

// waiting is a line that is to be written, for the request that waits for it.
type waiting struct {
	batch    *batch // nil: the line was not taken
	lead     bool   // the request has undertaken to write it
	turn     bool   // and has the turn
	finished <-chan struct{}
}

// enqueue takes a line. finish must be called with what it returns, soon.
func (a *lineWriter) enqueue(line []byte) (w waiting) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stalled || a.closed || !a.add(line) {
		return w
	}
	b := a.batch
	w = waiting{batch: b, lead: a.direct && !b.led}
	b.led = b.led || w.lead
	if w.turn = w.lead && a.tryTurn(); w.turn {
		return w
	}
	w.finished = b.wait()
	if !a.direct {
		a.wake()
	}
	return w
}

// finish is the second half of write.
func (a *lineWriter) finish(w *waiting) error {
	switch {
	case w.batch == nil:
		return ErrAudit
	case w.turn:
		return a.commit(w.batch)
	case w.lead:
		select {
		case a.turn <- struct{}{}:
			return a.commit(w.batch)
		case <-w.finished: // given up
		}
	default:
		<-w.finished
	}
	return w.batch.err
}

// append has the line written soon.
func (a *lineWriter) append(line []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.add(line)
}

// add puts a line into the batch, and reports whether there was room for it. Each line gets
// a number, so that a gap shows those that are lost.
func (a *lineWriter) add(line []byte) bool {
	number := a.next
	a.next++
	b := a.batch
	if len(b.lines) > a.backlog {
		if a.lost == 0 {
			a.log.Error("too many lines wait for " + a.name + ": further ones are lost")
		}
		a.lost++
		a.dropped++
		return false
	}
	if len(b.lines) == 0 {
		b.first = number
	}
	b.lines = append(b.lines, line...)
	return true
}

func (a *lineWriter) stats() AuditStats {
	a.mu.Lock()
	defer a.mu.Unlock()
	return AuditStats{Up: !a.stalled && a.output.up(), Lost: a.dropped}
}

func (a *lineWriter) tryTurn() bool {
	select {
	case a.turn <- struct{}{}:
		return true
	default:
		return false
	}
}

func (a *lineWriter) wake() {
	select {
	case a.wakeup <- struct{}{}:
	default:
	}
}

// commit writes the batch that gathers lines, and gives up the turn, which the caller has. It does
// nothing if the batch was written, or given up, while the caller waited: it gathers none any more
// then, and may be the next one to do so. The error is that of the batch, which the caller must not
// use any more.
func (a *lineWriter) commit(b *batch) error {
	defer func() { <-a.turn }()
	a.mu.Lock()
	if b != a.batch {
		defer a.mu.Unlock()
		return b.err
	}
	if a.batch, a.spare = a.spare, nil; a.batch == nil {
		a.batch = &batch{}
	}
	a.writing, a.started = b, time.Now()
	a.mu.Unlock()

	lost, err := a.output.write(b.first, b.lines)

	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stalled || a.lost > 0 {
		a.log.Info(a.name+" can be written again", "lines_lost", a.lost)
		a.stalled, a.lost = false, 0
	}
	a.writing = nil
	if err != nil {
		a.log.Error("cannot write "+a.name+": "+a.effect, "error", err)
		err = ErrAudit
		a.dropped += lost
	}
	b.settle(err)
	err = b.err // of the first who has settled it
	a.spare = b.reuse()
	return err
}

// run writes the lines that no request waits for, and all lines where the output may
// hang. A second goroutine ends the wait of requests where a write takes long.
func (a *lineWriter) run() {
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
		case <-a.again:
			a.reopenOutput()
			continue
		}
		if a.flush() {
			return
		}
	}
}

// flush writes the waiting lines, and reports whether none was left, and none will come.
func (a *lineWriter) flush() (last bool) {
	a.mu.Lock()
	b, closed := a.batch, a.closed
	due := len(b.lines) > 0 && (!b.led || closed)
	b.led = b.led || due
	a.mu.Unlock()
	if due {
		a.turn <- struct{}{}
		_ = a.commit(b) // nobody waits for it
		if closed {
			a.wake() // other lines may have come meanwhile
		}
	}
	if due || !closed {
		return false
	}
	a.turn <- struct{}{} // for good
	a.output.close()
	return true
}

// watch releases those who wait for a write that hangs.
func (a *lineWriter) watch(stop <-chan struct{}) {
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

func (a *lineWriter) releaseWaiters(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.writing == nil || now.Sub(a.started) < auditTimeout-auditTick {
		return
	}
	if !a.stalled {
		a.log.Error("writing " + a.name + " hangs: " + a.effect)
	}
	a.stalled = true
	a.writing.settle(ErrAudit)
	waiting := a.batch
	waiting.settle(ErrAudit)
	a.batch = &batch{lines: waiting.lines, first: waiting.first}
}

// reopen has the output opened again, before a later write.
func (a *lineWriter) reopen() {
	select {
	case a.again <- struct{}{}:
	default:
	}
}

// reopenOutput takes the turn, so that no write is under way.
func (a *lineWriter) reopenOutput() {
	a.turn <- struct{}{}
	a.output.reopen()
	a.mu.Lock()
	a.direct = !a.output.mayHang()
	a.mu.Unlock()
	<-a.turn
}
