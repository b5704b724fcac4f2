package picture

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// texts are the words of a picture, with the places where they stand.
func texts(t *testing.T, picture []byte) map[string][2]float64 {
	t.Helper()
	all := map[string][2]float64{}
	decoder := xml.NewDecoder(strings.NewReader(string(picture)))
	var at [2]float64
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return all
		}
		require.NoError(t, err, "the picture is not XML")
		switch token := token.(type) {
		case xml.StartElement:
			at = [2]float64{}
			for _, a := range token.Attr {
				if n, err := strconv.ParseFloat(a.Value, 64); err == nil && a.Name.Local == "x" {
					at[0] = n
				} else if err == nil && a.Name.Local == "y" {
					at[1] = n
				}
			}
		case xml.CharData:
			if at[1] > 0 {
				all[string(token)] = at
			}
		}
	}
}

var two = Lines{
	Title: "Time & memory", X: "number",
	Panels: []Panel{
		{Title: "µs", Lines: []Line{{"fast", [][2]float64{{1, 10}, {5, 20}}}, {"slow", [][2]float64{{1, 100}, {5, 190}}}}},
		{Title: "MB", Lines: []Line{{"memory", [][2]float64{{1, 3}, {5, 4}}}}},
	},
}

func TestUnitsHavePanelsOfTheirOwn(t *testing.T) {
	found := texts(t, two.Draw())
	require.Contains(t, found, "Time & memory")
	require.Greater(t, found["MB"][0], found["µs"][0]+width/3.0)
	require.Contains(t, found, "200")
	require.NotContains(t, found, "memory", "one line alone needs no legend")
}

func TestALegendIsAboveThePlotAndNotOnIt(t *testing.T) {
	found := texts(t, two.Draw())
	for _, name := range []string{"fast", "slow"} {
		require.Less(t, found[name][1], found["200"][1]-4, "the legend is on the lines")
	}
}

func TestALongLegendTakesMoreRows(t *testing.T) {
	long := Panel{Lines: []Line{{Name: strings.Repeat("a", 40)}, {Name: strings.Repeat("b", 40)}, {Name: "c"}}}
	require.InDelta(t, lineDepth, long.legendDepth(300)-long.legendDepth(2000), 2*lineDepth)
	require.Greater(t, long.legendDepth(300), long.legendDepth(2000))
}

func TestMarksSayWhereEachLineReachesThem(t *testing.T) {
	l := Lines{
		Title: "t", X: "milliseconds", LogX: true, From: 0.1,
		Panels: []Panel{{
			Title: "%", High: 100, Marks: []Mark{{"p50", 50, "ms"}},
			Lines: []Line{{"a", [][2]float64{{0, 0}, {7, 50}, {3000, 100}}}, {"b", [][2]float64{{0, 0}, {34.26, 50}, {90, 100}}}},
		}},
	}
	found := texts(t, l.Draw())
	require.Contains(t, found, "7 ms")
	require.Contains(t, found, "34.3 ms")
	require.Less(t, found["7 ms"][0], found["34.3 ms"][0])
	require.Contains(t, found, "≤ 0.1", "times of nothing are at the beginning of the axis")
	require.Contains(t, found, "10,000")
}

func TestTicksAreRoundNumbers(t *testing.T) {
	for highest, want := range map[float64]string{1: "0 0.2 0.4 0.6 0.8 1", 187: "0 50 100 150 200", 19508: "0 5,000 10,000 15,000 20,000", 2.36: "0 0.5 1 1.5 2 2.5", 60: "0 10 20 30 40 50 60"} {
		var ticks []string
		for _, v := range axisFor(0, highest, false).ticks() {
			ticks = append(ticks, Number(v))
		}
		require.Equal(t, want, strings.Join(ticks, " "), highest)
	}
	require.Len(t, axisFor(0.1, 3333, true).ticks(), 6)
}

func TestValuesAreWhereTheyBelong(t *testing.T) {
	a := axis{low: 0.1, high: 1000, from: 0, to: 400, log: true}
	for value, want := range map[float64]float64{0: 0, 0.1: 0, 1: 100, 10: 200, 1000: 400} {
		require.InDelta(t, want, a.at(value), 1e-9, value)
	}
	require.False(t, math.IsNaN(axis{low: 0, high: 10, from: 5, to: 9}.at(0)))
}

func TestEachBarHasItsNumber(t *testing.T) {
	b := Bars{
		Title: "t", Line: 1, Each: []string{"1", "8"}, Panels: []string{"small", "large"}, Kinds: []string{"ours", "theirs"},
		Groups: []Group{
			{"mine", "ours", [][]float64{{1.25, 1.5}, {1.75, 2.25}}},
			{"other", "theirs", [][]float64{{0.5, 0.25}}}, // not measured with large messages
		},
	}
	found := texts(t, b.Draw())
	for _, text := range []string{"mine", "other", "ours", "theirs", "1.25", "1.50", "1.75", "2.25", "0.50", "0.25"} {
		require.Contains(t, found, text)
	}
	require.Less(t, found["1.25"][1], found["0.50"][1])
	require.Less(t, found["1.25"][0], found["1.75"][0])
}
