package main

import (
	"os"
	"runtime/debug"
)

const (
	// garbagePercent lets the heap grow to five times its live size before a
	// collection. The engine's live heap is a few megabytes. With Go's own 100, Go
	// would collect it dozens of times a second under load, beside a Vault that
	// needs the same processors.
	garbagePercent = 400

	// memoryLimit is the size in bytes above which Go collects more often. With every
	// cache full, the live heap is under a fifth of it.
	memoryLimit = 512 << 20
)

// tuneMemory sets how often memory is collected, unless the environment that the
// plugin was registered with does (GOGC, GOMEMLIMIT).
func tuneMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(garbagePercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
}
