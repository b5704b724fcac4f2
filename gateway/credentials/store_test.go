package credentials

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/credential"
	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

func TestFirstRequestsOfOnePrincipalShareOneLease(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		t := s.t
		s.vault.engines[dbPath] = database(time.Hour, 0)
		server := s.server("orders")
		sets := make([]*Set, 50)
		var group sync.WaitGroup
		for i := range sets {
			group.Go(func() { sets[i] = s.get(server, "alice") })
		}
		group.Wait()
		for _, set := range sets {
			require.Same(t, sets[0], set)
		}
		require.Equal(t, 1, s.vault.count("create"))
		require.Equal(t, 1, s.vault.count("read "+dbPath))
		require.Equal(t, []string{"mcp:alice"}, sets[0].Header()["X-User"])
		require.Equal(t, []string{"mcp:alice", sets[0].Header().Get("X-Password")}, sets[0].Secrets())

		after(59 * time.Minute) // of Vault's time
		_ = s.get(server, "alice")
	})
}

func TestTheLeaseThatIsUsedIsTheOneThatIsRenewed(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		t := s.t
		s.vault.engines[dbPath] = database(time.Minute, 0)
		server := s.server("orders")
		first := s.get(server, "alice")
		for range 30 {
			after(20 * time.Second)
			require.Same(t, first, s.get(server, "alice"))
		}
		require.Len(t, s.vault.leases, 1)
		require.Greater(t, s.vault.leases[first.LeaseIDs()[0]].renewals, 10)
	})
}

func TestNobodyIsServedWithALeaseThatHasEnded(t *testing.T) {
	for name, change := range map[string]func(*stage){
		"a lease with a maximal life": func(s *stage) { s.vault.engines[dbPath] = database(20*time.Second, 45*time.Second) },
		"a lease that cannot be renewed": func(s *stage) {
			s.vault.engines[dbPath] = engine{ttl: 20 * time.Second, fixed: true, fields: database(0, 0).fields}
		},
		"a child token with a maximal life":      func(s *stage) { s.vault.maxTTL = 13 * time.Minute },
		"a child token that lives very briefly":  func(s *stage) { s.vault.alter = func(c *vaultclient.Child) { c.TTL = 15 * time.Second } },
		"Vault fails for ten seconds in a while": func(s *stage) { s.vault.before = failing(10*time.Second, 40*time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			onStage(t, nil, func(s *stage) {
				t := s.t
				s.vault.engines[dbPath] = database(time.Minute, 0)
				server := s.server("orders")
				change(s)
				seen := map[*Set]bool{}
				for began := time.Now(); time.Since(began) < 30*time.Minute; after(500 * time.Millisecond) {
					set := s.get(server, "alice")
					require.True(t, s.vault.works(set), "after %s", time.Since(began))
					seen[set] = true
				}
				require.LessOrEqual(t, s.vault.alive(), 2, "replaced ones are revoked")
			})
		})
	}
}

// failing makes Vault fail for that long in each period, but not at once.
func failing(long, period time.Duration) func(string) error {
	began := time.Now()
	return func(string) error {
		if at := time.Since(began) % period; at > period-long {
			return status(http.StatusBadGateway)
		}
		return nil
	}
}

func TestATokenThatIsNotWhatWasAskedIsDestroyedUnused(t *testing.T) {
	for name, alter := range map[string]func(*vaultclient.Child){
		"it has no entity":                func(c *vaultclient.Child) { c.EntityID = "" },
		"it has the gateway's own entity": func(c *vaultclient.Child) { c.EntityID = "entity-of-the-gateway" },
		"it has another client's entity":  func(c *vaultclient.Child) { c.EntityID = "entity-of-mcp:bob" },
		"it has a policy more":            func(c *vaultclient.Child) { c.Policies = append([]string{"admin"}, c.Policies...) },
		"it lacks a policy":               func(c *vaultclient.Child) { c.Policies = []string{"default"} },
		"its entity adds policies":        func(c *vaultclient.Child) { c.IdentityPolicies = []string{"team"} },
		"it cannot be renewed":            func(c *vaultclient.Child) { c.Renewable = false },
		"it is an orphan":                 func(c *vaultclient.Child) { c.Orphan = true },
		"it is a batch token":             func(c *vaultclient.Child) { c.Batch = true },
		"it has no time to live":          func(c *vaultclient.Child) { c.TTL = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			onStage(t, nil, func(s *stage) {
				t := s.t
				s.vault.engines[dbPath] = database(time.Hour, 0)
				server := s.server("orders")
				_ = s.get(server, "bob")
				s.vault.alter = alter
				require.Equal(t, FailureIdentity, s.refusal(server, "alice").Failure)
				synctest.Wait()
				require.Equal(t, 1, s.vault.count("read "+dbPath), "bob's")
				require.Equal(t, 1, s.vault.alive(), "bob's")
			})
		})
	}
}

