package access

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// dropUnread makes the kernel end the connection when its client reads nothing for so
// long, which is longer than a write waits. It covers unread bytes when the gateway closes
// the connection: the kernel would try to deliver them for a quarter of an hour.
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
