package main

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMemoryIsCollectedLessOftenUnlessTheEnvironmentSaysHow(t *testing.T) {
	t.Cleanup(func() { reserve = nil })
	for name, test := range map[string]struct {
		variable string
		reserved int
	}{
		"nothing is said":         {"", idleHeap},
		"how often is said":       {"GOGC", 0},
		"how much memory is said": {"GOMEMLIMIT", 0},
	} {
		t.Run(name, func(t *testing.T) {
			reserve = nil
			t.Setenv("GOGC", "")
			t.Setenv("GOMEMLIMIT", "")
			if test.variable != "" {
				t.Setenv(test.variable, "100")
			}
			tuneMemory()
			require.Len(t, reserve, test.reserved)
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			require.GreaterOrEqual(t, m.NextGC, uint64(2*test.reserved))
		})
	}
}
