package main

import (
	"os"
	"runtime/debug"
)

const (
	// garbagePercent lets the heap grow to five times what lives in it before it
	// is collected. The engine's live heap is a few megabytes, so that with Go's
	// own 100 it would be collected dozens of times a second under load, beside a
	// Vault that needs the same processors.
	garbagePercent = 400

	// memoryLimit is where saving memory comes before saving time, in bytes. With
	// every cache full the live heap is under a fifth of it.
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
