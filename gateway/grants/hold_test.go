package grants

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/policy"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

func TestLiveRequestIsCutAtOnceWhenAccessIsTakenAway(t *testing.T) {
	tests := map[string]struct {
		change vaultclient.Change
		write  func(*modelToken)
		cause  error
	}{
		"by revoking the token":            {vaultclient.Change{Type: typeToken, Operation: operationRevoke, ClientID: "id-c", Accessor: "acc-t"}, revoked, ErrInactive},
		"by deleting the token":            {vaultclient.Change{Type: typeToken, Operation: operationDelete, ClientID: "id-c", Accessor: "acc-t"}, revoked, ErrInactive},
		"by revoking the client":           {vaultclient.Change{Type: typeClient, Operation: operationRevoke, ClientID: "id-c"}, revoked, ErrInactive},
		"by deleting the client":           {vaultclient.Change{Type: typeClient, Operation: operationDelete, ClientID: "id-c"}, revoked, ErrInactive},
		"by disabling the client":          {vaultclient.Change{Type: typeClient, Operation: operationUpdate, ClientID: "id-c"}, revoked, ErrInactive},
		"by revoking everything":           {vaultclient.Change{Type: typeMount, Operation: operationRevoke}, revoked, ErrInactive},
		"by narrowing the allow-list":      {vaultclient.Change{Type: typeClient, Operation: operationUpdate, ClientID: "id-c"}, func(t *modelToken) { t.servers = []string{"github"} }, ErrNotAllowed},
		"by binding to another source":     {vaultclient.Change{Type: typeClient, Operation: operationUpdate, ClientID: "id-c"}, func(t *modelToken) { t.cidrs = []string{"10.0.0.0/8"} }, ErrNotAllowed},
		"by a policy, with all grants":     {vaultclient.Change{Type: typePolicy, Operation: operationUpdate, Name: "p"}, func(t *modelToken) { t.policy = denying("http://127.0.0.1:9001/*") }, ErrNotAllowed},
		"by a shorter grace period":        {vaultclient.Change{Type: typeToken, Operation: operationUpdate, ClientID: "id-c", Accessor: "acc-t"}, revoked, ErrInactive},
		"by a change nobody has heard of":  {vaultclient.Change{Type: "unheard", Operation: "of"}, revoked, ErrInactive},
		"by a mount that says it is other": {vaultclient.Change{Type: typeMount, Operation: operationUpdate}, revoked, ErrInactive},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newModel()
				token := m.addToken("t", "c")
				other := m.addToken("o", "other")
				b := settledBroker(t, m)
				ctx := b.liveRequest(t, "t", "files")
				otherCtx, o := b.hold(t, "o", "files")
				defer o.Release()
				started := time.Now()
				m.mutate(test.change, func() { test.write(token) })
				_ = other
				synctest.Wait()
				require.ErrorIs(t, context.Cause(ctx), test.cause)
				require.Less(t, time.Since(started), time.Second)
				if test.change.Type == typeToken || test.change.Type == typeClient {
					require.NoError(t, otherCtx.Err(), "other clients go on")
				}
			})
		})
	}
}

func revoked(t *modelToken) { t.active = false }

// A role is changed, and the live requests of its clients are compared with what it is now.
func TestAChangeOfARoleCutsWhatItsClientsMayNotDoAnyMore(t *testing.T) {
	changed := vaultclient.Change{Type: typeRole, Operation: operationUpdate, Name: "r"}
	with := func(change func(*modelRole)) func(*modelToken) {
		return func(t *modelToken) {
			next := *t.role
			change(&next)
			t.role = &next
		}
	}
	tests := map[string]struct {
		write       func(*modelToken)
		cut, byRule bool
	}{
		"a server less":        {with(func(r *modelRole) { r.AllowedServers = []string{"github"} }), true, false},
		"no role any more":     {with(func(r *modelRole) { r.missing = true }), true, false},
		"the tool is denied":   {with(func(r *modelRole) { r.DeniedTools = []string{"*/rea*"} }), true, true},
		"other tools allowed":  {with(func(r *modelRole) { r.AllowedTools = []string{"files/write"} }), true, true},
		"another tool denied":  {with(func(r *modelRole) { r.DeniedTools = []string{"files/write"} }), false, false},
		"the prompt is denied": {with(func(r *modelRole) { r.DeniedPrompts = []string{"files/read"} }), false, false},
		"one server more":      {with(func(r *modelRole) { r.AllowedServers = []string{"files", "github"} }), false, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newModel()
				token := m.addToken("t", "c")
				inRole("files")(token)
				m.addToken("o", "other")
				b := settledBroker(t, m)
				ctx, h := b.hold(t, "t", "files")
				defer h.Release()
				require.NoError(t, h.Uses(h.Grant(), policy.Tool, "read"))
				otherCtx, o := b.hold(t, "o", "files")
				defer o.Release()
				other := o.Grant()
				m.mutate(changed, func() { test.write(token) })
				synctest.Wait()
				var item *ItemNotAllowed
				require.Equal(t, test.cut, errors.Is(context.Cause(ctx), ErrNotAllowed))
				require.Equal(t, test.byRule, errors.As(context.Cause(ctx), &item))
				require.NoError(t, otherCtx.Err(), "clients without the role go on")
				require.Same(t, other, o.Grant(), "and nobody asks about them")
			})
		})
	}
}

