package main

import (
	"os"
	"runtime/debug"
)

// How much garbage may gather before it is collected: a quarter of what lives, and
// 12 MB in any case. With Go's own setting, as much as lives, the few megabytes of a
// gateway with few clients would be collected dozens of times a second under load,
// and one with a hundred thousand grants, or thousands of streams, would take twice
// the memory that it needs.
const (
	garbagePercent = 25
	reserved       = 48 << 20
)

// reserve counts as memory that lives. It is never written to, so the system gives
// none for it.
var reserve []byte

// tuneMemory sets how often memory is collected, unless the environment does (GOGC,
// GOMEMLIMIT).
func tuneMemory() {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	debug.SetGCPercent(garbagePercent)
	reserve = make([]byte, reserved)
}
