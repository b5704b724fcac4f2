package scripted

import (
	"os/signal"
	"syscall"
)

// ignoreSignals leaves SIGKILL as the only way.
func ignoreSignals() { signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP) }
