package proxy

import (
	"testing"
	"time"
)

// TestEveryCellOfTheBenchmarkWorks runs each once, for a moment: every answer is the
// one that is wanted. How fast they come is not looked at.
func TestEveryCellOfTheBenchmarkWorks(t *testing.T) {
	s := newStage(t, 20)
	all := cells(t, s)
	for _, c := range all {
		if c.refused { // what comes second is counted in the audit log alone
			c.run(t, s, 20*time.Millisecond)
			c.rounds = nil
		}
		c.run(t, s, 20*time.Millisecond)
	}
	for _, c := range all {
		if len(c.rounds) != 1 || c.rounds[0].perSecond <= 0 || c.rounds[0].p99 < c.rounds[0].p50 {
			t.Errorf("%s, %s: %+v", c.Scene, c.Target, c.rounds)
		}
	}
	if pictures := curves(all); len(pictures) != 1 || len(pictures[0].Series) != 5 {
		t.Errorf("the picture does not have every kind of call: %+v", pictures)
	}
	if _, err := all[0].MarshalJSON(); err != nil {
		t.Error(err)
	}
}
