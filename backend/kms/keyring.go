package kms

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"vault-plugin-secrets-mcp/backend/clock"
	"vault-plugin-secrets-mcp/backend/token"
)

const (
	// Period is the time after which KMS is asked again for a data key that is in use. It
	// bounds the time for which tokens still open after their KMS key was disabled.
	Period = 5 * time.Minute

	// MaxStale is how long a data key is used after KMS last confirmed it, while
	// KMS does not answer.
	MaxStale = time.Hour

	// retryAfter is how long KMS is left alone after it refused or did not answer.
	retryAfter = 10 * time.Second
)

// ErrUnknownKey: no data key of that id is in the keyring.
var ErrUnknownKey = errors.New("there is no such data key")

// WrappedKey is a data key as it is stored outside of memory, with the values that KMS
// needs to unwrap it.
type WrappedKey struct {
	ID       string // of the data key
	KeyARN   string // of the KMS key it is wrapped under
	Wrapped  []byte
	Mount    string // the mount's accessor
	Audience string
}

// Unwrapper is KMS, as far as a Keyring needs it: a [*Client].
type Unwrapper interface {
	// Unwrap returns the DataKeySize bytes of a data key. Its error says by
	// Refused whether it is a no.
	Unwrap(ctx context.Context, w *WrappedKey) ([]byte, error)
}

// Options of a Keyring. The zero value of each has a default.
type Options struct {
	Period   time.Duration // default: Period
	MaxStale time.Duration // default: MaxStale
	Now      func() time.Time
}

// Keyring holds unwrapped data keys, in memory only. It is safe for concurrent
// use, and reading it takes no lock.
//
// A key that KMS refuses to unwrap again is dropped at once, and comes back by
// itself when KMS unwraps it again. While KMS does not answer, a key is kept for
// MaxStale after it was last confirmed.
type Keyring struct {
	opts    Options
	flights singleflight.Group

	mu   sync.Mutex // of who changes keys
	keys atomic.Pointer[map[string]*heldKey]
}

// heldKey is one data key with its state. It is immutable.
type heldKey struct {
	key       *token.SealingKey // nil: KMS refuses it, or never unwrapped it
	confirmed time.Time         // sending of the request that KMS last said yes to
	tried     time.Time         // sending of the last request
	err       error             // of the last request
}

// NewKeyring returns an empty one.
func NewKeyring(opts Options) *Keyring {
	if opts.Period == 0 {
		opts.Period = Period
	}
	if opts.MaxStale == 0 {
		opts.MaxStale = MaxStale
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	r := &Keyring{opts: opts}
	r.keys.Store(&map[string]*heldKey{})
	return r
}

// Key returns the data key, and asks KMS for it where that is due. However many callers
// ask at the same time, KMS is asked once. The error is an [*Error], or says that the
// plaintext from KMS is not a data key.
func (r *Keyring) Key(ctx context.Context, c Unwrapper, w *WrappedKey) (*token.SealingKey, error) {
	if r.Due(w.ID) {
		r.Refresh(ctx, c, w)
	}
	key, err := r.Held(w.ID)
	if errors.Is(err, ErrUnknownKey) {
		err = explain("Decrypt", w.KeyARN, ctx.Err()) // which ended the wait
	}
	return key, err
}

// Held returns the data key of that id as far as it is known, without asking KMS. The
// error is ErrUnknownKey, or the error of Key.
func (r *Keyring) Held(id string) (*token.SealingKey, error) {
	h := r.held(id)
	switch {
	case h == nil:
		return nil, ErrUnknownKey
	case h.key == nil:
		return nil, h.err
	case clock.Age(r.opts.Now(), h.confirmed) < r.opts.MaxStale:
		return h.key, nil
	case h.err != nil:
		return nil, fmt.Errorf("data key %s was not confirmed for %s: %w", id, r.opts.MaxStale, h.err)
	}
	return nil, fmt.Errorf("data key %s was not confirmed for %s", id, r.opts.MaxStale)
}

// Put takes in a data key that KMS has just made. It clears the key's bytes.
func (r *Keyring) Put(w *WrappedKey, plaintext []byte) (*token.SealingKey, error) {
	defer clear(plaintext)
	key, err := token.NewSealingKey(w.ID, plaintext, w.Mount, w.Audience)
	if err != nil {
		return nil, err
	}
	now := r.opts.Now()
	r.set(w.ID, &heldKey{key: key, confirmed: now, tried: now})
	return key, nil
}

// Refresh asks KMS for the data key now, whether that is due or not, and waits for
// the answer until ctx ends. Held then has the result.
func (r *Keyring) Refresh(ctx context.Context, c Unwrapper, w *WrappedKey) {
	// The first caller's end must not end the others' wait; Timeout does.
	asking := context.WithoutCancel(ctx)
	answered := r.flights.DoChan(w.ID, func() (any, error) {
		r.refresh(asking, c, w)
		return nil, nil
	})
	select {
	case <-answered:
	case <-ctx.Done():
	}
}

func (r *Keyring) refresh(ctx context.Context, c Unwrapper, w *WrappedKey) {
	sent := r.opts.Now()
	next := heldKey{tried: sent}
	if h := r.held(w.ID); h != nil {
		next.key, next.confirmed = h.key, h.confirmed
	}
	plaintext, err := c.Unwrap(ctx, w)
	if err == nil && next.key == nil {
		next.key, err = token.NewSealingKey(w.ID, plaintext, w.Mount, w.Audience)
	}
	clear(plaintext)
	next.err = err
	switch {
	case err == nil:
		next.confirmed = sent
	case Refused(err):
		next.key = nil
	}
	r.set(w.ID, &next)
}

// Keep drops every data key but those.
func (r *Keyring) Keep(ids func(id string) bool) {
	r.change(func(keys map[string]*heldKey) {
		maps.DeleteFunc(keys, func(id string, _ *heldKey) bool { return !ids(id) })
	})
}

// Confirmed returns when KMS last said yes to the data key, the zero time where
// it never did or says no now.
func (r *Keyring) Confirmed(id string) time.Time {
	h := r.held(id)
	if h == nil || h.key == nil {
		return time.Time{}
	}
	return h.confirmed
}

// Failure returns why KMS did not confirm the data key when it was last asked, nil
// where it did.
func (r *Keyring) Failure(id string) error {
	if h := r.held(id); h != nil {
		return h.err
	}
	return nil
}

// Due reports whether it is time to ask KMS for the data key.
func (r *Keyring) Due(id string) bool {
	h := r.held(id)
	switch {
	case h == nil:
		return true
	case h.err != nil:
		return clock.Age(r.opts.Now(), h.tried) >= min(retryAfter, r.opts.Period)
	}
	return clock.Age(r.opts.Now(), h.confirmed) >= r.opts.Period
}

func (r *Keyring) held(id string) *heldKey { return (*r.keys.Load())[id] }

func (r *Keyring) set(id string, h *heldKey) {
	r.change(func(keys map[string]*heldKey) { keys[id] = h })
}

// change replaces the keys by a changed copy.
func (r *Keyring) change(do func(map[string]*heldKey)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	keys := maps.Clone(*r.keys.Load())
	do(keys)
	r.keys.Store(&keys)
}
