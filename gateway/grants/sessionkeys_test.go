package grants

import (
	"context"
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/backoff"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

// keyed is a model that counts who asks for the session keys.
type keyed struct {
	*model
	current atomic.Int64
	fetched atomic.Int64
	takes   time.Duration
}

func (k *keyed) SessionKeys(ctx context.Context) (*vaultclient.SessionKeyList, error) {
	k.fetched.Add(1)
	if err := backoff.Sleep(ctx, k.takes); err != nil {
		return nil, err
	}
	keys, err := k.model.SessionKeys(ctx)
	if err == nil {
		keys.Current = int(k.current.Load())
		keys.Keys[keys.Current] = wireKey(9)
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

func TestSessionKeysThatAreNotAllThereAreRefused(t *testing.T) {
	good := strings.Repeat("A", 43) + "="
	tests := map[string]string{
		"the current one is missing":  `{"current_version":2,"mount_id":"m","keys":{"1":{"key":"` + good + `"}}}`,
		"one is too short":            `{"current_version":1,"mount_id":"m","keys":{"1":{"key":"AAAA"}}}`,
		"one is not base64":           `{"current_version":1,"mount_id":"m","keys":{"1":{"key":"***"}}}`,
		"the mount has no id":         `{"current_version":1,"keys":{"1":{"key":"` + good + `"}}}`,
		"the registration key is cut": `{"current_version":1,"mount_id":"m","keys":{"1":{"key":"` + good + `"}},"registration_key":"AAAA"}`,
	}
	for name, data := range tests {
		t.Run(name, func(t *testing.T) {
			var list vaultclient.SessionKeyList
			require.NoError(t, json.Unmarshal([]byte(data), &list))
			_, err := sessionKeysOf(&list)
			require.Error(t, err)
		})
	}
}