func TestTheDefaultPolicyMayBeAdded(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		s.vault.engines[dbPath] = database(time.Hour, 0)
		s.vault.alter = func(c *vaultclient.Child) { c.Policies = append([]string{"default"}, c.Policies...) }
		_ = s.get(s.server("orders"), "alice")
	})
}

func TestWhatCannotBeHadIsRefusedWithItsReasonAndAskedForMoreAndMoreRarely(t *testing.T) {
	for name, c := range map[string]struct {
		err    error
		reason string
	}{
		"Vault denies it":        {status(http.StatusForbidden), FailureDenied},
		"there is nothing":       {vaultclient.ErrNoSecret, FailureNotFound},
		"the path is not there":  {status(http.StatusNotFound), FailureNotFound},
		"Vault is sealed":        {status(http.StatusServiceUnavailable), FailureSealed},
		"no node of Vault leads": {&api.ResponseError{StatusCode: 500, Errors: []string{"local node not active but active cluster node not found"}}, FailureSealed},
		"Vault is slow":          {context.DeadlineExceeded, FailureUnavailable},
		"the engine fails":       {status(http.StatusInternalServerError), FailureUnavailable},
		"Vault limits the rate":  {status(http.StatusTooManyRequests), FailureUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			onStage(t, nil, func(s *stage) {
				t := s.t
				s.vault.engines[dbPath] = database(time.Hour, 0)
				server := s.server("orders")
				s.vault.before = func(call string) error {
					if strings.HasPrefix(call, "read") {
						return c.err
					}
					return nil
				}
				for began := time.Now(); time.Since(began) < 5*time.Minute; after(100 * time.Millisecond) {
					e := s.refusal(server, "alice")
					require.Equal(t, c.reason, e.Failure)
					require.Equal(t, dbPath, e.Path)
					require.Equal(t, "db", e.Credential)
				}
				// 1, 2, 4, 8, 16, 32, 60 and 60 seconds, a fifth less at most.
				require.InDelta(t, 10, s.vault.count("read "+dbPath), 2)
				synctest.Wait()
				require.Zero(t, s.vault.alive(), "tokens without a use")
				s.vault.set(func() { s.vault.before = nil })
				after(retryMax)
				_ = s.get(server, "alice")
			})
		})
	}
}

func TestWithoutTheBlockServersWithCredentialsAreRefused(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		t := s.t
		s.Configure(&config.Config{})
		_, err := s.Server(&grants.Server{Name: "x", VaultPolicies: []string{"p"}})
		require.ErrorIs(t, err, errOff)
		held, err := s.Server(&grants.Server{Name: "y", Headers: map[string]string{"A": "b"}})
		require.NoError(t, err)
		require.Nil(t, held)
	})
}

