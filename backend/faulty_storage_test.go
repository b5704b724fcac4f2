package backend

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

var errStorage = errors.New("the storage failed, as the test told it to")

// fault is a way in which a storage call goes wrong.
type fault int

const (
	// fails: the call is not done and answers an error.
	fails fault = iota
	// isDoneAndFails: the call is done and answers an error anyway, as one
	// does whose answer was lost.
	isDoneAndFails
	// losesItsCaller: the caller goes away just before the call.
	losesItsCaller
	// isNotReached: the process dies just before the call.
	isNotReached
	// isTheLast: the process dies just after the call.
	isTheLast
)

// faultNames continue the sentence "the 3rd storage call …".
var faultNames = map[fault]string{
	fails:          "fails",
	isDoneAndFails: "is done and fails",
	losesItsCaller: "loses its caller",
	isNotReached:   "is not reached before the process dies",
	isTheLast:      "is the last before the process dies",
}

// deadly reports whether the process ends with the fault.
func (f fault) deadly() bool { return f == isNotReached || f == isTheLast }

// faultyStorage is storage one of whose calls goes wrong. Like Vault's, it does
// nothing for a context that has ended.
type faultyStorage struct {
	logical.Storage

	mu     sync.Mutex
	at     int // the call that goes wrong; 0: none
	fault  fault
	leave  context.CancelFunc // has the caller go away
	calls  int
	struck string // the call that went wrong
}

// arm has the at-th call from now on go wrong.
func (s *faultyStorage) arm(at int, f fault, leave context.CancelFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at, s.fault, s.leave, s.calls, s.struck = at, f, leave, 0, ""
}

// disarm heals the storage and tells which call went wrong, if any did.
func (s *faultyStorage) disarm() (struck string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = 0
	return s.struck
}

// call does one call, or does it wrong.
func (s *faultyStorage) call(ctx context.Context, what, key string, do func() error) error {
	s.mu.Lock()
	s.calls++
	strikes := s.at > 0 && s.calls == s.at
	dead := s.at > 0 && s.calls > s.at && s.fault.deadly()
	if strikes {
		s.struck = fmt.Sprintf("%s %s", what, key)
	}
	f, leave := s.fault, s.leave
	s.mu.Unlock()

	if dead {
		return errStorage
	}
	if strikes {
		switch f {
		case fails, isNotReached:
			return errStorage
		case isDoneAndFails, isTheLast:
			if err := do(); err != nil {
				return err
			}
			return errStorage
		case losesItsCaller:
			leave()
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return do()
}

func (s *faultyStorage) Get(ctx context.Context, key string) (entry *logical.StorageEntry, err error) {
	err = s.call(ctx, "get", key, func() error {
		entry, err = s.Storage.Get(ctx, key)
		return err
	})
	if err != nil {
		return nil, err
	}
	return entry, nil
}

func (s *faultyStorage) Put(ctx context.Context, entry *logical.StorageEntry) error {
	return s.call(ctx, "put", entry.Key, func() error { return s.Storage.Put(ctx, entry) })
}

func (s *faultyStorage) Delete(ctx context.Context, key string) error {
	return s.call(ctx, "delete", key, func() error { return s.Storage.Delete(ctx, key) })
}

func (s *faultyStorage) List(ctx context.Context, prefix string) (keys []string, err error) {
	err = s.call(ctx, "list", prefix, func() error {
		keys, err = s.Storage.List(ctx, prefix)
		return err
	})
	if err != nil {
		return nil, err
	}
	return keys, nil
}

// contents are all entries of a storage.
type contents map[string][]byte

func contentsOf(t testing.TB, s logical.Storage) contents {
	t.Helper()
	keys, err := logical.CollectKeys(context.Background(), s)
	require.NoError(t, err)
	all := make(contents, len(keys))
	for _, key := range keys {
		entry, err := s.Get(context.Background(), key)
		require.NoError(t, err)
		all[key] = entry.Value
	}
	return all
}

// storage returns new storage in memory that holds them.
func (c contents) storage(t testing.TB) logical.Storage {
	t.Helper()
	s := &logical.InmemStorage{}
	for key, value := range c {
		require.NoError(t, s.Put(context.Background(), &logical.StorageEntry{Key: key, Value: value}))
	}
	return s
}
