package credentials

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/credential"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

func TestANewLoginOfTheGatewayReplacesEverythingOnce(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		t := s.t
		s.vault.engines[dbPath] = database(time.Hour, 0)
		server := s.server("orders")
		_ = s.get(server, "alice")
		s.vault.logIn(time.Time{})
		after(30 * time.Second)
		before := s.vault.count("create")
		after(5 * time.Minute)
		require.Less(t, s.vault.count("create")-before, 3)
	})
}

func plainSecret(key string, value any) engine {
	return engine{fields: func(int, string) map[string]any { return map[string]any{"token": "x", key: value} }}
}

func (s *stage) kv(path string) *Server {
	return s.register(&grants.Server{
		Name: "kv", ID: "kv", Transport: grants.TransportHTTP, URL: "https://x.example.com",
		Credentials: map[string]credential.Spec{"k": {Path: path}}, Headers: map[string]string{"A": "{{k.token}}"},
	})
}

func TestASecretThatSaysThatItLivesForCenturiesHarmsNobody(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		s.vault.engines["kv1/x"] = plainSecret("expiration", "10000000000")
		_ = s.get(s.kv("kv1/x"), "alice")
	})
}

func TestAnExpirationInMillisecondsCausesNoLoop(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		t := s.t
		s.vault.engines["kv1/x"] = plainSecret("expiration", "1893456000000")
		_ = s.get(s.kv("kv1/x"), "alice")
		after(10 * time.Second)
		require.Less(t, s.vault.count("create"), 3)
	})
}

func TestATTLOfASecondCausesNoLoop(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		t := s.t
		s.vault.engines["kv1/x"] = plainSecret("ttl", "1")
		_ = s.get(s.kv("kv1/x"), "alice")
		after(time.Minute)
		require.Less(t, s.vault.count("create"), 10)
	})
}

func TestAStaticRoleIsReadRightAfterItsPasswordChanges(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		t := s.t
		began := time.Now()
		const period = time.Hour
		s.vault.engines["database/static-creds/x"] = engine{fields: func(int, string) map[string]any {
			n := time.Since(began) / period
			left := period - time.Since(began)%period
			return map[string]any{"token": fmt.Sprint("pw-", int(n)), "ttl": fmt.Sprint(int64(left / time.Second))}
		}}
		server := s.kv("database/static-creds/x")
		sets, wrong := map[*Set]bool{}, 0
		for time.Since(began) < 3*time.Hour {
			set := s.get(server, "alice")
			sets[set] = true
			if set.Header().Get("A") != fmt.Sprint("pw-", int(time.Since(began)/period)) {
				wrong++
			}
			after(time.Second)
		}
		require.LessOrEqual(t, len(sets), 8)
		require.LessOrEqual(t, wrong, 30)
	})
}

func TestTokensThatMayNotEndThemselvesKeepNoOthersWaiting(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		t := s.t
		s.vault.engines[dbPath] = database(time.Hour, 0)
		bad := s.register(&grants.Server{
			Name: "vault", ID: "1", Transport: grants.TransportHTTP, URL: "https://vault.example.com",
			VaultPolicies: []string{"mcp-vault"}, Headers: map[string]string{"X-Vault-Token": "{{vault.token}}"},
		})
		for i := range 8 {
			_ = s.get(bad, fmt.Sprint("c", i))
		}
		s.vault.set(func() { s.vault.stubborn = "mcp-vault" }) // somebody changes the policy
		set := s.get(s.server("orders"), "alice")
		for i := range 8 {
			s.OnEnd(grants.End{Grant: grantOf(t, fmt.Sprint("c", i), nil), Lost: true, Last: true})
		}
		after(time.Second)
		s.OnEnd(grants.End{Grant: grantOf(t, "alice", nil), Lost: true, Last: true})
		began := time.Now()
		for s.vault.works(set) && time.Since(began) < 20*time.Minute {
			after(time.Second)
		}
		late := time.Since(began)
		after(15 * time.Minute) // the others end by themselves
		require.Less(t, late, 2*time.Second)
	})
}

