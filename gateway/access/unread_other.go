//go:build !linux

package access

import (
	"net"
	"time"
)

// dropUnread is for Linux.
func dropUnread(net.Conn, time.Duration) {}