func TestARuleThatCameWhileTheRequestWasReadCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		token := m.addToken("t", "c")
		inRole("files")(token)
		b := settledBroker(t, m)
		_, h := b.hold(t, "t", "files")
		defer h.Release()
		judged := h.Grant()
		m.mutate(vaultclient.Change{Type: typeRole, Operation: operationUpdate, Name: "r"}, func() {
			token.role = &modelRole{name: "r", Lists: policy.Lists{AllowedServers: []string{"files"}, DeniedTools: []string{"*/read"}}}
		})
		synctest.Wait()
		require.ErrorIs(t, h.Uses(judged, policy.Tool, "read"), ErrNotAllowed)
		require.NoError(t, h.Uses(h.Grant(), policy.Tool, "write"))
	})
}

func TestAStreamHearsOfOtherRulesAboutItems(t *testing.T) {
	tests := map[string]struct {
		write func(*modelRole)
		heard bool
	}{
		"a tool is denied":       {func(r *modelRole) { r.DeniedTools = []string{"*/x"} }, true},
		"a prompt is denied":     {func(r *modelRole) { r.DeniedPrompts = []string{"*/x"} }, true},
		"resources are allowed":  {func(r *modelRole) { r.AllowedResources = []string{"*/a:*"} }, true},
		"the same rules, anyway": {func(*modelRole) {}, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newModel()
				token := m.addToken("t", "c")
				inRole("files")(token)
				b := settledBroker(t, m)
				ctx, h := b.hold(t, "t", "files")
				defer h.Release()
				before, heard := h.Grant(), 0
				h.OnRules(before, func() { heard++ })
				change := vaultclient.Change{Type: typeRole, Operation: operationUpdate, Name: "r"}
				rights := modelRole{name: "r", Lists: policy.Lists{AllowedServers: []string{"files"}}}
				test.write(&rights)
				for range 2 {
					m.mutate(change, func() { token.role = &rights })
					synctest.Wait()
				}
				require.NoError(t, ctx.Err(), "the request goes on")
				late := 0
				h.OnRules(before, func() { late++ })
				want := 0
				if test.heard {
					want = 1
				}
				require.Equal(t, []int{want, want}, []int{heard, late}, "once, and at once where it was late")
			})
		})
	}
}

func TestLiveRequestOfAnotherServerGoesOnWhenTheAllowListIsNarrowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, b, token := brokerWithToken(t)
		ctx := b.liveRequest(t, "t", "github")
		all, a := b.hold(t, "t", "")
		defer a.Release()
		m.mutate(vaultclient.Change{Type: typeClient, Operation: operationUpdate, ClientID: "id-c"}, func() { token.servers = []string{"github"} })
		synctest.Wait()
		require.NoError(t, ctx.Err())
		require.NoError(t, all.Err(), "a request for no server in particular goes on")
	})
}

func TestLiveRequestIsCutWhenItsTokenExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		m.addToken("t", "c").expires = time.Now().Add(time.Minute)
		b := settledBroker(t, m)
		ctx := b.liveRequest(t, "t", "files")
		after(59 * time.Second)
		require.NoError(t, ctx.Err())
		after(2 * time.Second)
		require.ErrorIs(t, context.Cause(ctx), ErrInactive)
		require.Equal(t, 2, m.asked(), "Vault was asked once whether the lease was renewed")
	})
}

func TestLiveRequestGoesOnWhenItsLeaseWasRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		token := m.addToken("t", "c")
		token.expires = time.Now().Add(time.Minute)
		b := settledBroker(t, m)
		ctx := b.liveRequest(t, "t", "files")
		after(30 * time.Second)
		m.write(func() { token.expires = time.Now().Add(time.Minute) }) // and no event of it
		after(40 * time.Second)
		require.NoError(t, ctx.Err())
		after(30 * time.Second)
		require.ErrorIs(t, context.Cause(ctx), ErrInactive)
	})
}