func TestAClientAtItsOwnBoundTakesNothingFromOthers(t *testing.T) {
	settings := usual()
	settings.MaxLeasesPerClient = 1
	onStage(t, settings, func(s *stage) {
		t := s.t
		s.vault.engines[dbPath] = database(time.Hour, 0)
		a, b := s.server("a"), s.server("b")
		for i := range 20 {
			_ = s.get(a, fmt.Sprint("other", i))
		}
		release, err := s.get(a, "mallory").Hold()
		require.NoError(t, err)
		require.Equal(t, FailureBound, s.refusal(b, "mallory").Failure)
		synctest.Wait()
		require.Equal(t, 21, s.vault.alive())
		release()
	})
}

func TestNarrowedPoliciesOfAClientCountForItsCredentials(t *testing.T) {
	settings := usual()
	settings.Policies = []string{"a", "b"}
	onStage(t, settings, func(s *stage) {
		t := s.t
		s.vault.engines[dbPath] = database(time.Hour, 0)
		server := s.server("orders")
		both := grantOf(t, "alice", func(l *vaultclient.Lookup) { l.UpstreamPolicies, l.Metadata = []string{"a", "b"}, map[string]string{} })
		one := grantOf(t, "alice", func(l *vaultclient.Lookup) { l.UpstreamPolicies, l.Metadata = []string{"b"}, map[string]string{} })
		set, err := server.Get(context.Background(), both)
		require.NoError(t, err)
		s.OnEnd(grants.End{Grant: both, Successor: one})
		for range 100 {
			after(5 * time.Minute)
			set, err = server.Get(context.Background(), one)
			require.NoError(t, err)
		}
		for _, c := range s.vault.children {
			if c.Accessor == set.Accessor() {
				require.Equal(t, []string{"b"}, c.Policies)
			}
		}
	})
}

func TestWhoeverHoldsRetiredCredentialsGetsTheNextOnes(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		t := s.t
		s.vault.engines[dbPath] = database(time.Hour, 0)
		server := s.server("orders")
		first := s.get(server, "alice")
		release, err := first.Hold() // a child process
		require.NoError(t, err)
		server.retire()
		server.retire()
		next := s.get(server, "alice")
		require.NotSame(t, first, next)
		<-first.Superseded()
		require.Same(t, next, first.Successor())
		release()
		synctest.Wait()
		require.Equal(t, 1, s.vault.alive())
		require.Empty(t, server.retired)
	})
}

func TestARequestDoesNotWaitForAVaultThatHangs(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		t := s.t
		s.vault.engines[dbPath] = database(time.Hour, 0)
		server := s.server("orders")
		s.vault.before = func(string) error { after(15 * time.Second); return nil }
		began := time.Now()
		require.Equal(t, FailureUnavailable, s.refusal(server, "alice").Failure)
		require.Equal(t, awaitTimeout, time.Since(began))
		after(25 * time.Second)
		_ = s.get(server, "alice")
		require.Equal(t, 1, s.vault.count("create"), "what it waited for was not in vain")
		s.vault.set(func() { s.vault.before = nil })
	})
}

func TestWhatCannotBeEndedIsNotLeased(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		t := s.t
		s.vault.engines[dbPath] = database(time.Hour, 0)
		s.vault.stubborn = "mcp-vault"
		server := s.register(&grants.Server{
			Name: "vault", ID: "1", Transport: grants.TransportHTTP, URL: "https://vault.example.com",
			VaultPolicies: []string{"mcp-vault"}, Headers: map[string]string{"X-Vault-Token": "{{vault.token}}"},
		})
		e := s.refusal(server, "alice")
		require.Equal(t, FailureIdentity, e.Failure)
		require.Contains(t, e.Error(), "auth/token/revoke-self")
		after(trialTTL)
		require.Zero(t, s.vault.alive(), "the token on trial ends soon")
		s.vault.set(func() { s.vault.stubborn = "" })
		_ = s.get(server, "alice")
		made := s.vault.count("create")
		_ = s.get(server, "bob")
		require.Equal(t, made+1, s.vault.count("create"), "once is enough")
	})
}

func TestCredentialsThatAreInUseWhenTheyAreLookedAtEndInTime(t *testing.T) {
	settings := usual()
	settings.IdleTimeout = 10 * time.Second
	onStage(t, settings, func(s *stage) {
		s.vault.engines[dbPath] = database(time.Hour, 0)
		server := s.server("orders")
		var use Use
		_, cancel := context.WithCancelCause(context.Background())
		require.NoError(s.t, use.Begin(s.get(server, "alice"), cancel, false))
		after(time.Second)
		use.End()
		after(13 * time.Second)
		require.Zero(s.t, s.vault.alive())
	})
}

