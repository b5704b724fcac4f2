package backend

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

func TestTheWriteThatCreatesAClientAnswersItsTokenOnce(t *testing.T) {
	e := newEnv(t)
	e.write("servers/calculator", data{"transport": "http", "url": "http://127.0.0.1:9001/mcp"})
	e.write("config", data{"default_ttl": "24h"})

	resp := e.write("clients/cursor-local", data{"allowed_servers": "calculator"})
	require.Empty(t, resp.Warnings)
	token := resp.Data["token"].(string)
	require.Equal(t, "2026-11-23T09:00:00Z", resp.Data["expires_at"])

	found := e.lookup(token)
	require.Equal(t, true, found["active"])
	require.Equal(t, "cursor-local", found["client"])
	require.Equal(t, "issued", found["kind"])
	require.Equal(t, []string{"calculator"}, found["allowed_servers"])
	require.Nil(t, found["allowed_tools"])
	require.EqualValues(t, 86400, found["ttl"])

	for _, answer := range []data{e.read("clients/cursor-local"), e.write("clients/cursor-local", data{"metadata": data{"team": "a"}}).Data} {
		require.NotContains(t, answer, "token")
	}
	require.True(t, e.active(token), "a later write ends no token")
}

func TestNothingInStorageHoldsATokenInClear(t *testing.T) {
	e := newEnv(t)
	tokens := []string{
		e.client("a", data{}),
		e.client("b", data{"access_token": "my_secret_token_123"}),
		e.write("rotate-client/a", nil).Data["token"].(string),
		e.lease("a", nil).token,
	}
	for _, key := range e.keys("") {
		entry, err := e.storage.Get(context.Background(), key)
		require.NoError(t, err)
		for _, token := range tokens {
			require.NotContains(t, key, token)
			require.NotContains(t, string(entry.Value), token)
		}
	}
}

func TestClientWrites(t *testing.T) {
	for _, tc := range []struct {
		name     string
		path     string
		data     data
		refusal  string
		warnings []string
	}{
		{name: "a mistyped field is refused by name", path: "clients/c", data: data{"allowed_server": "x"}, refusal: `unknown field "allowed_server"`},
		{name: "an upper-case name is refused, not folded", path: "clients/Cursor", refusal: "upper-case"},
		{name: "a name that ends in a dash is refused", path: "clients/cursor-", refusal: "is not a valid client name"},
		{name: "a name with a space is refused", path: "clients/my cursor", refusal: "is not a valid client name"},
		{name: "a long name is refused", path: "clients/" + strings.Repeat("a", 129), refusal: "at most 128"},
		{name: "a server that is no name is refused", path: "clients/c", data: data{"allowed_servers": "a,b c"}, refusal: `"b c" is not a valid server name`},
		{name: "an aggregate's tool name is no server", path: "clients/c", data: data{"allowed_servers": "github__search"}, refusal: "double underscore"},
		{name: "a tool rule without a server is refused", path: "clients/c", data: data{"allowed_tools": "search"}, refusal: "field allowed_tools"},
		{name: "a bad CIDR is refused", path: "clients/c", data: data{"token_bound_cidrs": "10.0.0.0/33"}, refusal: "field token_bound_cidrs"},
		{name: "a CIDR with host bits is refused with the likely one", path: "clients/c", data: data{"token_bound_cidrs": "10.1.2.3/8"}, refusal: "did you mean 10.0.0.0/8"},
		{name: "a TTL above its maximum is refused", path: "clients/c", data: data{"token_ttl": "2h", "token_max_ttl": "1h"}, refusal: "field token_ttl"},
		{name: "a short custom token is refused", path: "clients/c", data: data{"access_token": "abcdefgh"}, refusal: "too short"},
		{name: "a custom token with a space is refused", path: "clients/c", data: data{"access_token": "my secret token 123"}, refusal: "RFC 6750"},
		{name: "an empty custom token is refused", path: "clients/c", data: data{"access_token": ""}, refusal: "empty"},
		{name: "a custom token under our prefix is refused", path: "clients/c", data: data{"access_token": "mcpt_abcdefghijklmnop"}, refusal: "reserved"},
		{name: "no servers: created, with a warning", path: "clients/c", data: data{"token_ttl": "1h"}, warnings: []string{"reaches no server"}},
		{name: "every server: created, with a warning", path: "clients/c", data: data{"token_ttl": "1h", "allowed_servers": "*"}, warnings: []string{"every server"}},
		{name: "an unregistered server: created, with a warning", path: "clients/c", data: data{"token_ttl": "1h", "allowed_servers": "later"}, warnings: []string{`no server "later" is registered`}},
		{name: "a token that does not expire: created, with a warning", path: "clients/c", data: data{"allowed_servers": "known"}, warnings: []string{"does not expire"}},
		{name: "a weak custom token: created, with a warning", path: "clients/c", data: data{"allowed_servers": "known", "token_ttl": "1h", "access_token": "my_secret_token_123"}, warnings: []string{"fewer than 32"}},
		{name: "an empty list of tools: created, with a warning", path: "clients/c", data: data{"allowed_servers": "known", "token_ttl": "1h", "allowed_tools": ""}, warnings: []string{"so it allows no tool of allowed_servers"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := newEnv(t)
			e.write("servers/known", data{"transport": "http", "url": "http://127.0.0.1:9001/mcp"})
			before := len(e.keys(""))
			if tc.refusal != "" {
				require.Contains(t, e.refused(logical.UpdateOperation, tc.path, tc.data), tc.refusal)
				require.Empty(t, e.list("clients/"))
				require.LessOrEqual(t, len(e.keys("")), before+1, "a refused write left something behind") // the salt
				return
			}
			resp := e.write(tc.path, tc.data)
			require.Len(t, resp.Warnings, len(tc.warnings), "%v", resp.Warnings)
			for i, want := range tc.warnings {
				require.Contains(t, resp.Warnings[i], want)
			}
			require.True(t, e.active(resp.Data["token"].(string)))
		})
	}
}

