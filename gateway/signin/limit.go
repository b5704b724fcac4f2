package signin

import (
	"net/http"
	"net/netip"
	"strconv"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
)

const (
	// limitKept bounds the sources, and the sign-ins, whose use is remembered. Those that
	// are forgotten begin with a full allowance.
	limitKept = 16384

	// Of each endpoint of the browser's side, for each source. A company's people may share
	// one address.
	pageRate  = 1
	pageBurst = 60

	// Of logins that begin, for all sources together: Vault keeps each in memory for ten
	// minutes. This is a company on a Monday morning.
	loginRate  = 20
	loginBurst = 500

	// Hosted applications exchange the tokens of many people from few addresses.
	tokenRate  = 100
	tokenBurst = 200

	// familyTokens is the number of access tokens that one sign-in gets in familyTime. An
	// access token lasts about that long, so several processes have room.
	familyTokens = 20
	familyTime   = 15 * time.Minute
)

// Limits remember who has asked how often. They outlive a reload of the settings.
type Limits struct {
	pages    *limiter[pageKey]
	logins   *limiter[struct{}]
	tokens   *limiter[netip.Prefix]
	families *limiter[string] // by accessor
}

// pageKey is a source at an endpoint, so that many who begin do not hold up those who decide.
type pageKey struct {
	path   string
	source netip.Prefix
}

// NewLimits returns limits of which nothing is used.
func NewLimits() *Limits {
	return &Limits{
		pages:    newLimiter[pageKey](pageRate, pageBurst),
		logins:   newLimiter[struct{}](loginRate, loginBurst),
		tokens:   newLimiter[netip.Prefix](tokenRate, tokenBurst),
		families: newLimiter[string](familyTokens/familyTime.Seconds(), familyTokens),
	}
}

// limiter is a token bucket for each key.
type limiter[K comparable] struct {
	rate  rate.Limit
	burst int
	keys  *lru.Cache[K, *rate.Limiter]
}

func newLimiter[K comparable](perSecond float64, burst int) *limiter[K] {
	keys, err := lru.New[K, *rate.Limiter](limitKept)
	if err != nil { // only for a size that is not positive
		panic(err)
	}
	return &limiter[K]{rate: rate.Limit(perSecond), burst: burst, keys: keys}
}

// take uses one of the key's allowance. If none is left, nothing is used, and wait is the
// time until there is one.
func (l *limiter[K]) take(key K, now time.Time) (wait time.Duration) {
	bucket, ok := l.keys.Get(key)
	if !ok {
		bucket = rate.NewLimiter(l.rate, l.burst)
		if present, found, _ := l.keys.PeekOrAdd(key, bucket); found {
			bucket = present
		}
	}
	r := bucket.ReserveN(now, 1)
	if wait = r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
	}
	return wait
}

// giveBack undoes a take.
func (l *limiter[K]) giveBack(key K, now time.Time) {
	if bucket, ok := l.keys.Get(key); ok {
		bucket.AllowN(now, -1)
	}
}

// full returns the time until the key has something left of its allowance; 0 if it has now.
// Nothing is used.
func (l *limiter[K]) full(key K, now time.Time) (wait time.Duration) {
	bucket, ok := l.keys.Get(key)
	if !ok {
		return 0
	}
	missing := 1 - bucket.TokensAt(now)
	if missing <= 0 {
		return 0
	}
	return time.Duration(missing / float64(l.rate) * float64(time.Second))
}

// sourceKey is the range of addresses that counts as one source: an IPv6 network of the size
// that a single subscriber gets, or one IPv4 address.
func sourceKey(source netip.Addr) netip.Prefix {
	const subscriber = 64
	source = source.Unmap()
	bits := source.BitLen()
	if source.Is6() {
		bits = subscriber
	}
	prefix, err := source.WithZone("").Prefix(bits)
	if err != nil { // no address: all of those are one source
		return netip.Prefix{}
	}
	return prefix
}

// setRetryAfter says when to come again, in whole seconds.
func setRetryAfter(header http.Header, wait time.Duration) {
	seconds := max(1, int((wait+time.Second-1)/time.Second))
	header.Set("Retry-After", strconv.Itoa(seconds))
}