func TestNothingMoreIsAskedForAfterTheEndOfAccess(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		t := s.t
		s.vault.engines[dbPath] = database(time.Hour, 0)
		s.vault.engines["database/creds/slow"] = database(time.Hour, 0)
		s.vault.engines["database/creds/third"] = database(time.Hour, 0)
		server := s.register(&grants.Server{
			Name: "x", ID: "1", Transport: grants.TransportHTTP, URL: "https://x.example.com",
			Credentials: map[string]credential.Spec{"a": {Path: dbPath}, "b": {Path: "database/creds/slow"}, "c": {Path: "database/creds/third"}},
			Headers:     map[string]string{"A": "{{a.username}}{{b.username}}{{c.username}}"},
		})
		s.vault.before = func(call string) error {
			if call == "read database/creds/slow" {
				after(20 * time.Second)
			}
			return nil
		}
		ctx, cancel := context.WithCancel(context.Background())
		grant := grantOf(t, "alice", nil)
		go func() { _, _ = server.Get(ctx, grant) }()
		after(time.Second)
		cancel()
		s.OnEnd(grants.End{Grant: grantOf(t, "alice", nil), Lost: true, Last: true})
		ended := time.Now()
		after(10 * time.Second)
		alive := s.vault.alive()
		after(20 * time.Second)
		s.vault.mu.Lock()
		after := 0
		for _, l := range s.vault.leases {
			if l.born.After(ended) {
				after++
			}
		}
		s.vault.mu.Unlock()
		require.Zero(t, alive)
		require.LessOrEqual(t, after, 1)
	})
}

func TestARenewalUnderWayAtTheEndOfAccessMintsNothing(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		t := s.t
		s.vault.engines[dbPath] = database(time.Hour, 0)
		_ = s.get(s.server("orders"), "alice")
		s.vault.set(func() {
			s.vault.before = func(call string) error {
				if call == "renew" {
					s.vault.set(func() { s.vault.before = nil })
					s.OnEnd(grants.End{Grant: grantOf(t, "alice", nil), Lost: true, Last: true})
					after(100 * time.Millisecond)
				}
				return nil
			}
		})
		after(9 * time.Minute)
		require.Equal(t, 1, s.vault.count("create"))
	})
}

func TestACallOutlivesTheReplacementOfItsCredentials(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		t := s.t
		s.vault.engines[dbPath] = engine{ttl: 3 * time.Hour, fixed: true, fields: database(0, 0).fields}
		server := s.server("orders")
		set := s.get(server, "alice")
		var use Use
		ctx, cancel := context.WithCancelCause(context.Background())
		require.NoError(t, use.Begin(set, cancel, false))
		s.vault.logIn(time.Time{}) // or its lease is replaced
		select {
		case <-ctx.Done():
		case <-time.After(time.Hour):
		}
		err := ctx.Err()
		use.End()
		require.NoError(t, err)
	})
}

func TestTheRevocationOfTheLastLiveTokenCountsThoughAnExpiredOneIsCached(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		t := s.t
		s.vault.engines[dbPath] = database(time.Hour, 0)
		_ = s.get(s.server("orders"), "alice")
		s.live.Store(false)
		s.OnEnd(grants.End{Grant: grantOf(t, "alice", nil), Lost: true}) // an expired leased one is still in the cache
		expired := grantOf(t, "alice", func(l *vaultclient.Lookup) {
			l.Kind, l.AnsweredAt, l.ExpiresAt = vaultclient.KindLeased, time.Now(), time.Now().Add(-time.Second).Format(time.RFC3339)
		})
		after(30 * time.Second)
		s.OnEnd(grants.End{Grant: expired, Last: true})
		after(time.Minute)
		require.Zero(t, s.vault.alive())
	})
}

