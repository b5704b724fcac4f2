package grants

import "time"

// age returns how long ago then was: by the monotonic clock or by the wall
// clock, whichever says longer. The first one stands still while a machine is
// suspended, the second one may be set back; an authorization must outlive
// neither.
func age(now, then time.Time) time.Duration {
	return max(now.Sub(then), now.Round(0).Sub(then.Round(0)))
}

// reached reports whether the time has come, by either clock.
func reached(now, then time.Time) bool { return age(now, then) >= 0 }

// started is what uptimes are counted from.
var started = time.Now()

// uptime is a time by the monotonic clock alone, in a third of the space.
func uptime(now time.Time) time.Duration { return now.Sub(started) }

// later returns the later one of two times.
func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