func TestLiveRequestIsCutAtItsExpiryThoughVaultCannotBeAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		m.addToken("t", "c").expires = time.Now().Add(10 * time.Second)
		b := settledBroker(t, m)
		ctx := b.liveRequest(t, "t", "files")
		m.write(func() { m.down = true })
		after(10*time.Second + expiryGrace + 2*sweepInterval)
		require.ErrorIs(t, context.Cause(ctx), ErrInactive)
	})
}

func TestLiveRequestOutlivesAnOutageNoLongerThanMaxStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, b, _ := brokerWithToken(t)
		ctx := b.liveRequest(t, "t", "files")
		after(time.Hour)
		require.NoError(t, ctx.Err(), "it lasts while the feed confirms it")
		m.write(func() { m.down = true })
		confirmed := b.position.Load().sent
		<-ctx.Done()
		require.ErrorIs(t, context.Cause(ctx), ErrUnavailable)
		require.LessOrEqual(t, time.Since(confirmed), 30*time.Second)
		require.Greater(t, time.Since(confirmed), 20*time.Second)
	})
}

func TestLiveRequestIsConfirmedByLookupsWhileTheFeedIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, b, token := brokerWithToken(t)
		ctx := b.liveRequest(t, "t", "files")
		m.write(func() { m.noFeed = true })
		after(10 * time.Minute)
		require.NoError(t, ctx.Err())
		m.write(func() { token.active = false })
		after(31 * time.Second)
		require.ErrorIs(t, context.Cause(ctx), ErrInactive)
	})
}

func TestLiveRequestIsConfirmedAfterAReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		m.addToken("t", "c")
		gone := m.addToken("gone", "c")
		b := settledBroker(t, m)
		ctx := b.liveRequest(t, "t", "files")
		goneCtx := b.liveRequest(t, "gone", "files")
		m.write(func() { m.epoch, gone.active = "e2", false })
		after(12 * time.Second)
		require.NoError(t, ctx.Err())
		require.ErrorIs(t, context.Cause(goneCtx), ErrInactive)
		require.Equal(t, 4, m.asked())
	})
}

func TestDoubtThatALookupHasSettledIsNotAskedAbout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, b, _ := brokerWithToken(t)
		_, h := b.hold(t, "t", "files")
		defer h.Release()
		old := h.Grant()
		require.NoError(t, b.awaitLookup(t.Context(), lookupRequest{key: keyOf("t"), token: vaultclient.UnsealedToken{Token: "t"}, revalidates: old}))
		require.Equal(t, 2, m.asked())
		b.revalidate(h.entry, old)
		synctest.Wait()
		require.Equal(t, 2, m.asked())
		b.revalidate(h.entry, h.Grant())
		synctest.Wait()
		require.Equal(t, 3, m.asked())
	})
}

func TestLiveRequestIsCutWhenWhatHappenedCannotBeFoundOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, b, _ := brokerWithToken(t)
		ctx := b.liveRequest(t, "t", "files")
		m.write(func() { m.lookupsDown = true })
		m.announce(vaultclient.Change{Type: typeClient, Operation: operationUpdate, ClientID: "id-c"})
		started := time.Now()
		<-ctx.Done()
		require.ErrorIs(t, context.Cause(ctx), ErrUnavailable)
		require.Less(t, time.Since(started), 30*time.Second)
	})
}

func TestLiveRequestIsCutWhenItsServerIsRePointed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, b, _ := brokerWithToken(t)
		var ended []End
		b.OnEnd(func(e End) { ended = append(ended, e) })
		files := b.liveRequest(t, "t", "files")
		github := b.liveRequest(t, "t", "github")
		old := b.Server("github")
		m.mutate(vaultclient.Change{Type: typeServer, Operation: operationUpdate, Name: "files"}, func() {
			m.registry["files"] = vaultclient.ServerEntry{ID: "r9", Transport: TransportHTTP, URL: "http://127.0.0.1:9009/mcp"}
		})
		synctest.Wait()
		require.ErrorIs(t, context.Cause(files), ErrServerGone)
		require.NoError(t, github.Err())
		require.Same(t, old, b.Server("github"), "what is unchanged stays the same")
		require.Len(t, ended, 1)
		require.Equal(t, "r1", ended[0].Server.ID)
	})
}

func TestADisabledServerIsCutAsIfItWereGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, b, _ := brokerWithToken(t)
		var ended []End
		b.OnEnd(func(e End) { ended = append(ended, e) })
		files := b.liveRequest(t, "t", "files")
		github := b.liveRequest(t, "t", "github")
		registered := b.Server("files")
		held := m.registry["files"]
		m.mutate(vaultclient.Change{Type: typeServer, Operation: operationUpdate, Name: "files"}, func() {
			delete(m.registry, "files")
			m.disabled = []string{"files"}
		})
		synctest.Wait()
		require.ErrorIs(t, context.Cause(files), ErrServerDisabled)
		require.NoError(t, github.Err())
		require.Len(t, ended, 1, "sessions, children and leases hear of it")
		require.Same(t, registered, ended[0].Server)
		require.Nil(t, b.Server("files"))
		_, err := b.FindServer("files")
		require.ErrorIs(t, err, ErrServerDisabled)
		g, err := b.Grant(t.Context(), "t", home)
		require.NoError(t, err)
		servers, err := b.ServersOf(g)
		require.NoError(t, err)
		require.Len(t, servers, 1, "it is in no list")
		_, _, err = b.Hold(t.Context(), g, Use{Token: "t", Source: home, Server: registered})
		require.ErrorIs(t, err, ErrServerDisabled, "also for one who found it before")

		m.mutate(vaultclient.Change{Type: typeServer, Operation: operationUpdate, Name: "files"}, func() {
			m.registry["files"], m.disabled = held, nil
		})
		after(time.Second)
		synctest.Wait()
		_, err = b.FindServer("files")
		require.NoError(t, err, "it works again at once")
	})
}

func TestHoldIsRefusedForARegistrationThatHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, b, _ := brokerWithToken(t)
		g, err := b.Grant(t.Context(), "t", home)
		require.NoError(t, err)
		old := b.Server("files")
		m.mutate(vaultclient.Change{Type: typeServer, Operation: operationDelete, Name: "files"}, func() { delete(m.registry, "files") })
		synctest.Wait()
		_, _, err = b.Hold(t.Context(), g, Use{Token: "t", Source: home, Server: old})
		require.ErrorIs(t, err, ErrServerGone)
		require.Nil(t, b.cache.get(keyOf("t")).live, "nothing is left of it")
	})
}

func TestHoldIsRefusedForAGrantThatHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, b, _ := brokerWithToken(t)
		g, err := b.Grant(t.Context(), "t", home)
		require.NoError(t, err)
		m.revoke("t")
		synctest.Wait()
		_, _, err = b.Hold(t.Context(), g, Use{Token: "t", Source: home, Server: b.Server("files")})
		require.ErrorIs(t, err, ErrInactive)
	})
}

func TestClientHasNoMoreRequestsInFlightThanItMay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		m.addToken("t", "c")
		m.addToken("u", "c")
		m.addToken("o", "other")
		b := runningBroker(t, m, func(o *Options) { o.PerClient = 2 })
		synctest.Wait()
		_, first := b.hold(t, "t", "files")
		_, second := b.hold(t, "u", "files")
		g, err := b.Grant(t.Context(), "t", home)
		require.NoError(t, err)
		use := Use{Token: "t", Source: home, Server: b.Server("files")}
		_, _, err = b.Hold(t.Context(), g, use)
		require.ErrorIs(t, err, ErrTooMany)
		_, other := b.hold(t, "o", "files")
		other.Release()
		first.Release()
		_, third, err := b.Hold(t.Context(), g, use)
		require.NoError(t, err)
		third.Release()
		second.Release()
	})
}

func TestReleasedHoldsLeaveNothingBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, b, _ := brokerWithToken(t)
		var holds []*Hold
		for range 10 {
			_, h := b.hold(t, "t", "files")
			holds = append(holds, h)
		}
		for _, i := range []int{5, 0, 9, 1, 2, 3, 4, 6, 7, 8} {
			holds[i].Release()
		}
		e := b.cache.get(keyOf("t"))
		require.Nil(t, e.live)
		require.Zero(t, e.principal.live.Load())
		token, _ := e.takeRevalidation()
		require.Empty(t, token, "the token is kept by those who bear it alone")
		after(2 * sweepInterval)
		require.Empty(t, b.live.entries)
	})
}

