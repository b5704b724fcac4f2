package backend

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/feed"
)

// watch returns the events of do, for a watcher who has seen everything before it.
func (e *env) watch(do func()) []map[string]any {
	e.t.Helper()
	head := e.read("changes")
	do()
	since := e.must(logical.ReadOperation, "changes", data{"epoch": head["epoch"], "index": head["index"]}).Data
	require.Equal(e.t, false, since["reset"])
	return since["changes"].([]map[string]any)
}

func TestRevokingAClientEndsAllItsTokensAtOnce(t *testing.T) {
	e := newEnv(t)
	first := e.client("c", data{})
	second := e.rotate("c", data{"grace_period": "1h"})
	leased := e.lease("c", nil)
	other := e.client("d", data{})
	id := e.read("clients/c")["client_id"]

	changes := e.watch(func() { e.write("revoke-client/c", nil) })
	require.Len(t, changes, 1)
	require.Equal(t, string(feed.Client), changes[0]["type"])
	require.Equal(t, string(feed.Revoke), changes[0]["operation"])
	require.Equal(t, id, changes[0]["client_id"])

	for _, token := range []string{first, second, leased.token} {
		require.False(t, e.active(token))
	}
	require.True(t, e.active(other))
	require.Equal(t, id, e.read("clients/c")["client_id"], "the identity stays")
	require.Contains(t, e.refused(logical.UpdateOperation, "revoke-client/nobody", nil), `no client "nobody"`)
}

func TestRevokeAllEndsEveryTokenOfTheMountAndNoIdentity(t *testing.T) {
	e := newEnv(t)
	tokens := []string{e.client("c", data{}), e.client("d", data{}), e.lease("c", nil).token}
	changes := e.watch(func() { e.write("revoke-all", nil) })
	require.Len(t, changes, 1)
	require.Equal(t, string(feed.Mount), changes[0]["type"])
	for _, token := range tokens {
		require.False(t, e.active(token))
	}
	require.Equal(t, []string{"c", "d"}, e.list("clients/"))
	require.True(t, e.active(e.rotate("c", nil)))
	require.True(t, e.active(e.lease("d", nil).token))
	require.False(t, e.restart().active(tokens[0]))
}

func TestOneTokenIsRevokedByItselfItsAccessorOrItsPath(t *testing.T) {
	accessor := func(e *env, token string) string { return e.lookup(token)["accessor"].(string) }
	for name, revoke := range map[string]func(e *env, token string){
		"revoke":          func(e *env, token string) { e.write("revoke", data{"token": token}) },
		"revoke-accessor": func(e *env, token string) { e.write("revoke-accessor", data{"accessor": accessor(e, token)}) },
		"the token's path": func(e *env, token string) {
			e.delete("clients/c/tokens/" + accessor(e, token))
		},
	} {
		t.Run("by "+name, func(t *testing.T) {
			e := newEnv(t)
			first := e.client("c", data{})
			second := e.rotate("c", data{"grace_period": "1h"})
			leased, kept := e.lease("c", nil).token, e.lease("c", nil).token
			for _, token := range []string{second, leased} {
				gone := accessor(e, token)
				changes := e.watch(func() { revoke(e, token) })
				require.Len(t, changes, 1)
				require.Equal(t, gone, changes[0]["accessor"])
				require.Equal(t, "revoke", changes[0]["operation"])
				require.False(t, e.active(token))
				require.NotContains(t, e.list("clients/c/tokens/"), gone)
			}
			require.True(t, e.active(first), "only one token was to end")
			require.True(t, e.active(kept))
			require.False(t, e.restart().active(second))
		})
	}
}

func TestRevokingWhatIsGoneSucceedsWithAWarning(t *testing.T) {
	e := newEnv(t)
	token := e.client("c", data{})
	accessor := e.lookup(token)["accessor"].(string)
	e.write("revoke", data{"token": token})
	for name, resp := range map[string]*logical.Response{
		"the same token":      e.write("revoke", data{"token": token}),
		"the same accessor":   e.write("revoke-accessor", data{"accessor": accessor}),
		"its path":            e.delete("clients/c/tokens/" + accessor),
		"an unknown token":    e.write("revoke", data{"token": "never_was_a_token"}),
		"an unknown accessor": e.write("revoke-accessor", data{"accessor": strings.Repeat("x", accessorLength)}),
	} {
		require.Len(t, resp.Warnings, 1, name)
	}
	require.Contains(t, e.refused(logical.UpdateOperation, "revoke", nil), "field token is missing")
	require.Contains(t, e.refused(logical.UpdateOperation, "revoke-accessor", nil), "field accessor is missing")
}

