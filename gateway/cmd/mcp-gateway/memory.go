package main

import (
	"os"
	"runtime/debug"
)

// The amount of garbage at which a collection starts: a quarter of the live memory, and
// 24 MB at least. Go's own setting is the size of the live memory. It would collect the
// few megabytes of a gateway with few clients dozens of times a second under load, and
// double the memory of one with a hundred thousand grants or thousands of streams.
const (
	garbagePercent = 25
	reserved       = 96 << 20
)

// reserve counts as live memory. Nothing writes to it, so the system provides no real
// memory for it.
var reserve []byte

// tuneMemory sets the amount of garbage, unless the environment does (GOGC, GOMEMLIMIT).
func tuneMemory() {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	debug.SetGCPercent(garbagePercent)
	reserve = make([]byte, reserved)
}
