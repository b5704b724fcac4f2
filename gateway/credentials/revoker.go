package credentials

import (
	"context"
	"sync"
	"time"

	"vault-plugin-secrets-mcp/backend/clock"
	"vault-plugin-secrets-mcp/gateway/backoff"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

// revoker tells Vault to end tokens, with all leases below them. It goes on until Vault has
// answered, or the token has ended by itself. One that fails waits for its next turn without
// keeping others waiting.
type revoker struct {
	store *Store

	mu      sync.Mutex
	waiting []*revocation
	open    int // those that are waiting, under way, or to be tried again
	stopped bool
	ready   chan struct{}
	idle    chan struct{} // closed, and replaced, when none is open
}

type revocation struct {
	token    *vaultclient.Child
	since    time.Time
	ends     time.Time // by itself
	failures int
	denied   int
}

const (
	// revocationsInFlight bounds the requests to Vault. One that ends leases in another
	// system can take long.
	revocationsInFlight = 16

	// revokeTimeout bounds one of them.
	revokeTimeout = 30 * time.Second

	// deniedTries is how often a token is tried that its own policies do not let end itself.
	deniedTries = 3
)

var revokeRetries = backoff.Backoff{Min: 250 * time.Millisecond, Max: 10 * time.Second}

func newRevoker(s *Store) *revoker {
	return &revoker{store: s, ready: make(chan struct{}, 1), idle: make(chan struct{})}
}

// add has a token revoked.
func (r *revoker) add(c *vaultclient.Child) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.store.now()
	// It was renewed by its own TTL at most, until now.
	r.waiting = append(r.waiting, &revocation{token: c, since: now, ends: now.Add(max(c.TTL, time.Minute))})
	r.open++
	r.wake()
}

func (r *revoker) wake() {
	select {
	case r.ready <- struct{}{}:
	default:
	}
}

// run revokes until ctx is done.
func (r *revoker) run(ctx context.Context) {
	var running sync.WaitGroup
	for range revocationsInFlight {
		running.Go(func() {
			for {
				next := r.next(ctx)
				if next == nil {
					return
				}
				r.revoke(ctx, next)
			}
		})
	}
	running.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopped = true
}

// next waits for a token to revoke; nil when ctx is done.
func (r *revoker) next(ctx context.Context) *revocation {
	for {
		r.mu.Lock()
		if len(r.waiting) > 0 {
			first := r.waiting[0]
			r.waiting = r.waiting[1:]
			if len(r.waiting) > 0 {
				r.wake() // for the next one
			}
			r.mu.Unlock()
			return first
		}
		r.waiting = nil
		r.mu.Unlock()
		select {
		case <-r.ready:
		case <-ctx.Done():
			return nil
		}
	}
}

// revoke tries once.
func (r *revoker) revoke(ctx context.Context, v *revocation) {
	asking, cancel := context.WithTimeout(ctx, revokeTimeout)
	err := r.store.vault.Revoke(asking, v.token)
	cancel()
	now := r.store.now()
	if err == nil {
		r.store.observer.CredentialsRevoked(true, now.Sub(v.since))
		r.done()
		return
	}
	v.failures++
	if vaultclient.IsDenied(err) {
		v.denied++
	}
	why := failed("", "auth/token/revoke-self", err)
	switch {
	case v.denied >= deniedTries:
		r.store.log.Error("the policies of a Vault token do not let it end itself, so that its credentials live until their own end: grant update on auth/token/revoke-self",
			"accessor", v.token.Accessor)
	case clock.Reached(now, v.ends) || ctx.Err() != nil:
		r.store.log.Error("Vault has not been told to end the credentials of a server: they end by themselves",
			"accessor", v.token.Accessor, "error", why.Err)
	default:
		if v.failures == 1 {
			r.store.log.Warn("cannot end the credentials of a server in Vault: trying again", "accessor", v.token.Accessor, "error", why.Err)
		}
		time.AfterFunc(revokeRetries.After(v.failures), func() { r.again(v) })
		return
	}
	r.store.observer.CredentialsRevoked(false, now.Sub(v.since))
	r.done()
}

// again tries a token once more.
func (r *revoker) again(v *revocation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped {
		return
	}
	r.waiting = append(r.waiting, v)
	r.wake()
}

func (r *revoker) done() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open--; r.open == 0 {
		close(r.idle)
		r.idle = make(chan struct{})
	}
}

func (r *revoker) pending() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.open
}

// drain waits until nothing is left to revoke, and no longer than that.
func (r *revoker) drain(most time.Duration) {
	timer := time.NewTimer(most)
	defer timer.Stop()
	for {
		r.mu.Lock()
		open, idle := r.open, r.idle
		r.mu.Unlock()
		if open == 0 {
			return
		}
		select {
		case <-idle:
		case <-timer.C:
			r.store.log.Warn("Vault has not been told to end all credentials of servers: they end by themselves", "left", open)
			return
		}
	}
}
