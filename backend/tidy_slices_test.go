package backend

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// hookedStorage tells of each call, before and after it is done.
type hookedStorage struct {
	logical.Storage
	before, after func(what, key string)
}

func (s *hookedStorage) around(what, key string, do func()) {
	if s.before != nil {
		s.before(what, key)
	}
	do()
	if s.after != nil {
		s.after(what, key)
	}
}

func (s *hookedStorage) Get(ctx context.Context, key string) (entry *logical.StorageEntry, err error) {
	s.around("get", key, func() { entry, err = s.Storage.Get(ctx, key) })
	return entry, err
}

func (s *hookedStorage) Put(ctx context.Context, entry *logical.StorageEntry) (err error) {
	s.around("put", entry.Key, func() { err = s.Storage.Put(ctx, entry) })
	return err
}

func (s *hookedStorage) Delete(ctx context.Context, key string) (err error) {
	s.around("delete", key, func() { err = s.Storage.Delete(ctx, key) })
	return err
}

func (s *hookedStorage) List(ctx context.Context, prefix string) (keys []string, err error) {
	s.around("list", prefix, func() { keys, err = s.Storage.List(ctx, prefix) })
	return keys, err
}

// litter is a mount full of entries that tidy removes: 120 leased tokens, revoked and
// expired, of one client, and predecessors of three others.
func litter(t *testing.T) *env {
	t.Helper()
	e := newEnv(t).withSignIn()
	for i := range 5 {
		e.signedIn(job(i), "c", data{"assertion_id": fmt.Sprint(i), "assertion_expires": e.in(time.Minute)})
	}
	e.clock.Advance(2 * time.Hour)
	e.delete("clients/c")
	e.client("ci", data{})
	for range 100 {
		e.lease("ci", nil)
	}
	e.write("revoke-client/ci", nil)
	for range 20 {
		e.lease("ci", data{"ttl": "1m"})
	}
	for _, name := range []string{"a", "b", "c"} {
		e.client(name, data{})
		e.rotate(name, data{"grace_period": "1m"})
	}
	e.clock.Advance(tidyMinAge)
	return e
}

// requireTidied fails the test unless all that is left is needed.
func (e *env) requireTidied() {
	e.t.Helper()
	require.Len(e.t, e.keys(tokenPrefix), 3)
	require.Empty(e.t, e.keys(leasePrefix))
	require.Empty(e.t, e.keys(signInPrefix))
	require.Empty(e.t, e.keys(assertionPrefix))
	for _, name := range []string{"a", "b", "c"} {
		require.Len(e.t, e.list("clients/"+name+"/tokens/"), 1)
	}
}

// Vault gives the periodic run seconds, however many tokens one client has.
func TestTidyGetsOnHoweverLittleTimeItIsGiven(t *testing.T) {
	e := litter(t)
	inner, slices := e.storage, 0
	for ; e.b.tidying.read().State != "finished"; slices++ {
		require.Less(t, slices, 400, "tidy does not get on: %+v", e.b.tidying.read())
		ctx, cancel := context.WithCancel(context.Background())
		calls := 0
		storage := &hookedStorage{Storage: inner, before: func(string, string) {
			if calls++; calls == 10 {
				cancel()
			}
		}}
		require.True(t, e.b.tidying.begin(e.clock.Now(), false))
		err := e.b.tidy(ctx, storage)
		e.b.tidying.end(e.clock.Now(), err == nil, nil)
		cancel()
	}
	require.Greater(t, slices, 20, "the slices were not short")
	e.requireTidied()
	require.EqualValues(t, 128, e.b.tidying.read().TokensRemoved, "the counts are those of the whole run")
}

func TestTidyDoesWhatIsLeftAfterAnyStorageCallWentWrong(t *testing.T) {
	before := litter(t)
	held := contentsOf(t, before.storage)
	for at := 1; ; at += 7 { // of some 900
		for _, f := range []fault{fails, isDoneAndFails} {
			storage := &faultyStorage{Storage: held.storage(t)}
			e := newEnvOn(quiet{t}, storage, before.clock)
			storage.arm(at, f, nil)
			require.True(t, e.b.startTidy(storage, 0))
			e.await()
			struck := storage.disarm()
			if struck == "" {
				require.Greater(t, at, 300)
				return
			}
			if e.b.tidying.read().State != "finished" {
				require.Equal(t, "failed", e.read("tidy/status")["state"])
				require.Contains(t, e.read("tidy/status")["error"], errStorage.Error())
			}
			require.Empty(t, e.b.heldLocks())
			e.tidyToEnd()
			e.requireTidied()
		}
	}
}

func TestTidyAnnouncesNothing(t *testing.T) {
	e := litter(t)
	require.Empty(t, e.watch(func() { e.tidyToEnd() }), "gateways know of all that tidy removes")
	e.requireTidied()
}

// The renewal is decided just before the token expires, and written just after
// tidy has read that it did.
func TestTidySparesALeaseThatIsRenewedMeanwhile(t *testing.T) {
	e := newEnv(t)
	e.client("c", data{})
	l := e.lease("c", data{"ttl": "1h"})
	e.clock.Advance(time.Hour)

	storage := &hookedStorage{Storage: e.storage}
	storage.after = func(_, key string) {
		if !strings.HasPrefix(key, tokenPrefix) || l == nil {
			return
		}
		renewed := l
		l = nil
		e.clock.Advance(-time.Second)
		resp, err := e.renewLease(renewed)
		require.NoError(t, err)
		require.NoError(t, resp.Error())
		e.clock.Advance(time.Second)
	}
	token := l.token
	require.NoError(t, e.b.tidyPointer(context.Background(), storage, strings.TrimPrefix(e.leasedKey(), tokenPrefix)))
	require.Nil(t, l, "the lease was not renewed")
	require.True(t, e.active(token))
	require.Len(t, e.keys(leasePrefix), 1)
}

// leasedKey is the storage key of the only leased token.
func (e *env) leasedKey() string {
	e.t.Helper()
	for _, key := range e.keys(tokenPrefix) {
		p, err := e.b.pointers.read(context.Background(), e.storage, strings.TrimPrefix(key, tokenPrefix))
		require.NoError(e.t, err)
		if p.Kind == kindLeased {
			return key
		}
	}
	require.Fail(e.t, "there is no leased token")
	return ""
}
