package stdio

import (
	"bufio"
	"bytes"
	"errors"

	"golang.org/x/time/rate"
)

const (
	// maxLogLine bounds one line of a child's standard error in the log.
	maxLogLine = 4 << 10

	// logRate and logBurst bound the lines a second of one child.
	logRate  = 20
	logBurst = 200
)

// readErrors writes the child's standard error to the log, line by line, and drops
// lines above the rate.
func (p *Process) readErrors() {
	lines := bufio.NewReaderSize(p.stderr, maxLogLine)
	limit := rate.NewLimiter(logRate, logBurst)
	dropped, cut := 0, false
	for {
		line, err := lines.ReadSlice('\n')
		full := errors.Is(err, bufio.ErrBufferFull)
		line = bytes.TrimRight(line, "\r\n")
		switch {
		case cut || len(line) == 0: // the rest of a long line
		case limit.Allow():
			if dropped > 0 {
				p.log.Warn("dropped lines of a stdio server's standard error: there were too many", "lines", dropped)
				dropped = 0
			}
			p.log.Info("stderr", "line", p.tail.add(line, full), "cut", full)
		default:
			p.tail.add(line, full)
			dropped++
		}
		cut = full
		if err != nil && !full {
			return
		}
	}
}
