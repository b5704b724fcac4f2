package access

import (
	"net/http"
	"net/netip"
	"strings"
	"sync"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"

	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/grants"
)

// sourcesKept bounds the sources whose use is remembered. For more of them, the overall
// limit holds.
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

// Memory bounds the bytes that all requests together have the gateway keep: the
// bodies of requests, and the answers that it must have whole. It counts them as they
// come, and not by the length that was announced. A client has a share of them. Small
// messages are not counted: per_client_concurrency bounds those.
type Memory struct {
	mu     sync.Mutex
	most   int64 // of all
	share  int64 // of one principal
	kept   int64
	shares map[grants.Principal]int64
}

// NewMemory bounds memory as the settings say.
func NewMemory(limits config.Limits) *Memory {
	m := &Memory{shares: make(map[grants.Principal]int64)}
	m.Configure(limits)
	return m
}

// Configure takes other bounds, for bytes to come.
func (m *Memory) Configure(limits config.Limits) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.most, m.share = limits.MaxBuffered, limits.MaxBufferedPerClient
}

// Kept is the number of bytes that are kept at present.
func (m *Memory) Kept() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.kept
}

// take counts n bytes more of the principal's.
func (m *Memory) take(principal grants.Principal, n int64) *Refusal {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.shares[principal]+n > m.share {
		return &Refusal{
			Status:     http.StatusTooManyRequests,
			Reason:     ReasonClientMemory,
			Message:    "This client's requests keep as many bytes as those of one client may.",
			RetryAfter: retryAfter(),
		}
	}
	if m.kept+n > m.most {
		return &Refusal{
			Status:     http.StatusServiceUnavailable,
			Reason:     ReasonMemory,
			Message:    "The gateway keeps as many bytes of requests as it may.",
			RetryAfter: retryAfter(),
		}
	}
	m.shares[principal] += n
	m.kept += n
	return nil
}

func (m *Memory) giveBack(principal grants.Principal, n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kept -= n
	if m.shares[principal] -= n; m.shares[principal] <= 0 {
		delete(m.shares, principal)
	}
}

// Reserve counts bytes that the request is about to keep; negative ones are given back.
// The error is a [Refusal]: there is no room. At the request's end the rest is given
// back. Several goroutines may call it.
func (r *Request) Reserve(bytes int64) error {
	if bytes == 0 || r.gate == nil || r.gate.options.Memory == nil || r.Grant == nil {
		return nil
	}
	memory, principal := r.gate.options.Memory, r.Grant.Principal()
	if bytes > 0 {
		if f := memory.take(principal, bytes); f != nil {
			return f
		}
	} else {
		memory.giveBack(principal, -bytes)
	}
	r.kept.Add(bytes)
	return nil
}

// Answered turns the refusal of [Request.Reserve] into one of an answer that the server
// has given. The client must know that the server has done its work.
func (f *Refusal) Answered() *Refusal {
	answered := *f
	answered.Message = "The server has answered, and the answer cannot be passed on: " + strings.ToLower(f.Message[:1]) + f.Message[1:]
	return &answered
}

// releaseMemory gives back the bytes that the request still keeps. Whoever keeps the request
// itself does not keep the client's header and body with it.
func (r *Request) releaseMemory() {
	r.body = body{}
	if bytes := r.kept.Swap(0); bytes != 0 {
		r.gate.options.Memory.giveBack(r.Grant.Principal(), bytes)
	}
}
