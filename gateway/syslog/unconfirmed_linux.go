package syslog

import (
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// boundUnconfirmed makes the kernel end a TCP connection on which sent bytes stay
// unconfirmed (RFC 5482). Otherwise the kernel would wait for a quarter of an hour, and
// lines would be lost.
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
