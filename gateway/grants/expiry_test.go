package grants

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

// tokenLife is longer than what the tests wait for before the expiry.
const tokenLife = time.Minute

// outliving is a call that is in flight when its token's lease expires.
func outliving(t *testing.T, m *model, b *Broker, server string) context.Context {
	t.Helper()
	m.lease("t", "c", tokenLife)
	ctx := b.liveRequest(t, "t", server)
	after(tokenLife + 3*time.Second)
	require.NoError(t, ctx.Err())
	require.ErrorIs(t, grantErr(t, b, "t"), ErrInactive, "nothing begins with the token")
	return ctx
}

func TestACallInFlightOutlivesItsLeasedToken(t *testing.T) {
	for name, change := range map[string]func(m *model){
		"while Vault answers":         func(*model) {},
		"while lookups do not answer": func(m *model) { m.lookupsDown = true },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newModel()
				b := settledBroker(t, m)
				m.lease("t", "c", tokenLife)
				ctx, h := b.hold(t, "t", "files")
				m.write(func() { change(m) })
				after(tokenLife + 4*time.Minute)
				require.NoError(t, ctx.Err())
				m.write(func() { m.lookupsDown = false })
				require.ErrorIs(t, grantErr(t, b, "t"), ErrInactive)
				require.NotNil(t, h.Grant(), "it may go on to ask further servers")
				sub := new(Hold)
				subCtx, err := b.HoldSubRequest(ctx, sub, h, b.Server("github"))
				require.NoError(t, err)
				require.NoError(t, subCtx.Err())
				sub.Release()
				h.Release()
				after(time.Second)
				require.Empty(t, b.outlived)
				require.Empty(t, b.cache.byPrincipal, "nothing is left of the principal")
			})
		})
	}
}

func TestACallThatOutlivesItsTokenIsCutWhenAccessIsTakenAway(t *testing.T) {
	tests := map[string]struct {
		happens func(m *model, b *Broker)
		cause   error
	}{
		"the client is revoked": {func(m *model, _ *Broker) {
			m.announce(vaultclient.Change{Type: typeClient, Operation: operationRevoke, ClientID: "id-c"})
		}, ErrInactive},
		"the client is deleted": {func(m *model, _ *Broker) {
			m.announce(vaultclient.Change{Type: typeClient, Operation: operationDelete, ClientID: "id-c"})
		}, ErrInactive},
		"the client has other rights, of which nobody can be asked": {func(m *model, _ *Broker) {
			m.announce(vaultclient.Change{Type: typeClient, Operation: operationUpdate, ClientID: "id-c"})
		}, ErrUnavailable},
		"a policy is written": {func(m *model, _ *Broker) {
			m.announce(vaultclient.Change{Type: typePolicy, Operation: operationUpdate, Name: "p"})
		}, ErrUnavailable},
		"the mount is revoked": {func(m *model, _ *Broker) {
			m.announce(vaultclient.Change{Type: typeMount, Operation: operationRevoke})
		}, ErrInactive},
		"the server is pointed elsewhere": {func(m *model, _ *Broker) {
			m.mutate(vaultclient.Change{Type: typeServer, Operation: operationUpdate, Name: "files"}, func() {
				m.registry["files"] = vaultclient.ServerEntry{ID: "r9", Transport: TransportHTTP, URL: "http://127.0.0.1:9009/mcp"}
			})
		}, ErrServerGone},
		"the news of its revocation come late": {func(m *model, _ *Broker) { m.revoke("t") }, ErrInactive},
		"the principal's next token, its only one, is revoked": {func(m *model, b *Broker) {
			m.lease("next", "c", time.Hour)
			_, _ = b.Grant(context.Background(), "next", home)
			m.revoke("next")
		}, ErrInactive},
		"the principal's next token is revoked, and was used at another gateway": {func(m *model, _ *Broker) {
			m.lease("next", "c", time.Hour)
			m.revoke("next")
		}, ErrInactive},
		"the feed has a gap": {func(m *model, _ *Broker) { m.write(func() { m.epoch = "e2" }); after(10 * time.Second) }, ErrUnavailable},
		"the feed does not answer for max_stale": {func(m *model, _ *Broker) {
			m.write(func() { m.feedDown = true })
			after(31 * time.Second)
		}, ErrUnavailable},
		"it has taken longer than a call may": {func(*model, *Broker) { after(outliveMost) }, ErrInactive},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newModel()
				b := settledBroker(t, m)
				ctx := outliving(t, m, b, "files")
				test.happens(m, b)
				after(time.Second)
				require.ErrorIs(t, context.Cause(ctx), test.cause)
			})
		})
	}
}

