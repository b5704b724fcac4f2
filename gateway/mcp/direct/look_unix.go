//go:build unix

package direct

import (
	"errors"
	"syscall"
)

// canLook: a socket can be read from without waiting.
const canLook = true

func (l *look) read(fd uintptr) {
	for {
		l.n, l.err = syscall.Read(int(fd), l.p) // the descriptor does not block
		switch {
		case errors.Is(l.err, syscall.EINTR):
			continue
		case errors.Is(l.err, syscall.EAGAIN):
			l.err = errQuiet
		}
		l.n = max(l.n, 0)
		return
	}
}
