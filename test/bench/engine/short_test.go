package engine

import (
	"testing"
	"time"
)

// TestEveryPathOfTheBenchmarkAnswers asks each for a moment. How fast the answers
// come is not looked at.
func TestEveryPathOfTheBenchmarkAnswers(t *testing.T) {
	cells := run(t, 1, 20*time.Millisecond)
	if want := (5 + 5 + 2) * len(connections); len(cells) != want {
		t.Errorf("%d cells were measured, not %d", len(cells), want)
	}
	for _, c := range cells {
		own := c.target.beside == ""
		if c.PerSecond.Median <= 0 || c.P99.Median < c.P50.Median || own == (c.Ratio.Median > 0) {
			t.Errorf("%s, %s, %d connections: %+v", c.Caller, c.Path, c.Connections, c.rounds)
		}
	}
}