func TestACallThatOutlivesItsTokenIsCutBeforeMaxStaleIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		b := settledBroker(t, m)
		ctx := outliving(t, m, b, "files")
		after(110 * time.Millisecond) // so that the feed and the sweep are out of step
		m.announce(vaultclient.Change{Type: typeClient, Operation: operationUpdate, ClientID: "id-other"})
		after(time.Second)
		m.write(func() { m.feedDown = true })
		after(10 * time.Second) // the request that is held may be answered yet
		confirmed := b.position.Load().sent
		after(time.Until(confirmed.Add(b.options.Grants.MaxStale)))
		require.Equal(t, confirmed, b.position.Load().sent)
		require.ErrorIs(t, context.Cause(ctx), ErrUnavailable)
	})
}

func TestACallThatOutlivesItsTokenGoesOnWhileNothingConcernsIt(t *testing.T) {
	tests := map[string]func(m *model, b *Broker){
		"another client is revoked": func(m *model, _ *Broker) {
			m.announce(vaultclient.Change{Type: typeClient, Operation: operationRevoke, ClientID: "id-other"})
		},
		"another token of the client is revoked, and one is left": func(m *model, b *Broker) {
			m.lease("one", "c", time.Hour)
			m.lease("other", "c", time.Hour)
			_, _ = b.Grant(context.Background(), "one", home)
			_, _ = b.Grant(context.Background(), "other", home)
			m.revoke("one")
		},
		"another server is deleted": func(m *model, _ *Broker) {
			m.mutate(vaultclient.Change{Type: typeServer, Operation: operationDelete, Name: "github"}, func() { delete(m.registry, "github") })
		},
		"the session keys are replaced": func(m *model, _ *Broker) {
			m.announce(vaultclient.Change{Type: typeConfig, Operation: operationUpdate, Name: nameKeys})
		},
		"the principal has its next token": func(m *model, b *Broker) {
			m.lease("next", "c", time.Hour)
			_, _ = b.Grant(context.Background(), "next", home)
		},
		"the expired token is tried again": func(_ *model, b *Broker) {
			_, _ = b.Grant(context.Background(), "t", home)
		},
		"a moment of an outage": func(m *model, _ *Broker) {
			m.write(func() { m.down = true })
			after(10 * time.Second)
			m.write(func() { m.down = false })
			after(5 * time.Second)
		},
	}
	for name, happens := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newModel()
				b := settledBroker(t, m)
				ctx := outliving(t, m, b, "files")
				happens(m, b)
				after(2 * time.Second)
				require.NoError(t, ctx.Err())
			})
		})
	}
}

// A gap of the feed may hide a revocation, however young the call's grant is.
func TestACallThatOutlivesItsTokenIsCutByAGapOfTheFeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		b := settledBroker(t, m)
		m.lease("t", "c", 5*time.Second)
		ctx := b.liveRequest(t, "t", "files")
		after(8 * time.Second)
		require.NoError(t, ctx.Err())
		m.write(func() { m.epoch = "e2" })
		after(8 * time.Second) // the long poll takes up to five
		require.ErrorIs(t, context.Cause(ctx), ErrUnavailable)
	})
}

