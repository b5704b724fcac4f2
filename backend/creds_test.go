package backend

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

func TestALeasedTokenLivesAsLongAsItsLease(t *testing.T) {
	e := newEnv(t)
	e.client("c", data{"allowed_servers": "a"})
	l := e.lease("c", data{"ttl": "10m"})
	require.Equal(t, 10*time.Minute, l.secret.TTL)
	require.True(t, l.secret.Renewable)
	found := e.lookup(l.token)
	require.Equal(t, "leased", found["kind"])
	require.Equal(t, []string{"a"}, found["allowed_servers"])

	e.clock.Advance(10*time.Minute - time.Nanosecond)
	require.True(t, e.active(l.token))
	e.clock.Advance(time.Nanosecond)
	require.False(t, e.active(l.token))
}

func TestALeasesTTL(t *testing.T) {
	for _, tc := range []struct {
		name            string
		config, client  data
		requested       string
		want, wantedMax time.Duration
		warned          bool
	}{
		{name: "the request's", client: data{"token_ttl": "20m"}, requested: "10m", want: 10 * time.Minute, wantedMax: 24 * time.Hour},
		{name: "the client's, without a request", config: data{"default_ttl": "30m"}, client: data{"token_ttl": "20m"}, want: 20 * time.Minute, wantedMax: 24 * time.Hour},
		{name: "the mount's default_ttl, without a client's", config: data{"default_ttl": "30m"}, want: 30 * time.Minute, wantedMax: 24 * time.Hour},
		{name: "the default lease TTL, without any", want: time.Hour, wantedMax: 24 * time.Hour},
		{name: "capped by the client's maximum", client: data{"token_max_ttl": "5m"}, requested: "10m", want: 5 * time.Minute, wantedMax: 5 * time.Minute, warned: true},
		{name: "capped by the mount's max_ttl", config: data{"max_ttl": "6m"}, requested: "10m", want: 6 * time.Minute, wantedMax: 6 * time.Minute, warned: true},
		{name: "capped by the mount's maximum lease TTL", requested: "48h", want: 24 * time.Hour, wantedMax: 24 * time.Hour, warned: true},
		{name: "capped by the lowest of several", config: data{"max_ttl": "6m"}, client: data{"token_max_ttl": "5m"}, requested: "10m", want: 5 * time.Minute, wantedMax: 5 * time.Minute, warned: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := newEnv(t)
			e.write("config", tc.config)
			e.client("c", tc.client)
			d := data{}
			if tc.requested != "" {
				d["ttl"] = tc.requested
			}
			resp := e.must(logical.ReadOperation, "creds/c", d)
			require.Equal(t, tc.want, resp.Secret.TTL)
			require.Equal(t, tc.wantedMax, resp.Secret.MaxTTL)
			require.EqualValues(t, tc.want/time.Second, resp.Data["ttl"])
			require.Equal(t, tc.warned, len(resp.Warnings) > 0, "%v", resp.Warnings)
		})
	}
}

func TestRenewingALeaseMovesItsTokensExpiry(t *testing.T) {
	e := newEnv(t)
	e.client("c", data{"token_max_ttl": "25m"})
	l := e.lease("c", data{"ttl": "10m"})
	e.clock.Advance(9 * time.Minute)
	l.secret.Increment = 10 * time.Minute
	resp, err := e.renewLease(l)
	require.NoError(t, err)
	require.Equal(t, 10*time.Minute, resp.Secret.TTL)
	e.clock.Advance(9 * time.Minute)
	require.True(t, e.active(l.token))

	resp, err = e.renewLease(l)
	require.NoError(t, err)
	require.Equal(t, 7*time.Minute, resp.Secret.TTL, "a renewal went beyond the longest life")
	e.clock.Advance(7 * time.Minute)
	require.False(t, e.active(l.token))

	_, err = e.renewLease(l)
	require.ErrorContains(t, err, "read creds/c for a new one")
}

