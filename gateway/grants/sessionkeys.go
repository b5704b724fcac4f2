package grants

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"sync"
	"time"

	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

// SessionKeySize is the size of a session key in bytes: AES-256.
const SessionKeySize = 32

// SessionKeys are the keys under which the gateways of one mount seal session
// ids. All gateways of a mount have the same ones, so any of them can open another's
// ids. A snapshot is immutable.
type SessionKeys struct {
	// Current is the version to seal with. Keys always holds it.
	Current int

	// Keys maps each version that still opens sessions to its key.
	Keys map[int][SessionKeySize]byte

	// MountID identifies the engine's mount: part of the associated data, so
	// that a session of one mount means nothing at another.
	MountID string

	// Registration is the key under which dynamic registrations of applications are
	// sealed. Time does not drop it. Zero: the engine gives none.
	Registration [SessionKeySize]byte
}

// String keeps the keys out of logs.
func (*SessionKeys) String() string { return "<session keys>" }

// GoString does the same for %#v.
func (k *SessionKeys) GoString() string { return k.String() }

const (
	// keysInterval is how often the session keys are fetched in any case.
	keysInterval = 10 * time.Minute

	// newerKeysPause is the least time between two fetches for sessions of newer keys.
	// newerKeysTimeout bounds one.
	newerKeysPause   = 500 * time.Millisecond
	newerKeysTimeout = time.Second
)

// SessionKeys returns the keys that seal session ids, or nil if Vault has not
// given any yet.
func (b *Broker) SessionKeys() *SessionKeys { return b.keys.Load() }

// RefreshSessionKeys fetches the session keys for a request whose session is
// sealed under a newer key than those known: another gateway has heard of that
// key first. It returns when a fetch that began after the call has ended. Many requests
// share one fetch, and there are at most two a second. The error is ErrUnavailable, or
// that of ctx.
func (b *Broker) RefreshSessionKeys(ctx context.Context) error {
	f := b.newer.join(b.fetchKeys)
	select {
	case <-f.done:
		if f.err != nil {
			return fmt.Errorf("%w: the session keys: %w", ErrUnavailable, f.err)
		}
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// newerKeys paces the fetches for sessions of newer keys.
type newerKeys struct {
	mu   sync.Mutex
	next *sharedRequest // that has not begun; nil: none
	last time.Time      // when the last one began
}

// join returns the fetch that begins next.
func (n *newerKeys) join(fetch func(context.Context) error) *sharedRequest {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.next == nil {
		n.next = &sharedRequest{done: make(chan struct{})}
		f := n.next
		time.AfterFunc(newerKeysPause-time.Since(n.last), func() { n.run(f, fetch) })
	}
	return n.next
}

func (n *newerKeys) run(f *sharedRequest, fetch func(context.Context) error) {
	n.mu.Lock()
	n.next, n.last = nil, time.Now()
	n.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), newerKeysTimeout)
	defer cancel()
	f.err = fetch(ctx)
	close(f.done)
}

// runKeys fetches the session keys whenever they may have changed.
func (b *Broker) runKeys(ctx context.Context) {
	b.refetch(ctx, "session keys", b.wakeKeys, b.fetchKeys, func() time.Duration { return keysInterval })
}

// fetchKeys makes one fetch after the other, so that no older answer takes the
// place of a newer one.
func (b *Broker) fetchKeys(ctx context.Context) error {
	b.keysMu.Lock()
	defer b.keysMu.Unlock()
	list, err := b.engine.SessionKeys(ctx)
	if err != nil {
		return err
	}
	keys, err := sessionKeysOf(list)
	if err != nil {
		return err
	}
	b.keys.Store(keys)
	return nil
}

// sessionKeysOf reads the keys from their wire form.
func sessionKeysOf(list *vaultclient.SessionKeyList) (*SessionKeys, error) {
	keys := &SessionKeys{Current: list.Current, Keys: make(map[int][SessionKeySize]byte, len(list.Keys)), MountID: list.MountID}
	for version, entry := range list.Keys {
		raw, err := base64.StdEncoding.DecodeString(entry.Key)
		if err != nil || len(raw) != SessionKeySize {
			return nil, fmt.Errorf("session keys: version %d is not %d bytes in base64", version, SessionKeySize)
		}
		keys.Keys[version] = [SessionKeySize]byte(raw)
	}
	if list.RegistrationKey != "" {
		raw, err := base64.StdEncoding.DecodeString(list.RegistrationKey)
		if err != nil || len(raw) != SessionKeySize {
			return nil, fmt.Errorf("session keys: the registration key is not %d bytes in base64", SessionKeySize)
		}
		keys.Registration = [SessionKeySize]byte(raw)
	}
	if _, ok := keys.Keys[keys.Current]; !ok || keys.MountID == "" {
		return nil, errors.New("session keys: the answer has no current key, or no mount_id")
	}
	return keys, nil
}
