package feed

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

var errStorage = errors.New("the storage failed, as the test told it to")

// mortal is storage of a process that may be told to die.
type mortal struct {
	logical.Storage

	mu     sync.Mutex
	calls  []string // the writes
	writes int      // how many writes are left until one fails; 0: none does
	done   bool     // the write that fails is done all the same
	deadly bool     // nothing works after it
	dead   bool
	hold   func(what string) // called before each write
}

// failAt has the n-th write from now on fail.
func (m *mortal) failAt(n int, done bool) { m.arm(n, done, false) }

// dieAt has the n-th write from now on fail, and everything after it.
func (m *mortal) dieAt(n int, done bool) { m.arm(n, done, true) }

func (m *mortal) arm(n int, done, deadly bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.writes, m.done, m.deadly, m.dead = n, done, deadly, false
}

// revive heals the storage.
func (m *mortal) revive() { m.arm(0, false, false) }

// died reports whether the write that was to fail was reached.
func (m *mortal) died() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.dead
}

func (m *mortal) note(what string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls = append(m.calls, what)
}

func (m *mortal) write(what string, do func() error) error {
	if m.hold != nil {
		m.hold(what)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead {
		return errStorage
	}
	m.calls = append(m.calls, what)
	if m.writes > 0 {
		if m.writes--; m.writes == 0 {
			m.dead = m.deadly
			if m.done {
				if err := do(); err != nil {
					return err
				}
			}
			return errStorage
		}
	}
	return do()
}

func (m *mortal) Put(ctx context.Context, entry *logical.StorageEntry) error {
	return m.write("put", func() error { return m.Storage.Put(ctx, entry) })
}

func (m *mortal) Delete(ctx context.Context, key string) error {
	return m.write("delete", func() error { return m.Storage.Delete(ctx, key) })
}

func (m *mortal) Get(ctx context.Context, key string) (*logical.StorageEntry, error) {
	if m.died() {
		return nil, errStorage
	}
	return m.Storage.Get(ctx, key)
}

func (m *mortal) List(ctx context.Context, prefix string) ([]string, error) {
	if m.died() {
		return nil, errStorage
	}
	return m.Storage.List(ctx, prefix)
}

// stored are the events in storage.
func (b *bench) stored() []Event {
	b.t.Helper()
	events, err := b.feed.readEvents(context.Background(), b.storage)
	require.NoError(b.t, err)
	return events
}

// names are the names that a watcher at index gets, in order.
func (b *bench) names(index uint64) []string {
	b.t.Helper()
	answer := b.watch(index, 0)
	require.False(b.t, answer.Reset)
	require.True(b.t, slices.IsSortedFunc(answer.Events, func(a, b Event) int { return int(a.Index) - int(b.Index) }))
	return answer.names()
}