func TestARepeatedRevocationIsAnnouncedAgain(t *testing.T) {
	e := newEnv(t)
	token := e.client("c", data{})
	other := e.lookup(e.client("other", data{}))["accessor"].(string)
	own := e.lookup(token)["accessor"].(string)
	leased := e.lookup(e.lease("c", nil).token)["accessor"].(string)
	for _, accessor := range []string{own, leased, other} {
		e.write("revoke-accessor", data{"accessor": accessor})
	}
	for name, c := range map[string]struct {
		announced string // "": nothing
		again     func()
	}{
		"the accessor of a client's own token":  {own, func() { e.write("revoke-accessor", data{"accessor": own}) }},
		"the accessor of a leased token":        {leased, func() { e.write("revoke-accessor", data{"accessor": leased}) }},
		"its path":                              {own, func() { e.delete("clients/c/tokens/" + own) }},
		"the accessor of another client's path": {"", func() { e.delete("clients/c/tokens/" + other) }},
		"an accessor of no client": {"", func() {
			e.write("revoke-accessor", data{"accessor": strings.Repeat("x", accessorLength)})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			changes := e.watch(c.again)
			if c.announced == "" {
				require.Empty(t, changes)
				return
			}
			require.Len(t, changes, 1)
			require.Equal(t, c.announced, changes[0]["accessor"])
			require.Equal(t, "revoke", changes[0]["operation"])
			require.Equal(t, "c", changes[0]["client"])
		})
	}
}

// TestTheTokenOfAClientThatIsNotThereIsRevoked: entries that refer to the client can
// outlive it.
func TestTheTokenOfAClientThatIsNotThereIsRevoked(t *testing.T) {
	e := newEnv(t)
	token := e.client("c", data{})
	accessor := e.lookup(token)["accessor"].(string)
	require.NoError(t, e.storage.Delete(context.Background(), clientPrefix+"c"))
	e = e.restart()
	for name, revoke := range map[string]func(){
		"by itself":   func() { e.write("revoke", data{"token": token}) },
		"by accessor": func() { e.write("revoke-accessor", data{"accessor": accessor}) },
		"by its path": func() { e.delete("clients/c/tokens/" + accessor) },
	} {
		done := make(chan struct{})
		go func() {
			defer close(done)
			revoke()
		}()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Fatal("it waits for a lock that nobody gives back: " + name)
		}
	}
	require.False(t, e.active(token))
	require.True(t, e.active(e.client("c", data{})))
}

func TestATokenOfAnotherClientIsNotReachedThroughAPath(t *testing.T) {
	e := newEnv(t)
	token := e.client("team-b-x", data{})
	e.client("team-a-x", data{})
	accessor := e.lookup(token)["accessor"].(string)
	e.delete("clients/team-a-x/tokens/" + accessor)
	require.True(t, e.active(token))
	require.Nil(t, e.read("clients/team-a-x/tokens/"+accessor))
}

func TestTokensAreListedByAccessorWithTheirState(t *testing.T) {
	e := newEnv(t)
	first := e.client("c", data{})
	second := e.rotate("c", data{"grace_period": "1h"})
	leased := e.lease("c", data{"ttl": "10m"}).token
	state := func(token string) string {
		return e.read("clients/c/tokens/" + e.accessors[token])["state"].(string)
	}
	e.accessors = map[string]string{}
	for _, token := range []string{second, first, leased} {
		e.accessors[token] = e.lookup(token)["accessor"].(string)
	}
	require.Equal(t, []string{e.accessors[second], e.accessors[first], e.accessors[leased]}, e.list("clients/c/tokens/"))
	require.Equal(t, "active", state(second))
	require.Equal(t, "grace", state(first))
	require.Equal(t, "active", state(leased))
	require.Equal(t, "tester", e.read("clients/c/tokens/" + e.accessors[leased])["issued_by"])

	e.write("clients/c", data{"disabled": true})
	require.Equal(t, "disabled", state(second))
	e.clock.Advance(11 * time.Minute)
	require.Equal(t, "expired", state(leased))
	e.write("revoke-all", nil)
	require.Equal(t, "revoked", state(second))
	require.Empty(t, e.list("clients/nobody/tokens/"))
	require.Nil(t, e.read("clients/c/tokens/nonsense"))
}
