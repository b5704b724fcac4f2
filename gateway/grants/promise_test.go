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
		b := runningBroker(t, m, nil)
		synctest.Wait()
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
		b := runningBroker(t, m, nil)
		synctest.Wait()
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
		b := runningBroker(t, m, nil)
		synctest.Wait()
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
		b := runningBroker(t, m, nil)
		synctest.Wait()
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

func TestWhoWaitsTooLongForALookupIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		m.latency = 900 * time.Millisecond
		b := runningBroker(t, m, nil)
		synctest.Wait()
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
		b := runningBroker(t, m, nil)
		synctest.Wait()
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
		b := runningBroker(t, m, nil)
		synctest.Wait()
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
		b := runningBroker(t, m, nil)
		synctest.Wait()
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

func TestNoIsRememberedForNegativeTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		b := runningBroker(t, m, nil)
		synctest.Wait()
		for range 10 {
			require.ErrorIs(t, grantErr(t, b, "unknown"), ErrInactive)
		}
		require.Equal(t, 1, m.asked())
		after(31 * time.Second)
		require.ErrorIs(t, grantErr(t, b, "unknown"), ErrInactive)
		require.Equal(t, 2, m.asked())
	})
}

func TestNoIsForgottenWhenATokenMayHaveBecomeActive(t *testing.T) {
	changes := map[string]vaultclient.Change{
		"a custom token was created": {Type: typeToken, Operation: operationCreate, ClientID: "id-c", Accessor: "acc-t"},
		"a client was enabled":       {Type: typeClient, Operation: operationUpdate, ClientID: "id-c"},
		"the mount changed":          {Type: typeMount, Operation: operationUpdate},
		"the configuration changed":  {Type: typeConfig, Operation: operationUpdate},
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newModel()
				token := m.addToken("t", "c")
				token.active = false
				b := runningBroker(t, m, nil)
				synctest.Wait()
				require.ErrorIs(t, grantErr(t, b, "t"), ErrInactive)
				m.mutate(change, func() { token.active = true })
				synctest.Wait()
				require.NoError(t, grantErr(t, b, "t"))
			})
		})
	}
}

func TestNegativeAnswersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		b := runningBroker(t, m, func(o *Options) { o.Grants.MaxEntries = 100 })
		synctest.Wait()
		for i := range 1000 {
			require.ErrorIs(t, grantErr(t, b, fmt.Sprint("unknown", i)), ErrInactive)
		}
		require.Equal(t, 100, b.Stats().Negatives)
	})
}

func TestGrantsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		b := runningBroker(t, m, func(o *Options) { o.Grants.MaxEntries = 100 })
		synctest.Wait()
		m.addToken("held", "c")
		ctx, h := b.hold(t, "held", "files")
		defer h.Release()
		for i := range 1000 {
			m.addToken(fmt.Sprint("t", i), fmt.Sprint("c", i))
			require.NoError(t, grantErr(t, b, fmt.Sprint("t", i)))
		}
		require.LessOrEqual(t, b.Stats().Grants, 101)
		require.Len(t, b.cache.byAccessor, b.Stats().Grants)
		require.Len(t, b.cache.byClient, b.Stats().Grants)
		require.NoError(t, ctx.Err(), "what is in use is not evicted")
		m.revoke("held")
		synctest.Wait()
		require.ErrorIs(t, context.Cause(ctx), ErrInactive)
	})
}

func TestGrantThatWasEvictedMustBeAskedForAgain(t *testing.T) {
	m := newModel()
	m.addToken("t", "c")
	b := brokerFor(t, m)
	g, err := b.Grant(t.Context(), "t", home)
	require.NoError(t, err)
	b.mu.Lock()
	b.evict(b.cache.longestUnused(0))
	require.Zero(t, b.Stats().Grants)
	b.mu.Unlock()
	_, _, err = b.Hold(t.Context(), g, Use{Token: "t", Source: home})
	require.ErrorIs(t, err, ErrStale)
}

func TestIdleAndExpiredGrantsAreRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		m.addToken("idle", "c")
		m.addToken("expiring", "c").expires = time.Now().Add(time.Minute)
		b := runningBroker(t, m, nil)
		synctest.Wait()
		require.NoError(t, grantErr(t, b, "idle"))
		require.NoError(t, grantErr(t, b, "expiring"))
		after(2 * time.Minute)
		require.Equal(t, 1, b.Stats().Grants)
		after(idleLimit + cleanInterval)
		require.Zero(t, b.Stats().Grants)
		require.Empty(t, b.cache.byAccessor)
		require.Empty(t, b.cache.byClient)
	})
}

type denyAll struct{ asked int }

func (d *denyAll) Allow(netip.Addr) bool { d.asked++; return false }

func TestKnownTokenIsNeverRateLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		m.addToken("t", "c")
		limiter := &denyAll{}
		b := runningBroker(t, m, nil)
		synctest.Wait()
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

func TestARevokedTokenThatIsAllowedAgainWorksAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		m.addToken("custom", "c")
		b := runningBroker(t, m, nil)
		synctest.Wait()
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
		b := runningBroker(t, m, nil)
		synctest.Wait()
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
