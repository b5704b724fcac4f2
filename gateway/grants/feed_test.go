package grants

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/backoff"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

// pollsOf counts the requests for changes, and has them take their time.
type pollsOf struct {
	*model
	sent    atomic.Int64
	latency atomic.Int64 // before Vault does anything, in nanoseconds
}

func (p *pollsOf) Changes(ctx context.Context, epoch string, index uint64, wait time.Duration) (*vaultclient.Changes, error) {
	p.sent.Add(1)
	if err := backoff.Sleep(ctx, time.Duration(p.latency.Load())); err != nil {
		return nil, err
	}
	return p.model.Changes(ctx, epoch, index, wait)
}

// polled returns a Broker whose feed is up.
func polled(t *testing.T) (*pollsOf, *Broker) {
	t.Helper()
	p := &pollsOf{model: newModel()}
	b := runningBrokerWith(t, p.model, func(b *Broker) { b.engine = p })
	synctest.Wait()
	require.Equal(t, FeedUp, b.Stats().Feed)
	return p, b
}

func TestAFloodOfRevocationsIsNoFloodOfRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, b := polled(t)
		const tokens, pace = 500, 2 * time.Millisecond
		for i := range tokens {
			p.addToken(fmt.Sprint("t", i), fmt.Sprint("c", i))
			require.NoError(t, grantErr(t, b, fmt.Sprint("t", i)))
		}
		before := p.sent.Load()
		for i := range tokens {
			p.revoke(fmt.Sprint("t", i))
			after(pace)
			if i == 0 {
				require.ErrorIs(t, grantErr(t, b, "t0"), ErrInactive, "the first one bites at once")
			}
			if past := i - int(feedRest/pace); past >= 0 {
				require.ErrorIs(t, grantErr(t, b, fmt.Sprint("t", past)), ErrInactive, "no later than the rest between two requests")
			}
		}
		require.LessOrEqual(t, p.sent.Load()-before, int64(tokens*pace/jitterLeast(feedRest))+1)
	})
}

// jitterLeast is the least that jitter makes of d.
func jitterLeast(d time.Duration) time.Duration { return d - d/5 }

func TestAVaultThatIsSlowIsHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, b := polled(t)
		p.addToken("t", "c")
		require.NoError(t, grantErr(t, b, "t"))
		p.write(func() { p.down = true })
		after(20 * time.Second)
		require.Equal(t, FeedDown, b.Stats().Feed)

		// Another node has come to lead, and all there is asks it at once.
		p.latency.Store(int64(1500 * time.Millisecond))
		p.revoke("t")
		p.write(func() { p.down = false })
		after(3 * time.Second)
		require.ErrorIs(t, grantErr(t, b, "t"), ErrInactive)
	})
}

func TestVaultsReturnIsNoticedWithinSeconds(t *testing.T) {
	const never = int64(time.Hour)
	for name, gone := range map[string]func(*pollsOf, bool){
		"it refused all requests": func(p *pollsOf, gone bool) { p.write(func() { p.down = gone }) },
		"it hung": func(p *pollsOf, gone bool) {
			p.latency.Store(0)
			if gone {
				p.latency.Store(never)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			// Whenever it comes back, and whatever is being waited for then.
			for away := 15 * time.Second; away < 18*time.Second; away += 100 * time.Millisecond {
				synctest.Test(t, func(t *testing.T) {
					p, b := polled(t)
					p.addToken("t", "c")
					require.NoError(t, grantErr(t, b, "t"))
					gone(p, true)
					after(away)
					require.Equal(t, FeedDown, b.Stats().Feed)
					p.revoke("t")
					gone(p, false)
					after(feedPatience)
					require.ErrorIs(t, grantErr(t, b, "t"), ErrInactive)
				})
			}
		})
	}
}

func TestTheFeedIsDownAsSoonAsAnAnswerIsOverdue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, b := polled(t)
		p.latency.Store(int64(time.Hour))
		after(5*time.Second + feedSlack) // the request that is held is answered, and the next one is not
		after(5*time.Second + feedSlack)
		require.Equal(t, FeedDown, b.Stats().Feed)
	})
}

func TestMoreRolesThanAreToldApartConcernEveryGrant(t *testing.T) {
	v := feedPosition{epoch: "e"}
	of := func(role string, index uint64) *Grant {
		return &Grant{index: index, entitlements: &entitlements{epoch: "e", role: role}}
	}
	for i := range uint64(rolesKept) {
		v.changeRole(fmt.Sprint("role-", i), i+1)
	}
	require.True(t, v.tracks(of("", 0)), "clients without a role are not concerned")
	require.True(t, v.tracks(of("other", 0)))
	require.False(t, v.tracks(of("role-7", 7)))
	require.True(t, v.tracks(of("role-7", 8)))
	v.changeRole("one more", rolesKept+1)
	require.False(t, v.tracks(of("", rolesKept)), "what is forgotten concerns everybody")
	require.False(t, v.tracks(of("role-7", rolesKept)))
	require.True(t, v.tracks(of("role-7", rolesKept+1)))
	require.Len(t, v.roles, 1)
}
