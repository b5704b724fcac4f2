package access

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// dropUnread has the kernel end the connection when its peer takes nothing for so
// long, which is longer than a write waits. That covers what was written and not taken when
// the gateway closes it: the kernel would try for a quarter of an hour.
func dropUnread(conn net.Conn, after time.Duration) {
	tcp, ok := conn.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { // other sockets have no such option, and need none
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(after.Milliseconds()))
	})
}
