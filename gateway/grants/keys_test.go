package grants

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// keyed is a model that counts who asks for the session keys.
type keyed struct {
	*model
	current atomic.Int64
	fetched atomic.Int64
	takes   time.Duration
}

func (k *keyed) sessionKeys(ctx context.Context) (*SessionKeys, error) {
	k.fetched.Add(1)
	if err := sleep(ctx, k.takes); err != nil {
		return nil, err
	}
	keys, err := k.model.sessionKeys(ctx)
	if err == nil {
		keys.Current = int(k.current.Load())
		keys.Keys[keys.Current] = [SessionKeySize]byte{9}
	}
	return keys, err
}

func keyedBroker(t *testing.T) (*keyed, *Broker) {
	t.Helper()
	k := &keyed{model: newModel()}
	k.current.Store(1)
	b, err := newBroker(testOptions(), k)
	require.NoError(t, err)
	require.NoError(t, b.fetchKeys(t.Context()))
	return k, b
}

func TestManySessionsOfANewerKeyAreOneFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := keyedBroker(t)
		k.takes = 50 * time.Millisecond
		k.current.Store(2)
		var opened atomic.Int64
		for range 1000 {
			go func() {
				if b.RefreshSessionKeys(t.Context()) == nil && b.SessionKeys().Current == 2 {
					opened.Add(1)
				}
			}()
		}
		after(2 * time.Second)
		require.EqualValues(t, 1000, opened.Load())
		require.LessOrEqual(t, k.fetched.Load(), int64(3), "the first fetch, one, and one for those who came after it had begun")
	})
}

func TestMadeUpVersionsCostTwoFetchesASecondAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := keyedBroker(t)
		started := time.Now()
		for time.Since(started) < 10*time.Second {
			require.NoError(t, b.RefreshSessionKeys(t.Context()))
		}
		require.LessOrEqual(t, k.fetched.Load(), int64(22))
	})
}

func TestAKeyMadeDuringAFetchIsInTheNextOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := keyedBroker(t)
		require.NoError(t, b.RefreshSessionKeys(t.Context()))
		k.current.Store(3) // just after a fetch, so that the next one has to wait
		require.NoError(t, b.RefreshSessionKeys(t.Context()))
		require.Equal(t, 3, b.SessionKeys().Current)
	})
}

func TestKeysThatCannotBeFetchedAreNotWaitedForWithoutEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := keyedBroker(t)
		k.takes = time.Hour
		started := time.Now()
		require.ErrorIs(t, b.RefreshSessionKeys(t.Context()), ErrUnavailable)
		require.LessOrEqual(t, time.Since(started), newerKeysPause+newerKeysTimeout)
		require.Equal(t, 1, b.SessionKeys().Current, "what is known stays")

		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, b.RefreshSessionKeys(ctx), context.DeadlineExceeded)
		after(5 * time.Second)
	})
}
