// Package clock measures how old an authorization is.
package clock

import "time"

// Age returns how long ago then was: by the monotonic clock or by the wall clock,
// whichever says longer. The first one stands still while a machine is suspended,
// the second one may be set back; an authorization must outlive neither.
func Age(now, then time.Time) time.Duration {
	return max(now.Sub(then), now.Round(0).Sub(then.Round(0)))
}

// Reached reports whether the time has come, by either clock.
func Reached(now, then time.Time) bool { return Age(now, then) >= 0 }
