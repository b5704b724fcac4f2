package access

import (
	"net/netip"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"

	"vault-plugin-secrets-mcp/gateway/config"
)

// sourcesKept bounds the sources whose use is remembered. The overall limit
// holds where somebody has more of them.
const sourcesKept = 16384

// ColdLimiter bounds the lookups of tokens that the gateway does not know, for
// each source and for all of them together.
type ColdLimiter struct {
	limits  config.Grants
	overall *rate.Limiter
	sources *lru.Cache[netip.Prefix, *rate.Limiter]
}

// NewColdLimiter returns a limiter with the cold_… limits.
func NewColdLimiter(limits config.Grants) *ColdLimiter {
	sources, err := lru.New[netip.Prefix, *rate.Limiter](sourcesKept)
	if err != nil { // only for a size that is not positive
		panic(err)
	}
	return &ColdLimiter{
		limits:  limits,
		overall: rate.NewLimiter(rate.Limit(limits.ColdRate), limits.ColdBurst),
		sources: sources,
	}
}

// Allow takes one lookup for a client at source, if there is one left. A source
// that is over its own limit takes nothing from the others.
func (l *ColdLimiter) Allow(source netip.Addr) bool {
	key := sourceRange(source)
	limiter, ok := l.sources.Get(key)
	if !ok {
		limiter = rate.NewLimiter(rate.Limit(l.limits.ColdSourceRate), l.limits.ColdSourceBurst)
		if present, found, _ := l.sources.PeekOrAdd(key, limiter); found {
			limiter = present
		}
	}
	return limiter.Allow() && l.overall.Allow()
}