func TestEndOfAGrantIsToldToThoseWhoHoldMoreForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, b, token := brokerWithToken(t)
		var ended []End
		var unheard []string
		b.OnEnd(func(e End) {
			if e.Unheard {
				unheard = append(unheard, e.ClientID)
				return
			}
			ended = append(ended, e)
		})
		b.liveRequest(t, "t", "files")
		m.mutate(vaultclient.Change{Type: typeClient, Operation: operationUpdate, ClientID: "id-c"}, func() { token.servers = []string{"github"} })
		synctest.Wait()
		require.Len(t, ended, 1)
		require.False(t, ended[0].Successor.AllowsServer("files"))
		m.revoke("t")
		after(feedRest)
		require.Len(t, ended, 2)
		require.Nil(t, ended[1].Successor)
		require.Equal(t, "acc-t", ended[1].Grant.Accessor)
		require.True(t, ended[1].Lost)
		require.True(t, ended[1].Last)
		require.Equal(t, []string{"id-c"}, unheard, "for those who keep something for a client without a token")
	})
}

func TestTokenThatBecomesAnotherClientsEndsWhatItHad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		token := m.addToken("custom-token", "c")
		b := settledBroker(t, m)
		ctx := b.liveRequest(t, "custom-token", "files")
		m.mutate(vaultclient.Change{Type: typeConfig, Operation: operationUpdate}, func() { token.client, token.accessor = "d", "acc-2" })
		synctest.Wait()
		require.ErrorIs(t, context.Cause(ctx), ErrInactive)
		g, err := b.Grant(t.Context(), "custom-token", home)
		require.NoError(t, err)
		require.Equal(t, "d", g.Client)
	})
}

func TestConcurrentUseAndChangesKeepTheIndexesTrue(t *testing.T) {
	m := newModel()
	b := runningBroker(t, m, func(o *Options) { o.Grants.MaxEntries = 20 })
	for _, token := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		m.addToken(token, "client-"+token[:1])
	}
	deadline := time.Now().Add(2 * time.Second)
	done := make(chan struct{}, 10)
	for i := range 8 {
		go func() {
			defer func() { done <- struct{}{} }()
			token := string(rune('a' + i))
			for time.Now().Before(deadline) {
				g, err := b.Grant(context.Background(), token, netip.Addr{})
				if err != nil {
					continue
				}
				if _, h, err := b.Hold(context.Background(), g, Use{Token: token}); err == nil {
					h.Release()
				}
			}
		}()
	}
	for i := range 2 {
		go func() {
			defer func() { done <- struct{}{} }()
			for n := 0; time.Now().Before(deadline); n++ {
				token := string(rune('a' + (n*3+i)%8))
				m.mu.Lock()
				entry := m.tokens[token]
				m.mu.Unlock()
				m.mutate(vaultclient.Change{Type: typeToken, Operation: operationRevoke, ClientID: "id-" + entry.client, Accessor: entry.accessor}, func() { entry.active = false })
				m.mutate(vaultclient.Change{Type: typeToken, Operation: operationCreate, ClientID: "id-" + entry.client, Accessor: entry.accessor}, func() { entry.active = true })
			}
		}()
	}
	for range 10 {
		<-done
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	require.EqualValues(t, len(b.cache.byAccessor), b.cache.size.Load())
	for accessor, e := range b.cache.byAccessor {
		g := e.grant.Load()
		require.NotNil(t, g)
		require.Equal(t, accessor, g.Accessor)
		require.Same(t, e, b.cache.get(e.key))
		require.Zero(t, e.principal.live.Load())
	}
}

// TestAClientThatIsDisabledHasNoLiveToken: also where no request lives on its token, so that
// nothing asks Vault about it.
func TestAClientThatIsDisabledHasNoLiveToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, b, _ := brokerWithToken(t)
		var unheard []string
		b.OnEnd(func(e End) {
			if e.Unheard {
				unheard = append(unheard, e.ClientID)
			}
		})
		_, err := b.Grant(t.Context(), "t", home)
		require.NoError(t, err)
		require.True(t, b.Live(PrincipalOf("id-c")))
		m.mutate(vaultclient.Change{Type: typeClient, Operation: operationUpdate, ClientID: "id-c"}, func() { delete(m.tokens, "t") })
		after(feedRest)
		require.Equal(t, []string{"id-c"}, unheard)
		require.False(t, b.Live(PrincipalOf("id-c")))
	})
}

// TestARevokedTokenThatIsNotCachedIsToldOfByItsClient: something may be kept for the client.
func TestARevokedTokenThatIsNotCachedIsToldOfByItsClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, b, _ := brokerWithToken(t)
		var unheard []string
		b.OnEnd(func(e End) {
			if e.Unheard {
				unheard = append(unheard, e.ClientID)
			}
		})
		m.mutate(vaultclient.Change{Type: typeToken, Operation: operationRevoke, Accessor: "elsewhere", ClientID: "id-d"}, func() {})
		after(feedRest)
		require.Equal(t, []string{"id-d"}, unheard)
	})
}
