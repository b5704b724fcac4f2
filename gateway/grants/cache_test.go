package grants

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

func TestNoIsRememberedForNegativeTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		b := settledBroker(t, m)
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
				b := settledBroker(t, m)
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
		ctx := b.liveRequest(t, "held", "files")
		for i := range 1000 {
			m.addToken(fmt.Sprint("t", i), fmt.Sprint("c", i))
			require.NoError(t, grantErr(t, b, fmt.Sprint("t", i)))
		}
		require.LessOrEqual(t, b.Stats().Grants, 101)
		require.Len(t, b.cache.byAccessor, b.Stats().Grants)
		require.Len(t, b.cache.byPrincipal, b.Stats().Grants)
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
	again, err := b.Grant(t.Context(), "t", home)
	require.NoError(t, err)
	require.NotEqual(t, g.Stay(), again.Stay(), "so that the end of the first does not concern it")
}

func TestIdleAndExpiredGrantsAreRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		m.addToken("idle", "c")
		m.addToken("expiring", "c").expires = time.Now().Add(time.Minute)
		b := settledBroker(t, m)
		require.NoError(t, grantErr(t, b, "idle"))
		require.NoError(t, grantErr(t, b, "expiring"))
		after(2 * time.Minute)
		require.Equal(t, 1, b.Stats().Grants)
		after(idleLimit + cleanInterval)
		require.Zero(t, b.Stats().Grants)
		require.Empty(t, b.cache.byAccessor)
		require.Empty(t, b.cache.byPrincipal)
	})
}