func TestTheEndOfAccessEndsEverything(t *testing.T) {
	grant := func(s *stage) *grants.Grant { return grantOf(s.t, "alice", nil) }
	leased := func(expired bool) func(s *stage) *grants.Grant {
		return func(s *stage) *grants.Grant {
			return grantOf(s.t, "alice", func(l *vaultclient.Lookup) {
				l.Kind, l.AnsweredAt = vaultclient.KindLeased, time.Now()
				l.ExpiresAt = time.Now().Add(time.Hour).Format(time.RFC3339)
				if expired {
					l.ExpiresAt = time.Now().Add(-time.Second).Format(time.RFC3339)
				}
			})
		}
	}
	for name, c := range map[string]struct {
		end  func(s *stage) grants.End
		dead bool // the client has no token left
		ends bool
	}{
		"the last token was revoked":      {func(s *stage) grants.End { return grants.End{Grant: grant(s), Lost: true, Last: true} }, true, true},
		"one of several was":              {func(s *stage) grants.End { return grants.End{Grant: grant(s), Lost: true} }, false, false},
		"a leased token has expired":      {func(s *stage) grants.End { return grants.End{Grant: leased(true)(s), Expired: true, Last: true} }, true, false},
		"the last one has left the cache": {func(s *stage) grants.End { return grants.End{Grant: leased(false)(s), Last: true} }, true, true},
		"the server is not allowed now": {func(s *stage) grants.End {
			return grants.End{Grant: grant(s), Successor: grantOf(s.t, "alice", func(l *vaultclient.Lookup) { l.AllowedServers = []string{"other"} })}
		}, false, true},
		"something else has changed": {func(s *stage) grants.End { return grants.End{Grant: grant(s), Successor: grant(s)} }, false, false},
		"the registration was deleted": {func(*stage) grants.End {
			return grants.End{Server: &grants.Server{Name: "orders", ID: "id-of-orders"}}
		}, false, true},
		"another registration was":              {func(*stage) grants.End { return grants.End{Server: &grants.Server{Name: "orders", ID: "old"}} }, false, false},
		"the client was revoked unheard":        {func(*stage) grants.End { return grants.End{Unheard: true, ClientID: "id-of-alice"} }, true, true},
		"another client was":                    {func(*stage) grants.End { return grants.End{Unheard: true, ClientID: "id-of-bob"} }, true, false},
		"all were":                              {func(*stage) grants.End { return grants.End{Unheard: true} }, true, true},
		"a client with live tokens has changed": {func(*stage) grants.End { return grants.End{Unheard: true, ClientID: "id-of-alice"} }, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			onStage(t, nil, func(s *stage) {
				t := s.t
				s.vault.engines[dbPath] = database(time.Hour, 0)
				set := s.get(s.server("orders"), "alice")
				var use Use
				ctx, cancel := context.WithCancelCause(context.Background())
				require.NoError(t, use.Begin(set, cancel, false))
				s.live.Store(!c.dead)
				s.OnEnd(c.end(s))
				synctest.Wait()
				if !c.ends {
					require.NoError(t, ctx.Err())
					require.Equal(t, 1, s.vault.alive())
					use.End()
					return
				}
				require.Error(t, ctx.Err(), "the request is cut")
				require.True(t, IsEnd(context.Cause(ctx)))
				use.End()
				synctest.Wait()
				require.Zero(t, s.vault.alive(), "at once, when the last request is over")
			})
		})
	}
}

func TestWhoDoesNotLetGoKeepsNoCredentialsAlive(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		t := s.t
		s.vault.engines[dbPath] = database(time.Hour, 0)
		set := s.get(s.server("orders"), "alice")
		release, err := set.Hold()
		require.NoError(t, err)
		s.OnEnd(grants.End{Grant: grantOf(t, "alice", nil), Lost: true, Last: true})
		synctest.Wait()
		require.Equal(t, 1, s.vault.alive())
		after(releaseTimeout)
		synctest.Wait()
		require.Zero(t, s.vault.alive())
		release()
		_, err = set.Hold()
		require.ErrorIs(t, err, ErrLost)
	})
}

func TestAMintUnderWayWhenAccessEndsIsRevokedAndNeverUsed(t *testing.T) {
	for _, at := range []string{"create", "read " + dbPath} {
		t.Run(at, func(t *testing.T) {
			onStage(t, nil, func(s *stage) {
				t := s.t
				s.vault.engines[dbPath] = database(time.Hour, 0)
				server := s.server("orders")
				s.vault.before = func(call string) error {
					if call == at {
						after(time.Second)
					}
					return nil
				}
				answers := make(chan error)
				grant := grantOf(t, "alice", nil)
				go func() {
					_, err := server.Get(context.Background(), grant)
					answers <- err
				}()
				after(500 * time.Millisecond)
				s.OnEnd(grants.End{Grant: grantOf(t, "alice", nil), Lost: true, Last: true})
				require.Error(t, <-answers)
				after(2 * time.Second)
				synctest.Wait()
				require.Equal(t, 1, s.vault.count("create"))
				require.Zero(t, s.vault.alive())
			})
		})
	}
}

func TestARequestThatLostItsAccessBeforehandGetsNothing(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		t := s.t
		s.vault.engines[dbPath] = database(time.Hour, 0)
		ctx, cancel := context.WithCancelCause(context.Background())
		cancel(grants.ErrInactive)
		_, err := s.server("orders").Get(ctx, grantOf(t, "alice", nil))
		require.ErrorIs(t, err, grants.ErrInactive)
		synctest.Wait()
		require.Zero(t, s.vault.count("create"))
	})
}