// A sign-in is revoked as a whole: with the lease of its present token, wherever that is used.
func TestACallThatOutlivesItsTokenIsCutWithItsSignIn(t *testing.T) {
	tests := map[string]struct {
		happens func(m *model, b *Broker)
		cut     bool
	}{
		"the sign-in's next token is revoked here": {func(m *model, b *Broker) {
			m.signIn("next", "c", "sign-in-1", "ann", "claude", time.Hour)
			m.signIn("phone", "c", "sign-in-2", "ann", "claude", time.Hour) // the same principal goes on elsewhere
			_, _ = b.Grant(context.Background(), "next", home)
			_, _ = b.Grant(context.Background(), "phone", home)
			m.revoke("next")
		}, true},
		"the sign-in's next token is revoked, and was used at another gateway": {func(m *model, _ *Broker) {
			m.signIn("next", "c", "sign-in-1", "ann", "claude", time.Hour)
			m.revoke("next")
		}, true},
		"a lookup finds the sign-in's next token revoked, while the feed is silent": {func(m *model, b *Broker) {
			next := m.signIn("next", "c", "sign-in-1", "ann", "claude", time.Hour)
			m.signIn("phone", "c", "sign-in-2", "ann", "claude", time.Hour)
			_, _ = b.Grant(context.Background(), "next", home)
			_, _ = b.Grant(context.Background(), "phone", home)
			m.write(func() { m.feedDown, next.active = true, false })
			k := keyOf("next")
			_ = b.awaitLookup(context.Background(), lookupRequest{
				key: k, token: vaultclient.UnsealedToken{Token: "next"}, revalidates: b.cache.get(k).grant.Load(),
			})
		}, true},
		"another sign-in of the person is revoked": {func(m *model, b *Broker) {
			m.signIn("next", "c", "sign-in-1", "ann", "claude", time.Hour)
			m.signIn("phone", "c", "sign-in-2", "ann", "claude", time.Hour)
			_, _ = b.Grant(context.Background(), "next", home)
			_, _ = b.Grant(context.Background(), "phone", home)
			m.revoke("phone")
		}, false},
		"a colleague is revoked, who acts as the same client": {func(m *model, b *Broker) {
			m.signIn("colleague", "c", "sign-in-3", "ben", "claude", time.Hour)
			_, _ = b.Grant(context.Background(), "colleague", home)
			m.revoke("colleague")
		}, false},
		"a colleague is revoked at another gateway": {func(m *model, _ *Broker) {
			m.signIn("colleague", "c", "sign-in-3", "ben", "claude", time.Hour)
			m.revoke("colleague")
		}, false},
		"another application of the person is revoked": {func(m *model, b *Broker) {
			m.signIn("cursor", "c", "sign-in-4", "ann", "cursor", time.Hour)
			_, _ = b.Grant(context.Background(), "cursor", home)
			m.revoke("cursor")
		}, false},
		"the client is revoked": {func(m *model, _ *Broker) {
			m.announce(vaultclient.Change{Type: typeClient, Operation: operationRevoke, ClientID: "id-c"})
		}, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newModel()
				b := settledBroker(t, m)
				m.signIn("t", "c", "sign-in-1", "ann", "claude", tokenLife)
				ctx := b.liveRequest(t, "t", "files")
				after(tokenLife + 3*time.Second)
				require.NoError(t, ctx.Err())
				test.happens(m, b)
				after(time.Second)
				if test.cut {
					require.ErrorIs(t, context.Cause(ctx), ErrInactive)
				} else {
					require.NoError(t, ctx.Err())
				}
			})
		})
	}
}

// A lease that was renewed is found out by a lookup, also where the cache is cleaned just then.
func TestACallWhoseLeaseWasRenewedOutlivesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		b := settledBroker(t, m)
		token := m.lease("t", "c", cleanInterval)
		ctx, h := b.hold(t, "t", "files")
		defer h.Release()
		h.OnExpiry(func() { t.Error("its token goes on") })
		after(cleanInterval / 2)
		m.write(func() { token.expires = time.Now().Add(time.Hour) }) // and no event of it
		after(3 * cleanInterval)
		synctest.Wait()
		require.NoError(t, ctx.Err())
		require.NoError(t, grantErr(t, b, "t"))
		require.Empty(t, b.outlived)
	})
}

// A lease that is revoked before its end is no expiry, however near that is.
func TestALeaseThatIsRevokedBeforeItsEndCutsItsCalls(t *testing.T) {
	for _, before := range []time.Duration{tokenLife / 2, leaseSlack / 2, 100 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			m := newModel()
			b := settledBroker(t, m)
			m.lease("t", "c", tokenLife)
			ctx := b.liveRequest(t, "t", "files")
			var ends []End
			b.OnEnd(func(e End) { ends = append(ends, e) })
			after(tokenLife - before)
			m.revoke("t")
			after(time.Second)
			require.ErrorIs(t, context.Cause(ctx), ErrInactive)
			require.Len(t, ends, 1)
			require.True(t, ends[0].Lost)
			require.False(t, ends[0].Expired)
		})
	}
}

// Without the feed a revocation is heard from a lookup.
func TestALeaseThatALookupDoesNotKnowAnyMoreWasRevoked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		b := settledBroker(t, m)
		token := m.lease("t", "c", time.Hour)
		ctx := b.liveRequest(t, "t", "files")
		m.write(func() { m.feedDown, token.active = true, false })
		after(time.Minute)
		require.ErrorIs(t, context.Cause(ctx), ErrInactive)
	})
}

func TestAnIssuedTokensExpiryTakesItsAccessAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		b := settledBroker(t, m)
		m.addToken("t", "c").expires = time.Now().Add(tokenLife)
		ctx := b.liveRequest(t, "t", "files")
		var ends []End
		b.OnEnd(func(e End) { ends = append(ends, e) })
		after(tokenLife + 3*time.Second)
		require.ErrorIs(t, context.Cause(ctx), ErrInactive)
		require.Len(t, ends, 1)
		require.True(t, ends[0].Lost)
	})
}

func TestThoseWhoAskedHearOfTheExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		b := settledBroker(t, m)
		m.lease("t", "c", tokenLife)
		ctx, h := b.hold(t, "t", "files")
		var heard atomic.Int32
		h.OnExpiry(func() { heard.Add(1) })
		k := b.keep(t, "t", "files")
		var ends []End
		b.OnEnd(func(e End) { ends = append(ends, e) })
		after(tokenLife - time.Second)
		require.Zero(t, heard.Load())
		after(4 * time.Second)
		synctest.Wait()
		require.EqualValues(t, 1, heard.Load())
		require.NoError(t, ctx.Err(), "what becomes of the request is up to whoever asked")
		require.Equal(t, []error{ErrExpired}, k.ended)
		require.Len(t, ends, 1)
		require.True(t, ends[0].Expired)
		require.False(t, ends[0].Lost)
		require.True(t, ends[0].Last)
		h.OnExpiry(func() { heard.Add(1) })
		require.EqualValues(t, 2, heard.Load(), "at once, after the expiry")
		late, err := b.Keep(h, b.Server("files"), func(cause error) { k.ended = append(k.ended, cause) })
		require.NoError(t, err, "what a call begins then waits for the next token as well")
		synctest.Wait()
		require.Equal(t, []error{ErrExpired, ErrExpired}, k.ended)
		late()
		k.release()
		h.Release()
		after(time.Second)
		require.Empty(t, b.outlived)
		require.Empty(t, b.live.entries)
	})
}

func TestCallsThatOutliveTheirTokensCountAsTheirPrincipals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		b := runningBroker(t, m, func(o *Options) { o.PerClient = 1 })
		synctest.Wait()
		outliving(t, m, b, "files")
		m.lease("next", "c", time.Hour)
		g, err := b.Grant(t.Context(), "next", home)
		require.NoError(t, err)
		_, _, err = b.Hold(t.Context(), g, Use{Token: "next", Source: home, Server: b.Server("files")})
		require.ErrorIs(t, err, ErrTooMany)
	})
}

func TestACallOutlivesItsTokenForAsLongAsItsServerMayTake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		b := runningBroker(t, m, func(o *Options) {
			o.CallTimeout = func(server string) time.Duration {
				return map[string]time.Duration{"files": time.Minute, "github": 10 * time.Minute, "": time.Hour}[server]
			}
		})
		synctest.Wait()
		m.lease("t", "c", tokenLife)
		files, github, both := b.liveRequest(t, "t", "files"), b.liveRequest(t, "t", "github"), b.liveRequest(t, "t", "")
		after(tokenLife + 2*time.Minute)
		require.ErrorIs(t, context.Cause(files), ErrInactive)
		require.NoError(t, github.Err())
		after(9 * time.Minute)
		require.ErrorIs(t, context.Cause(github), ErrInactive)
		require.NoError(t, both.Err())
	})
}

// Two people who act as one client are not the same principal, and neither are two applications
// of one person: no limit of theirs is shared, and a change of the client concerns them all.
func TestPeopleAndApplicationsAreDifferentPrincipals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		b := runningBroker(t, m, func(o *Options) { o.PerClient = 1 })
		synctest.Wait()
		m.addToken("own", "c")
		m.signIn("ann-claude", "c", "s1", "ann", "claude", time.Hour)
		m.signIn("ann-cursor", "c", "s2", "ann", "cursor", time.Hour)
		m.signIn("ben-claude", "c", "s3", "ben", "claude", time.Hour)
		m.signIn("ann-phone", "c", "s4", "ann", "claude", time.Hour)
		seen := map[Principal]bool{}
		appended := map[string]bool{}
		var live []context.Context
		for _, token := range []string{"own", "ann-claude", "ann-cursor", "ben-claude"} {
			live = append(live, b.liveRequest(t, token, "files"))
			g, err := b.Grant(t.Context(), token, home)
			require.NoError(t, err)
			seen[g.Principal()] = true
			appended[string(g.Principal().AppendTo(nil))] = true
			require.Equal(t, "id-c", g.Principal().ClientID())
		}
		require.Len(t, seen, 4)
		require.Len(t, appended, 4)
		g, err := b.Grant(t.Context(), "ann-phone", home)
		require.NoError(t, err)
		require.True(t, seen[g.Principal()], "the same person with the same application")
		_, _, err = b.Hold(t.Context(), g, Use{Token: "ann-phone", Source: home})
		require.ErrorIs(t, err, ErrTooMany)

		m.announce(vaultclient.Change{Type: typeClient, Operation: operationRevoke, ClientID: "id-c"})
		after(time.Second)
		for _, ctx := range live {
			require.ErrorIs(t, context.Cause(ctx), ErrInactive)
		}
		require.Empty(t, b.cache.byPrincipal)
		require.Empty(t, b.cache.people)
	})
}

func TestAClientWithoutAPersonIsWrittenAsEver(t *testing.T) {
	require.Equal(t, []byte("\x00\x00\x00\x08client-1"), PrincipalOf("client-1").AppendTo(nil), "sessions that were sealed before stay good")
}