func TestALeaseWhoseTokenWasRevokedIsNotRenewed(t *testing.T) {
	for name, end := range map[string]func(e *env, l *lease){
		"its client was revoked":  func(e *env, _ *lease) { e.write("revoke-client/c", nil) },
		"its client was deleted":  func(e *env, _ *lease) { e.delete("clients/c") },
		"its client was replaced": func(e *env, _ *lease) { e.delete("clients/c"); e.client("c", data{}) },
		"its client is disabled":  func(e *env, _ *lease) { e.write("clients/c", data{"disabled": true}) },
		"the token was revoked":   func(e *env, l *lease) { e.write("revoke", data{"token": l.token}) },
		"all were revoked":        func(e *env, _ *lease) { e.write("revoke-all", nil) },
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			e.client("c", data{})
			l := e.lease("c", nil)
			end(e, l)
			requireRenewalRefused(t, e, l)
			require.False(t, e.active(l.token))
			require.NoError(t, e.revokeLease(l), "its lease must still end in peace")
		})
	}
}

// requireRenewalRefused returns why the lease was not renewed. Vault prints all of
// an error response as Go writes it down, so it must be an error.
func requireRenewalRefused(t *testing.T, e *env, l *lease) string {
	t.Helper()
	before := e.keys("")
	var refusal error
	require.Empty(t, e.watch(func() {
		resp, err := e.renewLease(l)
		require.Nil(t, resp)
		require.Error(t, err)
		refusal = err
	}), "a refused renewal changes nothing")
	require.Equal(t, before, e.keys(""))
	require.NotContains(t, refusal.Error(), l.token)
	return refusal.Error()
}

func TestARefusedRenewalLeavesTheTokenAliveToTheEndOfItsLease(t *testing.T) {
	for name, tc := range map[string]struct {
		lower func(e *env)
		told  string
	}{
		"the client's token_max_ttl is below its age": {
			func(e *env) { e.write("clients/c", data{"token_max_ttl": "20m"}) }, "the client's token_max_ttl is 20m0s",
		},
		"the mount's max_ttl is below its age": {
			func(e *env) { e.write("config", data{"max_ttl": "20m"}) }, "the mount's max_ttl is 20m0s",
		},
		"the mount's maximum lease TTL is below its age": {
			func(e *env) {
				e.b.System().(*cachedSystem).SystemView.(*logical.StaticSystemView).MaxLeaseTTLVal = 20 * time.Minute
			}, "the mount's maximum lease TTL is 20m0s",
		},
		"token_max_ttl is its age, to the second": {
			func(e *env) { e.write("clients/c", data{"token_max_ttl": "30m"}) }, "the client's token_max_ttl is 30m0s",
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, increment := range []time.Duration{0, time.Minute, 2 * time.Hour} {
				e := newEnv(t)
				e.client("c", data{})
				l := e.lease("c", data{"ttl": "1h"})
				e.clock.Advance(30 * time.Minute)
				before := e.lookup(l.token)["expires_at"]
				tc.lower(e)
				l.secret.Increment = increment
				refusal := requireRenewalRefused(t, e, l)
				require.Contains(t, refusal, tc.told)
				require.Contains(t, refusal, "lives until 2026-11-22T10:00:00Z")
				require.Equal(t, before, e.lookup(l.token)["expires_at"])
				e.clock.Advance(30*time.Minute - time.Nanosecond)
				require.True(t, e.active(l.token), "a refused renewal ended the token")
				e.clock.Advance(time.Nanosecond)
				require.False(t, e.active(l.token))
			}
		})
	}
}

func TestTheLeaseOfADisabledClientIsNotRenewed(t *testing.T) {
	e := newEnv(t)
	e.client("c", data{})
	l := e.lease("c", data{"ttl": "1h"})
	e.write("clients/c", data{"disabled": true})
	refusal := requireRenewalRefused(t, e, l)
	require.Contains(t, refusal, `the client "c" is disabled`)
	require.NotContains(t, refusal, "has ended", "the token has not")
	e.write("clients/c", data{"disabled": false})
	require.True(t, e.active(l.token))
	_, err := e.renewLease(l)
	require.NoError(t, err)
}

