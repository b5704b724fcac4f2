package syslog

import (
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// boundUnconfirmed has the kernel end a connection of TCP on which what was sent stays
// unconfirmed (RFC 5482). It would go on for a quarter of an hour, and lines with it.
func boundUnconfirmed(network, _ string, raw syscall.RawConn) error {
	if !strings.HasPrefix(network, "tcp") {
		return nil
	}
	var err error
	outer := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(unconfirmed.Milliseconds()))
	})
	if outer != nil {
		return outer
	}
	return err
}
