package backend

import (
	"os"
	"runtime/debug"
	"testing"
)

// TestMain collects garbage less often. The tests start some ten thousand engines, and drop each
// after a few requests.
func TestMain(m *testing.M) {
	debug.SetGCPercent(400)
	os.Exit(m.Run())
}