func TestARenewalWithoutAnIncrementExtendsByTheLeasesOwnTTL(t *testing.T) {
	for name, forget := range map[string]func(l *lease){
		"as Vault keeps it in its storage": func(l *lease) {
			l.secret.InternalData["ttl"] = json.Number(fmt.Sprint(l.secret.InternalData["ttl"]))
		},
		"of a lease that an earlier version issued": func(l *lease) { delete(l.secret.InternalData, "ttl") },
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			e.write("config", data{"default_ttl": "10h"})
			e.client("c", data{"token_ttl": "12h"})
			l := e.lease("c", data{"ttl": "15m"})
			forget(l)
			for range 5 {
				e.clock.Advance(10 * time.Minute)
				resp, err := e.renewLease(l)
				require.NoError(t, err)
				require.Equal(t, 15*time.Minute, resp.Secret.TTL)
				require.EqualValues(t, 900, e.lookup(l.token)["ttl"])
			}
		})
	}
	t.Run("after one with an increment", func(t *testing.T) {
		e := newEnv(t)
		e.client("c", data{})
		l := e.lease("c", data{"ttl": "15m"})
		l.secret.Increment = time.Hour
		_, err := e.renewLease(l)
		require.NoError(t, err)
		require.EqualValues(t, 3600, e.lookup(l.token)["ttl"])
		l.secret.Increment = 0
		_, err = e.renewLease(l)
		require.NoError(t, err)
		require.EqualValues(t, 900, e.lookup(l.token)["ttl"])
	})
}

// Gateways remember when a token ends, so an earlier end must be announced.
func TestARenewalThatShortensALeaseIsAnnounced(t *testing.T) {
	e := newEnv(t)
	e.client("c", data{})
	l := e.lease("c", data{"ttl": "1h"})
	accessor := e.lookup(l.token)["accessor"]
	l.secret.Increment = time.Minute
	changes := e.watch(func() {
		_, err := e.renewLease(l)
		require.NoError(t, err)
	})
	require.Len(t, changes, 1)
	require.Equal(t, accessor, changes[0]["accessor"])
	require.Equal(t, "update", changes[0]["operation"])
	l.secret.Increment = time.Hour
	require.Empty(t, e.watch(func() {
		_, err := e.renewLease(l)
		require.NoError(t, err)
	}), "a later end costs nobody a lookup")
	e.write("clients/c", data{"token_max_ttl": "10m"})
	require.Len(t, e.watch(func() {
		resp, err := e.renewLease(l)
		require.NoError(t, err)
		require.Equal(t, 10*time.Minute, resp.Secret.TTL)
		require.Contains(t, resp.Warnings[0], "longest life")
	}), 1)
}

// Vault cuts the lease of a batch token to that token's own end, after the engine
// has answered.
func TestALeaseOfABatchTokenStatesNoEnd(t *testing.T) {
	e := newEnv(t)
	e.client("c", data{})
	resp, err := e.b.HandleRequest(context.Background(), &logical.Request{
		Operation: logical.ReadOperation, Path: "creds/c", Storage: e.storage, DisplayName: "token",
	})
	require.NoError(t, err)
	require.NotContains(t, resp.Data, "expires_at")
	require.NotContains(t, resp.Data, "ttl")
	require.Len(t, resp.Warnings, 1)
	require.Contains(t, resp.Warnings[0], "lease_duration")
	require.True(t, e.active(resp.Data["token"].(string)))
}

func TestRevokingALeaseEndsItsTokenAndMayBeRepeated(t *testing.T) {
	e := newEnv(t)
	e.client("c", data{})
	l := e.lease("c", nil)
	require.Len(t, e.watch(func() { require.NoError(t, e.revokeLease(l)) }), 1)
	require.False(t, e.active(l.token))
	require.NoError(t, e.revokeLease(l))
	require.Empty(t, e.keys(leasePrefix))
	require.Len(t, e.keys(tokenPrefix), 1, "the client's own token stays")
}

func TestALeaseThatRanOutIsNotAnnounced(t *testing.T) {
	e := newEnv(t)
	e.client("c", data{})
	l := e.lease("c", data{"ttl": "1m"})
	e.clock.Advance(time.Minute)
	require.Empty(t, e.watch(func() { require.NoError(t, e.revokeLease(l)) }))
	require.Empty(t, e.keys(leasePrefix))
}

