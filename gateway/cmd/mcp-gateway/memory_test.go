package main

import (
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMemoryIsCollectedLessOftenUnlessTheEnvironmentSaysHow(t *testing.T) {
	t.Cleanup(func() {
		reserve = nil
		debug.SetGCPercent(100)
	})
	for name, test := range map[string]struct {
		variable string
		reserved int
		percent  int
	}{
		"nothing is said":         {"", reserved, garbagePercent},
		"how often is said":       {"GOGC", 0, 100},
		"how much memory is said": {"GOMEMLIMIT", 0, 100},
	} {
		t.Run(name, func(t *testing.T) {
			reserve = nil
			debug.SetGCPercent(100)
			t.Setenv("GOGC", "")
			t.Setenv("GOMEMLIMIT", "")
			if test.variable != "" {
				t.Setenv(test.variable, "100")
			}
			tuneMemory()
			require.Len(t, reserve, test.reserved)
			require.Equal(t, test.percent, debug.SetGCPercent(100))
			debug.SetGCPercent(test.percent)
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			require.GreaterOrEqual(t, m.NextGC, uint64(test.reserved+test.reserved/4))
		})
	}
}
