//go:build unix

package mcp

import (
	"errors"
	"syscall"
)

// canTellIdle: quiet answers truly.
const canTellIdle = true

// quiet reports whether the server has neither ended the connection nor said
// anything on it: what it has said since its last answer belongs to no request.
func (c *directConn) quiet() bool {
	conn, ok := c.Conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return false
	}
	quiet := false
	err = raw.Read(func(fd uintptr) bool {
		var next [1]byte
		_, _, err := syscall.Recvfrom(int(fd), next[:], syscall.MSG_PEEK) // the descriptor does not block
		quiet = errors.Is(err, syscall.EAGAIN)
		return true
	})
	return err == nil && quiet
}
