package picture

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// axis maps values to pixels.
type axis struct {
	low, high float64 // values
	from, to  float64 // their pixels
	log       bool
}

// axisFor is an axis from 0 or, where it is logarithmic, from the least value, to a round
// number above the highest one.
func axisFor(least, highest float64, log bool) axis {
	if log {
		return axis{low: math.Pow(10, math.Floor(math.Log10(least))), high: math.Pow(10, math.Ceil(math.Log10(highest))), log: true}
	}
	step := stepFor(highest)
	return axis{high: step * math.Ceil(highest/step)}
}

// at is the pixel of a value. What is below the axis is at its beginning.
func (a axis) at(value float64) float64 {
	value = max(value, a.low)
	share := (value - a.low) / (a.high - a.low)
	if a.log {
		share = math.Log10(value/a.low) / math.Log10(a.high/a.low)
	}
	return a.from + share*(a.to-a.from)
}

// ticks are the values that have a line.
func (a axis) ticks() []float64 {
	var all []float64
	if a.log {
		for v := a.low; v <= a.high*1.0001; v *= 10 {
			all = append(all, v)
		}
		return all
	}
	step := stepFor(a.high)
	for i := 0; float64(i)*step <= a.high*1.0001; i++ {
		all = append(all, float64(i)*step)
	}
	return all
}

// stepFor is a round number of which four to eight make an axis.
func stepFor(highest float64) float64 {
	decade := math.Pow(10, math.Floor(math.Log10(highest)))
	for _, step := range []float64{0.1, 0.2, 0.25, 0.5, 1} {
		if highest/(step*decade) <= 6 {
			return step * decade
		}
	}
	return 2 * decade
}

// Number is a number with three digits, or all before the point.
func Number(value float64) string {
	text := strconv.FormatFloat(value, 'f', 0, 64)
	if math.Abs(value) < 100 {
		text = fmt.Sprintf("%.3g", value)
	}
	whole, rest, _ := strings.Cut(text, ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if rest != "" {
		rest = "." + rest
	}
	return whole + rest
}
