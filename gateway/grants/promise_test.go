package grants

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

// after lets time pass in the bubble, and everything settle.
func after(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func grantErr(t *testing.T, b *Broker, token string) error {
	t.Helper()
	_, err := b.Grant(t.Context(), token, home)
	return err
}

func TestKnownTokenIsNotAskedAboutWhileTheFeedIsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, b, _ := brokerWithToken(t)
		for range 100 {
			require.NoError(t, grantErr(t, b, "t"))
			after(10 * time.Second)
		}
		require.Equal(t, 1, m.asked(), "every answer of the feed confirms the grant")
	})
}

func TestRevokedTokenIsRefusedAtOnceWhileTheFeedIsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, b, _ := brokerWithToken(t)
		require.NoError(t, grantErr(t, b, "t"))
		m.revoke("t")
		synctest.Wait()
		require.ErrorIs(t, grantErr(t, b, "t"), ErrInactive)
		require.Equal(t, 1, m.asked(), "the feed has said it: Vault is not asked")
		after(31 * time.Second)
		require.ErrorIs(t, grantErr(t, b, "t"), ErrInactive)
		require.Equal(t, 2, m.asked(), "it is remembered for as long as a no of Vault's")
	})
}

func TestOtherTokensKeepTheirGrantsWhenOneIsRevoked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		m.addToken("t", "c")
		m.addToken("u", "c")
		b := settledBroker(t, m)
		require.NoError(t, grantErr(t, b, "t"))
		require.NoError(t, grantErr(t, b, "u"))
		m.revoke("t")
		synctest.Wait()
		require.NoError(t, grantErr(t, b, "u"))
		require.Equal(t, 2, m.asked())
	})
}

func TestGrantOutlivesAnOutageNoLongerThanMaxStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, b, _ := brokerWithToken(t)
		require.NoError(t, grantErr(t, b, "t"))
		after(time.Minute)
		m.write(func() { m.down = true })
		confirmed := b.position.Load().sent
		var last time.Time
		for time.Since(confirmed) < time.Minute {
			err := grantErr(t, b, "t")
			if err == nil {
				last = time.Now()
			} else {
				require.ErrorIs(t, err, ErrUnavailable)
			}
			after(500 * time.Millisecond)
		}
		require.Less(t, last.Sub(confirmed), 30*time.Second, "never longer than max_stale after the sending that confirmed it last")
		require.Greater(t, last.Sub(confirmed), 20*time.Second, "an outage does no harm before")
		m.write(func() { m.down = false })
		after(5 * time.Second)
		require.NoError(t, grantErr(t, b, "t"), "it recovers by itself")
	})
}

func TestTokenRevokedDuringAnOutageOfTheFeedIsRefusedWithinMaxStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, b, token := brokerWithToken(t)
		require.NoError(t, grantErr(t, b, "t"))
		m.write(func() { m.noFeed = true; token.active = false })
		confirmed := b.position.Load().sent
		for grantErr(t, b, "t") == nil {
			after(100 * time.Millisecond)
		}
		require.Less(t, time.Since(confirmed), 31*time.Second)
		require.ErrorIs(t, grantErr(t, b, "t"), ErrInactive)
	})
}

func TestNobodyIsRefusedForAnOldRegistryWhileVaultAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		m.reading = 100 * time.Millisecond
		b := runningBroker(t, m, func(o *Options) { o.Grants.MaxStale, o.Grants.Wait = 4*time.Second, time.Second })
		after(time.Second)
		m.write(func() { m.feedDown = true })
		for range 1000 {
			_, err := b.FindServer("files")
			require.NoError(t, err)
			after(50 * time.Millisecond)
		}
		m.write(func() { m.down = true })
		after(5 * time.Second)
		_, err := b.FindServer("files")
		require.ErrorIs(t, err, ErrUnavailable)
	})
}

func TestGrantLivesASecondWhereTheEngineHasNoFeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		m.noFeed = true
		token := m.addToken("t", "c")
		b := settledBroker(t, m)
		require.NoError(t, grantErr(t, b, "t"))
		after(900 * time.Millisecond)
		require.NoError(t, grantErr(t, b, "t"))
		require.Equal(t, 1, m.asked())
		m.write(func() { token.active = false })
		after(100 * time.Millisecond)
		require.ErrorIs(t, grantErr(t, b, "t"), ErrInactive)
	})
}

func TestChangesDuringAnOutageOfTheFeedAreAppliedAfterIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		m.addToken("t", "c")
		m.addToken("u", "c")
		b := settledBroker(t, m)
		require.NoError(t, grantErr(t, b, "t"))
		require.NoError(t, grantErr(t, b, "u"))
		m.write(func() { m.down = true })
		after(6 * time.Second)
		m.revoke("t")
		m.write(func() { m.down = false })
		after(3 * time.Second)
		require.Equal(t, FeedUp, b.Stats().Feed)
		require.ErrorIs(t, grantErr(t, b, "t"), ErrInactive)
		require.NoError(t, grantErr(t, b, "u"))
		require.Equal(t, 2, m.asked(), "what no change touched is not asked about, nor what has ended")
	})
}

func TestGrantsAreConfirmedOneByOneAfterAReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		b := settledBroker(t, m)
		const tokens = 200
		for i := range tokens {
			m.addToken(fmt.Sprint("t", i), "c")
			require.NoError(t, grantErr(t, b, fmt.Sprint("t", i)))
		}
		m.write(func() { m.epoch, m.index, m.latency = "e2", 100, 50*time.Millisecond })
		m.announce(vaultclient.Change{Type: typeServer, Operation: operationUpdate}) // wakes the feed
		after(time.Second)
		require.Equal(t, tokens, m.asked(), "nothing is asked before it is used")
		var served, refused atomic.Int64
		for i := range tokens {
			go func() {
				_, err := b.Grant(context.Background(), fmt.Sprint("t", i), home)
				if err == nil {
					served.Add(1)
				} else if errors.Is(err, ErrUnavailable) {
					refused.Add(1)
				}
			}()
		}
		after(10 * time.Second)
		require.EqualValues(t, tokens, served.Load()+refused.Load())
		require.LessOrEqual(t, m.mostFlying, vaultclient.LookupsInFlight)
		require.NotZero(t, served.Load())
	})
}

func TestARevokedTokenThatIsAllowedAgainWorksAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		m.addToken("custom", "c")
		b := settledBroker(t, m)
		require.NoError(t, grantErr(t, b, "custom"))
		m.revoke("custom")
		synctest.Wait()
		require.ErrorIs(t, grantErr(t, b, "custom"), ErrInactive)
		m.addToken("custom", "c")
		m.announce(vaultclient.Change{Type: typeToken, Operation: operationCreate, Accessor: "of-another", ClientID: "c"})
		after(feedRest)
		require.NoError(t, grantErr(t, b, "custom"))
	})
}

func TestTheEndOfAllTokensCostsVaultNoLookups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		names := make([]string, 100)
		for i := range names {
			names[i] = fmt.Sprintf("t%d", i)
			m.addToken(names[i], "c")
		}
		b := settledBroker(t, m)
		for _, name := range names {
			require.NoError(t, grantErr(t, b, name))
		}
		m.announce(vaultclient.Change{Type: typeMount, Operation: operationRevoke})
		synctest.Wait()
		for _, name := range names {
			require.ErrorIs(t, grantErr(t, b, name), ErrInactive)
		}
		require.Equal(t, len(names), m.asked())
	})
}