func TestAnUpdateKeepsWhatItDoesNotName(t *testing.T) {
	e := newEnv(t)
	e.client("c", data{
		"allowed_servers": "a,b,a", "allowed_tools": "a/*", "denied_tools": "a/delete_*", "token_ttl": 60,
		"token_bound_cidrs": "10.0.0.0/8,::1", "metadata": data{"team": "x"},
	})
	e.write("clients/c", data{"token_ttl": 120})
	got := e.read("clients/c")
	require.Equal(t, []string{"a", "b"}, got["allowed_servers"])
	require.Equal(t, []string{"a/*"}, got["allowed_tools"])
	require.Equal(t, []string{"a/delete_*"}, got["denied_tools"])
	require.Equal(t, []string{"10.0.0.0/8", "::1"}, got["token_bound_cidrs"])
	require.Equal(t, map[string]string{"team": "x"}, got["metadata"])
	require.EqualValues(t, 120, got["token_ttl"])
	require.EqualValues(t, 2, got["version"])
}

func TestAWriteThatChangesNothingWritesNothing(t *testing.T) {
	e := newEnv(t)
	settings := data{
		"allowed_servers": "a", "allowed_tools": "", "denied_tools": "", "token_bound_cidrs": "",
		"metadata": data{}, "disabled": false, "access_token": "my_secret_token_123",
	}
	e.client("c", settings)
	before := e.read("clients/c")
	_, index, err := e.b.feed.Head(context.Background(), e.storage)
	require.NoError(t, err)

	e.clock.Advance(time.Minute)
	e.write("clients/c", settings)
	require.Equal(t, before, e.read("clients/c"))
	_, after, err := e.b.feed.Head(context.Background(), e.storage)
	require.NoError(t, err)
	require.Equal(t, index, after, "a write without effect was announced")
}

func TestAPatchResetsWithNull(t *testing.T) {
	e := newEnv(t)
	e.client("c", data{"allowed_servers": "a", "allowed_tools": "a/x", "metadata": data{"k": "v"}, "disabled": true, "token_ttl": 60})
	e.patch("clients/c", data{"allowed_tools": nil, "metadata": nil, "disabled": nil, "token_ttl": nil})
	got := e.read("clients/c")
	require.Nil(t, got["allowed_tools"])
	require.Empty(t, got["metadata"])
	require.Equal(t, false, got["disabled"])
	require.EqualValues(t, 0, got["token_ttl"])
	require.Equal(t, []string{"a"}, got["allowed_servers"])

	_, err := e.request(context.Background(), logical.PatchOperation, "clients/nobody", data{"disabled": true})
	require.ErrorContains(t, err, `no client "nobody"`)
	require.Contains(t, e.refused(logical.PatchOperation, "clients/c", data{"disable": true}), `unknown field "disable"`)
}

func TestADisabledClientsTokensWorkAgainWhenItIsEnabled(t *testing.T) {
	e := newEnv(t)
	token := e.client("c", data{"allowed_servers": "a"})
	leased := e.lease("c", nil)
	e.write("clients/c", data{"disabled": true})
	require.False(t, e.active(token))
	require.False(t, e.active(leased.token))
	require.Contains(t, e.refused(logical.ReadOperation, "creds/c", nil), "disabled")
	e.write("clients/c", data{"disabled": false})
	require.True(t, e.active(token))
	require.True(t, e.active(leased.token))
}

