package main

import (
	"os"
	"runtime"
)

// idleHeap lets this much garbage gather before it is collected, however little
// lives. The live heap of a gateway is a few megabytes, so that with Go's own
// target, as much garbage as lives, it would be collected dozens of times a second
// under load.
const idleHeap = 16 << 20

// reserve counts as a heap of that size. It is never written to, so the system gives
// no memory for it.
var reserve []byte

// tuneMemory sets how often memory is collected, unless the environment does (GOGC,
// GOMEMLIMIT).
func tuneMemory() {
	if os.Getenv("GOGC") == "" && os.Getenv("GOMEMLIMIT") == "" {
		reserve = make([]byte, idleHeap)
		runtime.KeepAlive(reserve)
	}
}