// A failing Revoke would keep Vault from disabling the mount.
func TestRevokingALeaseNeverKeepsTheMountFromBeingDisabled(t *testing.T) {
	storage := &logical.InmemStorage{}
	e := newEnvOn(t, storage, newClock())
	e.client("c", data{})
	l := e.lease("c", nil)
	storage.FailGet(true).FailPut(true).FailDelete(true)
	require.Error(t, e.revokeLease(l), "outside of a disable, Vault must try again")
	e.b.System().(*cachedSystem).SystemView.(*logical.StaticSystemView).TaintedVal = true
	require.NoError(t, e.revokeLease(l))
}

func TestCredsOfAnUnknownClientAreRefused(t *testing.T) {
	e := newEnv(t)
	require.Contains(t, e.refused(logical.ReadOperation, "creds/nobody", nil), `no client "nobody"`)
	e.client("c", data{})
	require.Contains(t, e.refused(logical.ReadOperation, "creds/c", data{"tll": "1m"}), `unknown field "tll"`)
}

func TestALeasedTokenIsRenewedThroughItsLeaseOnly(t *testing.T) {
	e := newEnv(t)
	e.client("c", data{})
	l := e.lease("c", nil)
	require.Contains(t, e.refused(logical.UpdateOperation, "renew", data{"token": l.token}), "renew its lease")
}

func TestRenewingAClientsOwnToken(t *testing.T) {
	e := newEnv(t)
	token := e.client("c", data{"token_ttl": "10m", "token_max_ttl": "15m"})
	accessor := e.lookup(token)["accessor"]
	e.clock.Advance(9 * time.Minute)

	resp := e.write("renew", data{"token": token, "increment": "5m"})
	require.Empty(t, resp.Warnings)
	require.EqualValues(t, 300, resp.Data["ttl"])
	resp = e.write("renew", data{"accessor": accessor})
	require.EqualValues(t, 360, resp.Data["ttl"], "a renewal went beyond token_max_ttl")
	require.Len(t, resp.Warnings, 1)
	e.clock.Advance(6 * time.Minute)
	require.False(t, e.active(token))
	require.Contains(t, e.refused(logical.UpdateOperation, "renew", data{"token": token}), "rotate-client")

	forever := e.client("d", data{})
	require.Contains(t, e.write("renew", data{"token": forever}).Warnings[0], "does not expire")
	e.rotate("d", data{"grace_period": "1h"})
	require.Contains(t, e.refused(logical.UpdateOperation, "renew", data{"token": forever}), "has been replaced")
	require.Contains(t, e.refused(logical.UpdateOperation, "renew", nil), "give one of them")
	require.Contains(t, e.refused(logical.UpdateOperation, "renew", data{"token": forever, "accessor": "x"}), "give one of them")
}

func TestAnExpiringTokenNeverBecomesOneThatDoesNotExpire(t *testing.T) {
	for name, limit := range map[string]data{"without a limit": {}, "with a longest life": {"token_max_ttl": "10h"}} {
		for asked, d := range map[string]data{"without an increment": {}, "with an increment of 0": {"increment": 0}, "with an empty one": {"increment": ""}} {
			t.Run(name+", "+asked, func(t *testing.T) {
				e := newEnv(t)
				token := e.client("c", data{"token_ttl": "1h"})
				e.write("clients/c", data{"token_ttl": 0})
				e.write("clients/c", limit)
				before := e.lookup(token)["expires_at"]
				d["token"] = token
				require.Contains(t, e.refused(logical.UpdateOperation, "renew", d), "field increment")
				require.Equal(t, before, e.lookup(token)["expires_at"])
				require.EqualValues(t, 7200, e.write("renew", data{"token": token, "increment": "2h"}).Data["ttl"])
				e.write("config", data{"default_ttl": "3h"})
				require.EqualValues(t, 10800, e.write("renew", d).Data["ttl"])
			})
		}
	}
}
