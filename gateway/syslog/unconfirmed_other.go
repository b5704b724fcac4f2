//go:build !linux

package syslog

import "syscall"

// boundUnconfirmed: only Linux has a bound for what was sent and stays unconfirmed.
func boundUnconfirmed(string, string, syscall.RawConn) error { return nil }