func TestWhoeverHangsUpCancelsNoMint(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		t := s.t
		s.vault.engines[dbPath] = database(time.Hour, 0)
		server := s.server("orders")
		s.vault.before = func(string) error { after(time.Second); return nil }
		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		defer cancel()
		_, err := server.Get(ctx, grantOf(t, "alice", nil))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		_ = s.get(server, "alice")
		require.Equal(t, 1, s.vault.count("create"))
	})
}

func TestCredentialsThatNobodyUsesEnd(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		t := s.t
		s.vault.engines[dbPath] = database(time.Hour, 0)
		server := s.server("orders")
		set := s.get(server, "alice")
		release, err := set.Hold()
		require.NoError(t, err)
		after(25 * time.Minute)
		require.Equal(t, 1, s.vault.alive(), "a child that runs uses them")
		release()
		after(2 * time.Minute)
		require.Zero(t, s.vault.alive())
		require.ErrorIs(t, set.Cause(), ErrUnused)
		_ = s.get(server, "alice")
		after(9 * time.Minute)
		require.Equal(t, 1, s.vault.alive())
		after(2 * time.Minute)
		require.Zero(t, s.vault.alive())
	})
}

func TestAnIssuedTokenThatExpiresEndsItsCredentials(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		t := s.t
		s.vault.engines[dbPath] = database(time.Hour, 0)
		server := s.server("orders")
		for _, kind := range []string{"issued", vaultclient.KindLeased} {
			_, err := server.Get(context.Background(), grantOf(t, kind, func(l *vaultclient.Lookup) {
				l.Kind, l.AnsweredAt, l.ExpiresAt = kind, time.Now(), time.Now().Add(time.Minute).Format(time.RFC3339Nano)
			}))
			require.NoError(t, err)
		}
		s.live.Store(false)
		after(59 * time.Second)
		require.Equal(t, 2, s.vault.alive())
		after(1100 * time.Millisecond)
		synctest.Wait()
		require.Equal(t, 1, s.vault.alive(), "that of the leased token waits for the next one")
		after(10 * time.Minute)
		require.Zero(t, s.vault.alive())
	})
}

func TestOnePrincipalsCredentialsAreBounded(t *testing.T) {
	settings := usual()
	settings.MaxLeasesPerClient, settings.MaxLeases = 2, 3
	onStage(t, settings, func(s *stage) {
		t := s.t
		s.vault.engines[dbPath] = database(time.Hour, 0)
		a, b, c := s.server("a"), s.server("b"), s.server("c")
		first := s.get(a, "alice")
		release, err := first.Hold()
		require.NoError(t, err)
		after(2 * time.Second)
		_ = s.get(b, "alice")
		after(2 * time.Second)
		_ = s.get(c, "alice")
		synctest.Wait()
		require.Equal(t, 2, s.vault.alive(), "the one that nobody uses made room")
		require.NoError(t, first.Cause(), "the one in use did not")
		_ = s.get(a, "bob")
		_ = s.get(b, "bob")
		synctest.Wait()
		require.Equal(t, 3, s.vault.alive(), "of all clients")
		hold := func(set *Set) {
			free, err := set.Hold()
			require.NoError(t, err)
			defer free()
			require.Equal(t, FailureBound, s.refusal(c, "carol").Failure)
		}
		other := s.get(a, "bob")
		free, err := other.Hold()
		require.NoError(t, err)
		hold(s.get(b, "bob"))
		free()
		release()
	})
}

