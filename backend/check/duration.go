package check

import (
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/hashicorp/go-secure-stdlib/parseutil"
)

// Duration reads a duration in every form that Vault takes: 720h, 30d, a number of
// seconds; an empty value is 0. Durations are stored in whole seconds, and 0 has a
// special meaning. So it refuses fractions of a second.
func Duration(value any) (time.Duration, error) {
	d, err := FineDuration(value)
	if err == nil && d%time.Second != 0 {
		return 0, fmt.Errorf("%q has a fraction of a second: durations are whole seconds here, such as %s", fmt.Sprint(value), roundedUp(d))
	}
	return d, err
}

// FineDuration is Duration for values that are not stored. It accepts fractions of a
// second.
func FineDuration(value any) (time.Duration, error) {
	d, err := parseutil.ParseDurationSecond(value)
	if seconds, ok := fractional(value); ok {
		d, err = time.Duration(seconds*float64(time.Second)), nil
	}
	if err != nil || d < 0 {
		if number, ok := value.(json.Number); ok {
			value = number.String()
		}
		return 0, fmt.Errorf("%q is not a valid duration: write 720h, 30d or a number of seconds", fmt.Sprint(value))
	}
	return d, nil
}

// fractional returns a number of seconds that parseutil would cut off at the point.
func fractional(value any) (seconds float64, ok bool) {
	switch n := value.(type) {
	case float64:
		seconds = n
	case float32:
		seconds = float64(n)
	}
	return seconds, seconds != math.Trunc(seconds) && math.Abs(seconds) < math.MaxInt64/float64(time.Second)
}

func roundedUp(d time.Duration) time.Duration {
	return (d + time.Second - 1).Truncate(time.Second)
}
