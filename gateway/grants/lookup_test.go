package grants

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

func TestWhoWaitsTooLongForALookupIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		m.latency = 900 * time.Millisecond
		b := settledBroker(t, m)
		const tokens = 100
		var refused atomic.Int64
		for i := range tokens {
			m.addToken(fmt.Sprint("t", i), "c")
			go func() {
				started := time.Now()
				if _, err := b.Grant(context.Background(), fmt.Sprint("t", i), home); err != nil {
					refused.Add(1)
					if d := time.Since(started); !errors.Is(err, ErrUnavailable) || d > slotTimeout+vaultclient.LookupTimeout {
						t.Errorf("%v after %s", err, d)
					}
				}
			}()
		}
		after(10 * time.Second)
		require.NotZero(t, refused.Load())
		require.LessOrEqual(t, m.mostFlying, coldInFlight, "unknown tokens leave room for known ones")
	})
}

func TestLookupThatHangsIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		m.addToken("t", "c")
		m.latency = time.Hour
		b := settledBroker(t, m)
		started := time.Now()
		require.ErrorIs(t, grantErr(t, b, "t"), ErrUnavailable)
		require.Equal(t, vaultclient.LookupTimeout, time.Since(started))
	})
}

func TestThousandRequestsWithOneTokenAreOneLookup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		m.addToken("t", "c")
		m.latency = 10 * time.Millisecond
		b := settledBroker(t, m)
		var served atomic.Int64
		for range 1000 {
			go func() {
				if _, err := b.Grant(context.Background(), "t", home); err == nil {
					served.Add(1)
				}
			}()
		}
		after(time.Second)
		require.EqualValues(t, 1000, served.Load())
		require.Equal(t, 1, m.asked())
	})
}

func TestRequestThatGivesUpDoesNotEndTheLookupOfTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		m.addToken("t", "c")
		m.latency = 100 * time.Millisecond
		b := settledBroker(t, m)
		impatient, cancel := context.WithCancel(t.Context())
		first := make(chan error, 1)
		go func() {
			_, err := b.Grant(impatient, "t", home)
			first <- err
		}()
		synctest.Wait()
		cancel()
		require.ErrorIs(t, <-first, context.Canceled)
		require.NoError(t, grantErr(t, b, "t"))
		require.Equal(t, 1, m.asked())
	})
}

type denyAll struct{ asked int }

func (d *denyAll) Allow(netip.Addr) bool { d.asked++; return false }

func TestKnownTokenIsNeverRateLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		m.addToken("t", "c")
		limiter := &denyAll{}
		b := settledBroker(t, m)
		require.NoError(t, grantErr(t, b, "t"))
		b.options.Cold = limiter
		require.ErrorIs(t, grantErr(t, b, "unknown"), ErrRateLimited)
		require.Equal(t, 1, limiter.asked)
		m.mutate(vaultclient.Change{Type: typeClient, Operation: operationUpdate, ClientID: "id-c"}, func() {})
		synctest.Wait()
		require.NoError(t, grantErr(t, b, "t"), "a grant that must be confirmed is a known one")
		require.Equal(t, 1, limiter.asked)
	})
}
