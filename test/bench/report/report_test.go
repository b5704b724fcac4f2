package report

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestABusyMachineIsSaidToBe(t *testing.T) {
	require.NotContains(t, Machine{Busy: 0.1}.String(), "other work")
	require.Contains(t, Machine{Busy: 1.26}.String(), "other work (1.3 of its CPUs)")
}

func TestASpreadIsTheMiddleAndTheEnds(t *testing.T) {
	require.Equal(t, Spread{Median: 2, Min: 1, Max: 9}, SpreadOf([]float64{9, 1, 2}))
	require.Zero(t, SpreadOf(nil))
}

func TestEachFigureIsThatOfTheRunInTheMiddle(t *testing.T) {
	run := func(perSecond, allocations float64) []Row {
		return []Row{{
			Scene: Small, Target: Server, Connections: 8, Ratio: Spread{Median: perSecond, Min: perSecond / 2},
			Gateway: &Gateway{Allocations: Spread{Median: allocations}},
		}}
	}
	runs := [][]Row{run(3, 10), run(1, 30), run(2, 20)}
	middle := Middle(runs)
	require.Equal(t, run(2, 20), middle)
	require.Equal(t, run(3, 10), runs[0], "the runs themselves were changed")
	require.Nil(t, Middle(nil))
}

func TestABoundIsReachedWithEveryNumberOfConnections(t *testing.T) {
	rows := func(one, eight, sixtyFour float64) Calls {
		var c Calls
		for i, ratio := range []float64{one, eight, sixtyFour} {
			c.Rows = append(c.Rows, Row{Scene: Small, Target: Server, Connections: Connections[i], Beside: ReverseProxy, Ratio: Spread{Median: ratio}})
		}
		return c
	}
	for name, is := range map[string]struct {
		of   Calls
		want bool
	}{
		"all are above":      {rows(1.6, 1.7, 1.8), true},
		"one is exactly it":  {rows(1.6, 1.5, 1.8), true},
		"one is below":       {rows(1.6, 1.49, 1.8), false},
		"the first is below": {rows(0.9, 1.6, 1.8), false},
	} {
		t.Run(name, func(t *testing.T) {
			judged := is.of.Judge()
			require.Len(t, judged, 1, "what was not measured is judged, too")
			require.Equal(t, is.want, judged[0].Reached)
			require.Equal(t, is.want, strings.Contains(is.of.BoundTable(), "reached |"), is.of.BoundTable())
		})
	}
}

func TestTheMostThatAFigureMayBeIsABound(t *testing.T) {
	for median, want := range map[float64]bool{0.6: true, 0.7: true, 0.71: false} {
		c := Calls{Rows: []Row{{Scene: Small, Target: Server, Connections: 64, P99Ratio: Spread{Median: median}}}}
		judged := c.Judge()
		require.Len(t, judged, 1)
		require.Equal(t, want, judged[0].Reached, median)
	}
}

func TestOnlyTheTextBetweenTheMarksOfAPageChanges(t *testing.T) {
	page := filepath.Join(t.TempDir(), "page.md")
	require.NoError(t, os.WriteFile(page, []byte("| a <!-- a -->old<!-- /a --> | <!-- b --><!-- /b -->\n"), 0o600))
	require.NoError(t, Insert(page, "a", "new"))
	content, err := os.ReadFile(page)
	require.NoError(t, err)
	require.Equal(t, "| a <!-- a -->new<!-- /a --> | <!-- b --><!-- /b -->\n", string(content))
	require.ErrorContains(t, Insert(page, "absent", "x"), "no section")
}