func TestASecretThatGetsALeaseIsLeasedFromThenOn(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		t := s.t
		s.vault.engines["pki/issue/web"] = engine{fields: database(0, 0).fields}
		server := s.register(&grants.Server{
			Name: "x", ID: "1", Transport: grants.TransportHTTP, URL: "https://x.example.com",
			Credentials: map[string]credential.Spec{"k": {Path: "pki/issue/web", Refresh: 60}}, Headers: map[string]string{"A": "{{k.password}}"},
		})
		_ = s.get(server, "alice")
		s.vault.set(func() { s.vault.engines["pki/issue/web"] = database(30*time.Second, 0) })
		dead := 0
		for range 3600 {
			after(time.Second)
			set := s.get(server, "alice")
			pw := strings.TrimPrefix(set.Header().Get("A"), "secret-")
			s.vault.mu.Lock()
			if l := s.vault.leases["pki/issue/web/lease-"+pw]; l != nil && time.Now().After(l.ends) {
				dead++
			}
			s.vault.mu.Unlock()
		}
		require.Zero(t, dead)
	})
}

func TestACallOnEarlierCredentialsIsNotCutWhereNobodyUsesTheNewOnes(t *testing.T) {
	settings := usual()
	settings.TokenTTL = time.Hour
	onStage(t, settings, func(s *stage) {
		t := s.t
		s.vault.engines[dbPath] = engine{ttl: time.Hour, fixed: true, fields: database(0, 0).fields}
		server := s.server("orders")
		_ = s.get(server, "alice")
		after(31 * time.Minute) // others use it
		_ = s.get(server, "alice")
		set := s.get(server, "alice")
		var use Use
		ctx, cancel := context.WithCancelCause(context.Background())
		began := time.Now()
		require.NoError(t, use.Begin(set, cancel, false))
		for set.Successor() == nil {
			after(time.Second)
		}
		<-ctx.Done()
		require.ErrorIs(t, context.Cause(ctx), ErrEnded)
		require.Greater(t, time.Since(began), 28*time.Minute, "until they end in Vault")
		use.End()
	})
}

func TestARenewalRightAfterAReadingCountsForTheNewSet(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		t := s.t
		n := 0
		s.vault.engines["kv/data/x"] = engine{fields: func(int, string) map[string]any { return map[string]any{"token": fmt.Sprint(n)} }}
		server := s.kv("kv/data/x")
		_ = s.get(server, "alice")
		after(10 * time.Second)
		n = 1
		s.skew.Store(int64(7 * time.Minute)) // the machine slept
		after(70 * time.Second)
		set := s.get(server, "alice")
		var use Use
		ctx, cancel := context.WithCancelCause(context.Background())
		require.NoError(t, use.Begin(set, cancel, false))
		require.InDelta(t, set.lease.terms[0].ends.Sub(s.now()).Seconds(), set.lease.ends.Load().Sub(s.now()).Seconds(), 10)
		after(200 * time.Second)
		require.NoError(t, ctx.Err())
		use.End()
	})
}

// an eviction heard late cuts a request that came after it
func TestAnEvictionThatIsHeardLateCutsNoNewRequest(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		t := s.t
		s.vault.engines[dbPath] = database(time.Hour, 0)
		server := s.server("orders")
		old := grantOf(t, "alice", nil)
		_, _ = server.Get(context.Background(), old)
		set, _ := server.Get(context.Background(), grantOf(t, "alice", nil)) // the token is back
		var use Use
		ctx, cancel := context.WithCancelCause(context.Background())
		require.NoError(t, use.Begin(set, cancel, false))
		s.live.Store(true)
		s.OnEnd(grants.End{Grant: old, Last: true})
		require.NoError(t, context.Cause(ctx))
		use.End()
	})
}

// a retired holding whose current set is gone forgets the sets before it
func TestTheEndOfAccessFindsCredentialsOfBeforeAReload(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		t := s.t
		s.vault.engines[dbPath] = database(time.Hour, 0)
		server := s.server("orders")
		set := s.get(server, "alice")
		var use Use
		ctx, cancel := context.WithCancelCause(context.Background())
		require.NoError(t, use.Begin(set, cancel, false))
		next := set.Rejected(context.Background())
		for _, h := range server.all() {
			h.drop(next)
		}
		server.retire()
		s.OnEnd(grants.End{Grant: grantOf(t, "alice", nil), Lost: true, Last: true})
		after(time.Second)
		require.ErrorIs(t, context.Cause(ctx), ErrLost)
		require.Zero(t, s.vault.alive())
		use.End()
	})
}
