//go:build !linux

package syslog

import "syscall"

// boundUnconfirmed does nothing: only Linux has a bound for unconfirmed bytes.
func boundUnconfirmed(string, string, syscall.RawConn) error { return nil }