func TestASecretWithoutALeaseIsReadAgain(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		t := s.t
		value := "one"
		const path = "kv/data/mcp/mcp:alice/github"
		s.vault.engines[path] = engine{fields: func(int, string) map[string]any {
			if value == "" {
				return nil
			}
			return map[string]any{"data": map[string]any{"token": value}, "metadata": map[string]any{}}
		}}
		server := s.register(&grants.Server{
			Name: "github", ID: "1", Transport: grants.TransportHTTP, URL: "https://github.example.com",
			Credentials: map[string]credential.Spec{"gh": {Path: "kv/data/mcp/{{client.alias}}/github"}},
			Headers:     map[string]string{"authorization": "Bearer {{gh.data.token}}"},
		})
		first := s.get(server, "alice")
		require.Equal(t, http.Header{"Authorization": {"Bearer one"}}, first.Header())
		for range 12 {
			after(time.Minute)
			require.Same(t, first, s.get(server, "alice"))
		}
		s.vault.set(func() { value = "two" })
		for range 6 {
			after(time.Minute)
			_ = s.get(server, "alice")
		}
		second := s.get(server, "alice")
		require.Equal(t, http.Header{"Authorization": {"Bearer two"}}, second.Header())
		require.Same(t, second, first.Successor())
		require.Equal(t, 1, s.vault.count("create"), "the token is the same")
		s.vault.set(func() { value = "" })
		for range 6 {
			after(time.Minute)
			_, _ = server.Get(context.Background(), grantOf(t, "alice", nil))
		}
		require.Equal(t, FailureNotFound, s.refusal(server, "alice").Failure, "nothing old is used")
	})
}

func TestANewLoginOfTheGatewayReplacesEverythingBeforeTheOldOneEnds(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		t := s.t
		s.vault.engines[dbPath] = database(time.Hour, 0)
		server := s.server("orders")
		s.vault.logIn(time.Now().Add(2 * time.Minute))
		before := map[string]*Set{}
		for _, client := range []string{"alice", "bob", "carol"} {
			before[client] = s.get(server, client)
		}
		s.vault.logIn(time.Time{})
		after(100 * time.Second)
		synctest.Wait()
		for client, set := range before {
			require.NotSame(t, set, s.get(server, client))
			require.NotNil(t, set.Successor())
		}
		require.Equal(t, 3, s.vault.alive())

		// One that Vault refuses takes all its children with it.
		s.vault.set(func() { s.vault.parent.Refuse() })
		s.vault.logIn(time.Time{})
		for client := range before {
			require.Eventually(t, func() bool { return s.vault.works(s.get(server, client)) }, time.Minute, time.Second)
		}
	})
}

func TestARefusalOfTheServerHasTheCredentialsReadAgainTwiceAMinuteAtMost(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		t := s.t
		s.vault.engines[dbPath] = database(time.Hour, 0)
		server := s.server("orders")
		set := s.get(server, "alice")
		next := set.Rejected(context.Background())
		require.NotNil(t, next)
		require.NotEqual(t, set.Header(), next.Header())
		require.Same(t, next, s.get(server, "alice"))
		require.Same(t, next, set.Rejected(context.Background()), "for whoever comes late")
		reads := s.vault.count("read " + dbPath)
		for began := time.Now(); time.Since(began) < 5*time.Minute; after(time.Second) {
			_ = s.get(server, "alice").Rejected(context.Background())
		}
		require.InDelta(t, 10, s.vault.count("read "+dbPath)-reads, 1)
	})
}

func TestASecretThatHasNotChangedIsNotTriedAgain(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		t := s.t
		s.vault.engines[dbPath] = engine{fields: func(int, string) map[string]any {
			return map[string]any{"username": "u", "password": "p"}
		}}
		server := s.server("orders")
		set := s.get(server, "alice")
		require.Nil(t, set.Rejected(context.Background()))
		require.Same(t, set, s.get(server, "alice"))
		synctest.Wait()
		require.Equal(t, 1, s.vault.alive())
	})
}

func TestValuesThatCannotBeSentAreRefusedByTheirNames(t *testing.T) {
	for name, value := range map[string]any{
		"a line end": "s3cret\r\nX-Admin: 1", "a NUL": "s3cret\x00", "too long": "s3cret" + strings.Repeat("x", maxValue),
		"a list": []any{"s3cret"}, "an object": map[string]any{"s3cret": 1}, "nothing": nil,
	} {
		t.Run(name, func(t *testing.T) {
			onStage(t, nil, func(s *stage) {
				t := s.t
				s.vault.engines[dbPath] = engine{fields: func(int, string) map[string]any {
					return map[string]any{"username": "u", "password": value}
				}}
				e := s.refusal(s.server("orders"), "alice")
				require.Equal(t, FailureValue, e.Failure)
				require.Contains(t, e.Error(), "X-Password")
				require.NotContains(t, e.Error(), "s3cret")
			})
		})
	}
}

func TestAClockThatIsSetForwardEndsCredentials(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		t := s.t
		s.vault.engines[dbPath] = database(time.Hour, 0)
		server := s.server("orders")
		set := s.get(server, "alice")
		s.skew.Store(int64(2 * time.Hour)) // the machine was suspended
		require.NotSame(t, set, s.get(server, "alice"))
		require.Error(t, set.Cause())
	})
}

func TestPathsThatMayNotBeAskedForAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		spec   credential.Spec
		client func(*vaultclient.Lookup)
		says   string
	}{
		"the gateway's file does not allow it": {credential.Spec{Path: "pki/issue/web"}, nil, "credential_paths"},
		"nobody is signed in":                  {credential.Spec{Path: "database/creds/{{person.alias}}"}, nil, "signed in"},
		"metadata of a client that has no policies of its own": {
			credential.Spec{Path: "database/creds/{{client.metadata.team}}"},
			func(l *vaultclient.Lookup) { l.Metadata = map[string]string{"team": "a"} }, "upstream_policies",
		},
		"a policy that the gateway's file does not name": {
			credential.Spec{Path: dbPath}, func(l *vaultclient.Lookup) { l.UpstreamPolicies = []string{"admin"} }, `"admin"`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			onStage(t, nil, func(s *stage) {
				t := s.t
				s.config.Upstreams = map[string]config.Upstream{"x": {CredentialPaths: []string{"database/creds/*"}}}
				server := s.register(&grants.Server{
					Name: "x", ID: "1", Transport: grants.TransportHTTP, URL: "https://x.example.com",
					Credentials: map[string]credential.Spec{"db": c.spec}, Headers: map[string]string{"A": "{{db.x}}"},
				})
				_, err := server.Get(context.Background(), grantOf(t, "alice", c.client))
				var e *Error
				require.ErrorAs(t, err, &e)
				require.Equal(t, FailurePath, e.Failure)
				require.Contains(t, e.Error(), c.says)
				synctest.Wait()
				require.Zero(t, s.vault.alive())
			})
		})
	}
}

func TestAClientsOwnPoliciesAreThoseOfItsTokens(t *testing.T) {
	settings := usual()
	settings.Policies = []string{"a", "b"}
	onStage(t, settings, func(s *stage) {
		t := s.t
		s.vault.engines["database/creds/blue"] = database(time.Hour, 0)
		server := s.register(&grants.Server{
			Name: "x", ID: "1", Transport: grants.TransportHTTP, URL: "https://x.example.com",
			Credentials: map[string]credential.Spec{"db": {Path: "database/creds/{{client.metadata.team}}"}}, Headers: map[string]string{"A": "{{db.username}}"},
		})
		_, err := server.Get(context.Background(), grantOf(t, "alice", func(l *vaultclient.Lookup) {
			l.UpstreamPolicies, l.Metadata = []string{"b"}, map[string]string{"team": "blue"}
		}))
		require.NoError(t, err)
		for _, c := range s.vault.children {
			require.Equal(t, []string{"b"}, c.Policies)
		}
	})
}

func TestTheServersOwnVaultTokenIsNotTheOneThatLeases(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		t := s.t
		s.vault.engines[dbPath] = database(time.Hour, 0)
		server := s.register(&grants.Server{
			Name: "vault", ID: "1", Transport: grants.TransportHTTP, URL: "https://vault.example.com",
			Credentials:   map[string]credential.Spec{"db": {Path: dbPath}},
			VaultPolicies: []string{"mcp-vault"},
			Headers:       map[string]string{"X-Vault-Token": "{{vault.token}}", "X-User": "{{db.username}}"},
		})
		set := s.get(server, "alice")
		given := set.Header().Get("X-Vault-Token")
		require.Equal(t, []string{"mcp-vault"}, s.vault.children[given].Policies)
		require.Zero(t, s.vault.children[given].readAnswers)
		require.NotEqual(t, s.vault.children[given].Accessor, set.Accessor())
	})
}

func TestRevocationsAreRepeatedUntilVaultHasAnswered(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		t := s.t
		s.vault.engines[dbPath] = database(time.Hour, 0)
		_ = s.get(s.server("orders"), "alice")
		s.vault.set(func() { s.vault.before = func(string) error { return errors.New("connection refused") } })
		s.OnEnd(grants.End{Grant: grantOf(t, "alice", nil), Lost: true, Last: true})
		after(30 * time.Second)
		require.Equal(t, 1, s.Stats().Revoking)
		s.vault.set(func() { s.vault.before = nil })
		after(11 * time.Second)
		require.Zero(t, s.vault.alive())
	})
}