func TestAClientCreatedAnewRevivesNothing(t *testing.T) {
	e := newEnv(t)
	issued := e.client("c", data{})
	leased := e.lease("c", nil).token
	old := e.read("clients/c")["client_id"]
	e.delete("clients/c")
	require.False(t, e.active(issued))
	require.False(t, e.active(leased))

	again := e.client("c", data{})
	require.NotEqual(t, old, e.read("clients/c")["client_id"])
	require.True(t, e.active(again))
	require.False(t, e.active(issued))
	require.False(t, e.active(leased))
}

func TestDeletingAClientThatIsNotThereIsNoError(t *testing.T) {
	newEnv(t).delete("clients/nobody")
}

// Vault asks whether an entry exists before the engine holds a lock: a create
// that lost the race must not become an update that the caller's ACL forbids.
func TestACreateThatLostTheRaceIsRefused(t *testing.T) {
	e := newEnv(t)
	e.client("c", data{})
	e.write("servers/s", data{"transport": "http", "url": "http://127.0.0.1:1/"})
	for path, op := range map[string]logical.Operation{
		"clients/c": logical.CreateOperation, "servers/s": logical.CreateOperation,
		"clients/gone": logical.UpdateOperation, "servers/gone": logical.UpdateOperation,
	} {
		resp, err := e.b.HandleRequest(context.Background(), &logical.Request{
			Operation: op, Path: path, Storage: e.storage, Data: data{},
		})
		require.NoError(t, err)
		require.ErrorContains(t, resp.Error(), "somebody else", path)
	}
}

func TestACustomTokenIsTakenOnce(t *testing.T) {
	const secret, other = "my_secret_token_123", "another_token_456"
	e := newEnv(t)
	require.Equal(t, secret, e.client("a", data{"access_token": secret}))
	require.Equal(t, "custom", e.lookup(secret)["kind"])

	t.Run("another client is refused it, without hearing whose it is", func(t *testing.T) {
		message := e.refused(logical.UpdateOperation, "clients/b", data{"access_token": secret})
		require.Contains(t, message, "in use")
		require.NotContains(t, message, `"a"`)
		require.NotContains(t, message, secret)
	})
	t.Run("its own client writes it again without effect", func(t *testing.T) {
		e.write("clients/a", data{"access_token": secret})
		require.Contains(t, e.write("rotate-client/a", data{"access_token": secret}).Warnings[0], "nothing was changed")
	})
	t.Run("another one replaces it, with an overlap", func(t *testing.T) {
		resp := e.write("clients/a", data{"access_token": other})
		require.Contains(t, strings.Join(resp.Warnings, "\n"), "accepted until 2026-11-22T10:00:00Z")
		require.True(t, e.active(secret))
		require.True(t, e.active(other))
		require.Contains(t, e.refused(logical.UpdateOperation, "clients/a", data{"access_token": secret}), "grace period")
	})
	t.Run("once ended it does not come back, for anybody", func(t *testing.T) {
		e.clock.Advance(2 * time.Hour)
		require.False(t, e.active(secret))
		for _, client := range []string{"a", "b"} {
			require.Contains(t, e.refused(logical.UpdateOperation, "clients/"+client, data{"access_token": secret}), "must not come back")
		}
	})
	t.Run("unless its reuse is asked for", func(t *testing.T) {
		e.client("b", data{"access_token": secret, "allow_reuse": true})
		require.Equal(t, "b", e.lookup(secret)["client"])
		require.True(t, e.active(other))
	})
}

func TestARevokedCustomTokenDoesNotComeBack(t *testing.T) {
	const secret = "my_secret_token_123"
	for name, end := range map[string]func(e *env){
		"revoke-client":   func(e *env) { e.write("revoke-client/c", nil) },
		"revoke-all":      func(e *env) { e.write("revoke-all", nil) },
		"revoke":          func(e *env) { e.write("revoke", data{"token": secret}) },
		"a rotation":      func(e *env) { e.write("rotate-client/c", data{"grace_period": 0}) },
		"a deletion":      func(e *env) { e.delete("clients/c") },
		"its expiry":      func(e *env) { e.clock.Advance(2 * time.Hour) },
		"its tidy":        func(e *env) { e.clock.Advance(2 * time.Hour); e.tidyToEnd() },
		"delete and tidy": func(e *env) { e.delete("clients/c"); e.clock.Advance(2 * time.Hour); e.tidyToEnd() },
	} {
		t.Run("after "+name, func(t *testing.T) {
			e := newEnv(t)
			e.client("c", data{"access_token": secret, "token_ttl": "1h"})
			end(e)
			require.False(t, e.active(secret))
			for _, again := range []*env{e, e.restart()} {
				require.Contains(t, again.refused(logical.UpdateOperation, "clients/c", data{"access_token": secret}), "must not come back")
				require.Contains(t, again.refused(logical.UpdateOperation, "clients/d", data{"access_token": secret}), "must not come back")
				require.False(t, again.active(secret))
			}
		})
	}
}
