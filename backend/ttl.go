package backend

import (
	"fmt"
	"time"
)

// limit is a bound on a token's life, and who set it. Zero is no bound.
type limit struct {
	name string
	max  time.Duration
}

// capTTL returns ttl under the lowest of the limits, with a warning that says
// which one cut it. A ttl of 0 (does not expire) is cut to the lowest limit too.
func capTTL(ttl time.Duration, limits ...limit) (capped time.Duration, warnings []string) {
	capped = ttl
	var by limit
	for _, l := range limits {
		if l.max > 0 && (capped == 0 || l.max < capped) {
			capped, by = l.max, l
		}
	}
	if by.max > 0 && ttl > 0 {
		warnings = []string{fmt.Sprintf("the requested TTL of %s is above %s and was cut to %s", ttl, by.name, capped)}
	}
	return capped, warnings
}

// firstTTL returns the first that is set.
func firstTTL(ttls ...time.Duration) time.Duration {
	for _, ttl := range ttls {
		if ttl > 0 {
			return ttl
		}
	}
	return 0
}

// expiry returns when a token issued at now with that ttl ends; zero for never.
func expiry(now time.Time, ttl time.Duration) time.Time {
	if ttl == 0 {
		return time.Time{}
	}
	return now.Add(ttl)
}
