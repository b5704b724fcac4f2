package vaultclient

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/config"
)

// peopleNode is a node of Vault that gives one answer to every request, and another one about
// the leader.
type peopleNode struct {
	*httptest.Server

	mu     sync.Mutex
	status int
	first  int // of the first answer, instead of status; 0: the same
	body   string
	leader string // the answer about it; "": Vault does not say
	seen   []*http.Request
	bodies []map[string]any
}

const (
	alone   = `{"ha_enabled":false}`
	invalid = `{"errors":["2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"]}`
	denied  = `{"errors":["permission denied"]}`
)

func newPeopleNode(t *testing.T, leader string, status int, body string) *peopleNode {
	t.Helper()
	n := &peopleNode{status: status, body: body, leader: leader}
	n.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.mu.Lock()
		defer n.mu.Unlock()
		if r.URL.Path == "/v1/sys/leader" {
			if n.leader == "" {
				vaultError(w, http.StatusServiceUnavailable, "Vault is sealed")
				return
			}
			fmt.Fprint(w, n.leader)
			return
		}
		n.seen = append(n.seen, r)
		var body map[string]any
		_ = json.NewDecoder(r.Body).Decode(&body)
		n.bodies = append(n.bodies, body)
		status := n.status
		if len(n.seen) == 1 && n.first != 0 {
			status = n.first
		}
		w.WriteHeader(status)
		fmt.Fprint(w, n.body)
	}))
	t.Cleanup(n.Close)
	return n
}

func activeAt(address string) string {
	return `{"ha_enabled":true,"leader_address":"` + address + `"}`
}

func peopleAt(t *testing.T, address string) *People {
	t.Helper()
	v := &fakeVault{Server: &httptest.Server{URL: address}}
	people, err := NewPeople(v.settings(t, config.Auth{}), hclog.NewNullLogger())
	require.NoError(t, err)
	return people
}

const selfAnswer = `{"data":{"accessor":"acc","creation_time":1796042434,"creation_ttl":3600,"display_name":"oidc-ann","entity_id":"e1","expire_time":"2026-11-30T12:10:34.25Z",
	"external_namespace_policies":{"team/":["admins"]},"identity_policies":["from-group"],"num_uses":0,"orphan":true,"policies":["default","mcp-person"],
	"renewable":true,"ttl":599,"type":"service"}}`

func TestVaultsWordAboutAPersonsToken(t *testing.T) {
	people := peopleAt(t, newPeopleNode(t, alone, 200, selfAnswer).URL)
	token, err := people.Lookup(t.Context(), "hvs.person")
	require.NoError(t, err)
	require.Equal(t, &PersonToken{
		secret: "hvs.person", Accessor: "acc", EntityID: "e1", DisplayName: "oidc-ann",
		Policies: []string{"default", "mcp-person"}, IdentityPolicies: []string{"from-group"}, External: map[string][]string{"team/": {"admins"}},
		Renewable: true, TTL: 599 * time.Second, Created: time.Unix(1796042434, 0),
		Read: time.Date(2026, 11, 30, 12, 0, 35, 250_000_000, time.UTC),
	}, token)
	require.NotContains(t, fmt.Sprintf("%v %+v %#v", token, token, token), "hvs.person")

	for name, answer := range map[string]string{
		"no data":          `{}`,
		"no creation_time": `{"data":{"type":"service","ttl":1}}`,
		"no type":          `{"data":{"creation_time":1796042434}}`,
		"another form":     `{"data":{"creation_time":1796042434,"type":"service","policies":"root"}}`,
	} {
		_, err := peopleAt(t, newPeopleNode(t, alone, 200, answer).URL).Lookup(t.Context(), "hvs.person")
		require.Error(t, err, name)
		require.NotErrorIs(t, err, ErrDead, name)
	}
	for form, is := range map[string]func(*PersonToken) bool{
		`"type":"batch"`:                func(t *PersonToken) bool { return t.Batch },
		`"type":"service","period":60`:  func(t *PersonToken) bool { return t.Periodic },
		`"type":"service","num_uses":3`: func(t *PersonToken) bool { return t.Uses == 3 },
	} {
		token, err := peopleAt(t, newPeopleNode(t, alone, 200, `{"data":{"creation_time":1796042434,`+form+`}}`).URL).Lookup(t.Context(), "hvs.person")
		require.NoError(t, err, form)
		require.True(t, is(token), form)
	}
}

// TestATokenIsDeadOnlyIfTheActiveNodeSaysSo: everything else may pass, and a sign-in that was
// given up for it would be lost.
func TestATokenIsDeadOnlyIfTheActiveNodeSaysSo(t *testing.T) {
	const gone = "http://127.0.0.1:1" // a port that nobody gets by chance
	for name, c := range map[string]struct {
		status int
		body   string
		leader func(active string) string
		active int // status of the active node
		dead   bool
		works  bool
	}{
		"the only node does not know it":                            {403, invalid, func(string) string { return alone }, 0, true, false},
		"the only node denies it, since its entity is disabled":     {403, denied, func(string) string { return alone }, 0, true, false},
		"a standby and the active node do not know it":              {403, invalid, activeAt, 403, true, false},
		"a standby does not know it, and the active node does":      {403, invalid, activeAt, 200, false, true},
		"a standby does not know it, and the active node is sealed": {403, invalid, activeAt, 503, false, false},
		"a standby does not know it, and the active node fails":     {403, invalid, activeAt, 500, false, false},
		"a standby does not know it, and there is no active node":   {403, invalid, func(string) string { return activeAt("") }, 403, false, false},
		"a standby does not know it, and the leader is unknown":     {403, invalid, func(string) string { return "" }, 403, false, false},
		"a standby does not know it, and the leader is gone":        {403, invalid, func(string) string { return activeAt(gone) }, 403, false, false},
		"Vault is sealed":         {503, `{"errors":["Vault is sealed"]}`, func(string) string { return alone }, 0, false, false},
		"Vault fails":             {500, `{"errors":["internal error"]}`, func(string) string { return alone }, 0, false, false},
		"a proxy answers in HTML": {502, `<html>permission denied</html>`, func(string) string { return alone }, 0, false, false},
		"Vault limits the rate":   {429, `{"errors":["rate limit"]}`, func(string) string { return alone }, 0, false, false},
		"a quota of the path":     {400, `{"errors":["lookup-self: permission denied"]}`, func(string) string { return alone }, 0, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			body := invalid
			if c.active == 200 {
				body = selfAnswer
			}
			active := newPeopleNode(t, alone, c.active, body)
			node := newPeopleNode(t, c.leader(active.URL), c.status, c.body)
			_, err := peopleAt(t, node.URL).Lookup(t.Context(), "hvs.person")
			require.Equal(t, c.works, err == nil, "%v", err)
			require.Equal(t, c.dead, errors.Is(err, ErrDead), "%v", err)
			require.Equal(t, c.dead, IsDenied(err), "%v", err)
			if err != nil {
				require.NotContains(t, err.Error(), "hvs.person")
			}
		})
	}
}

func TestAWrappingTokenIsUsedOnlyIfTheActiveNodeSaysSo(t *testing.T) {
	used := `{"errors":["wrapping token is not valid or does not exist"]}`
	active := newPeopleNode(t, alone, 200, `{"data":{"token":"hvs.person"}}`)
	secret, err := peopleAt(t, newPeopleNode(t, activeAt(active.URL), 400, used).URL).Unwrap(t.Context(), "hvs.wrap")
	require.NoError(t, err)
	require.Equal(t, "hvs.person", secret)
	_, err = peopleAt(t, newPeopleNode(t, alone, 400, used).URL).Unwrap(t.Context(), "hvs.wrap")
	require.ErrorIs(t, err, ErrUsed)
	for _, node := range []*peopleNode{
		newPeopleNode(t, "", 400, used), newPeopleNode(t, alone, 503, used), newPeopleNode(t, alone, 200, `{"data":{"other":"x"}}`),
	} {
		_, err = peopleAt(t, node.URL).Unwrap(t.Context(), "hvs.wrap")
		require.Error(t, err)
		require.NotErrorIs(t, err, ErrUsed)
	}
}

// TestTheLoserOfTwoUnwrapsIsToldThatTheTokenWasUsed: Vault's first answer to it is a 500.
func TestTheLoserOfTwoUnwrapsIsToldThatTheTokenWasUsed(t *testing.T) {
	node := newPeopleNode(t, alone, 400, `{"errors":["wrapping token is not valid or does not exist"]}`)
	node.first = http.StatusInternalServerError
	_, err := peopleAt(t, node.URL).Unwrap(t.Context(), "hvs.wrap")
	require.ErrorIs(t, err, ErrUsed)

	_, err = peopleAt(t, newPeopleNode(t, alone, 500, `{"errors":["internal error"]}`).URL).Unwrap(t.Context(), "hvs.wrap")
	require.Error(t, err)
	require.NotErrorIs(t, err, ErrUsed, "one that Vault says nothing about")
}

func TestThePersonsTokenIsWrappedForTheTimeOfACode(t *testing.T) {
	node := newPeopleNode(t, alone, 200, `{"wrap_info":{"token":"hvs.wrap","ttl":60}}`)
	wrapping, err := peopleAt(t, node.URL).Wrap(t.Context(), NewPersonToken("hvs.person"), time.Minute)
	require.NoError(t, err)
	require.Equal(t, "hvs.wrap", wrapping)
	require.Equal(t, "60", node.seen[0].Header.Get("X-Vault-Wrap-TTL"))
	require.Equal(t, "hvs.person", node.seen[0].Header.Get("X-Vault-Token"))
	require.Equal(t, map[string]any{"token": "hvs.person"}, node.bodies[0])

	_, err = peopleAt(t, newPeopleNode(t, alone, 200, `{"data":{"token":"hvs.person"}}`).URL).Wrap(t.Context(), NewPersonToken("hvs.person"), time.Minute)
	require.Error(t, err, "an answer that is not wrapped")
	_, err = peopleAt(t, node.URL).Lookup(t.Context(), "hvs.person")
	require.Error(t, err)
	require.Empty(t, node.seen[1].Header.Get("X-Vault-Wrap-TTL"), "no other request's answer is wrapped")
}

func TestTheEndOfAPersonsToken(t *testing.T) {
	require.NoError(t, peopleAt(t, newPeopleNode(t, alone, 204, "").URL).Revoke(t.Context(), NewPersonToken("hvs.person")))
	require.NoError(t, peopleAt(t, newPeopleNode(t, alone, 403, invalid).URL).Revoke(t.Context(), NewPersonToken("hvs.person")), "it has ended")
	for name, node := range map[string]*peopleNode{
		"its policies do not grant it":   newPeopleNode(t, alone, 403, denied),
		"Vault is sealed":                newPeopleNode(t, alone, 503, denied),
		"the active node was not asked":  newPeopleNode(t, "", 403, invalid),
		"the active node is not there":   newPeopleNode(t, activeAt("http://127.0.0.1:1"), 403, invalid),
		"the engine's leases do not end": newPeopleNode(t, alone, 500, denied),
	} {
		require.Error(t, peopleAt(t, node.URL).Revoke(t.Context(), NewPersonToken("hvs.person")), name)
	}
}

func TestALoginThatVaultDoesNotFinish(t *testing.T) {
	for name, c := range map[string]struct {
		status  int
		body    string
		is      error
		refused bool
	}{
		"the state is unknown": {400, `{"errors":["Vault login failed. Expired or missing OAuth state."]}`, ErrStateLost, false},
		"the role is another":  {400, `{"errors":["error validating claims: claim \"groups\" is missing"]}`, nil, true},
		"Vault is sealed":      {503, `{"errors":["Vault is sealed"]}`, nil, false},
		"no token comes":       {200, `{"data":{}}`, nil, false},
	} {
		_, err := peopleAt(t, newPeopleNode(t, alone, c.status, c.body).URL).FinishOIDC(t.Context(), "oidc-mcp", "the-state", "the-code", "the-nonce")
		require.Error(t, err, name)
		require.Equal(t, c.is != nil, errors.Is(err, ErrStateLost), name)
		require.Equal(t, c.refused, IsRefused(err), name)
		for _, secret := range []string{"the-state", "the-code", "the-nonce"} {
			require.NotContains(t, err.Error(), secret, name)
		}
	}
	_, err := peopleAt(t, "http://127.0.0.1:1").FinishOIDC(t.Context(), "oidc-mcp", "the-state", "the-code", "the-nonce")
	require.ErrorContains(t, err, "connection refused")
	require.NotContains(t, err.Error(), "the-code", "nor where Vault cannot be reached")

	_, err = peopleAt(t, newPeopleNode(t, alone, 200, `{"data":{"auth_url":""}}`).URL).AuthURL(t.Context(), "oidc-mcp", "mcp", "https://x.example/cb", "n")
	require.ErrorIs(t, err, ErrRedirect)
	at, err := peopleAt(t, newPeopleNode(t, alone, 200, `{"data":{"auth_url":"https://idp.example/a?state=s"}}`).URL).AuthURL(t.Context(), "oidc-mcp", "mcp", "https://x.example/cb", "n")
	require.NoError(t, err)
	require.Equal(t, "https://idp.example/a?state=s", at)
}

func TestARenewalForWantOfTheRole(t *testing.T) {
	gone := `{"errors":["1 error occurred:\n\t* failed to renew entry: role mcp does not exist during renewal\n\n"]}`
	_, err := peopleAt(t, newPeopleNode(t, alone, 500, gone).URL).Renew(t.Context(), NewPersonToken("hvs.person"), time.Minute)
	require.ErrorIs(t, err, ErrNoRole)
	for status, text := range map[int]string{500: `{"errors":["1 error occurred:\n\t* failed to renew entry: context canceled\n\n"]}`, 503: gone} {
		_, err := peopleAt(t, newPeopleNode(t, alone, status, text).URL).Renew(t.Context(), NewPersonToken("hvs.person"), time.Minute)
		require.Error(t, err)
		require.NotErrorIs(t, err, ErrNoRole)
	}
	life, err := peopleAt(t, newPeopleNode(t, alone, 200, `{"auth":{"client_token":"hvs.person","lease_duration":60}}`).URL).Renew(t.Context(), NewPersonToken("hvs.person"), time.Minute)
	require.NoError(t, err)
	require.Equal(t, time.Minute, life)
}

// TestALoginForWhichVaultWantsASecondFactor gives no token, and would not the next time either.
func TestALoginForWhichVaultWantsASecondFactor(t *testing.T) {
	answer := `{"auth":{"client_token":"","accessor":"","mfa_requirement":{"mfa_request_id":"r","mfa_constraints":{"totp":{"any":[{"type":"totp","id":"i","uses_passcode":true}]}}}}}`
	_, err := peopleAt(t, newPeopleNode(t, alone, 200, answer).URL).FinishOIDC(t.Context(), "oidc-mcp", "s", "c", "n")
	require.ErrorIs(t, err, ErrMFA)
	_, err = peopleAt(t, newPeopleNode(t, alone, 200, answer).URL).LoginJWT(t.Context(), "jwt-ci", "mcp", "the-jwt")
	require.ErrorIs(t, err, ErrMFA)
}

// TestATokenThatMayNotLookAtItselfIsRevoked: nobody could know whether to keep it.
func TestATokenThatMayNotLookAtItselfIsRevoked(t *testing.T) {
	var paths []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		paths = append(paths, strings.TrimPrefix(r.URL.Path, "/v1/"))
		switch r.URL.Path {
		case "/v1/auth/jwt-ci/login":
			fmt.Fprint(w, `{"auth":{"client_token":"hvs.person","accessor":"acc"}}`)
		case "/v1/sys/leader":
			fmt.Fprint(w, alone)
		case "/v1/auth/token/revoke-self":
			w.WriteHeader(http.StatusNoContent)
		default:
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, denied)
		}
	}))
	defer server.Close()
	_, err := peopleAt(t, server.URL).LoginJWT(t.Context(), "jwt-ci", "mcp", "the-jwt")
	require.ErrorIs(t, err, ErrNoLookup)
	require.Equal(t, []string{"auth/jwt-ci/login", "auth/token/lookup-self", "sys/leader", "auth/token/revoke-self"}, paths)
}

func TestAnAccessTokenIsBoundAsItWasAskedFor(t *testing.T) {
	ask := CredsRequest{
		Resource: "https://mcp.example.com/sign-in/mcp", Application: "dynamic:x", ApplicationName: "An editor", Login: "employees",
		SignInEnds: time.Unix(1796042434, 0), AssertionID: "j", AssertionExpires: time.Unix(1796042434, 0),
	}
	answer := `{"lease_duration":900,"data":{"token":"mcpt_secret","accessor":"a","client":"engineering","client_id":"c","resource":"https://mcp.example.com/sign-in/mcp","application":"dynamic:x","login":"employees","person":"ann","entity_id":"e","sign_in":"acc"}}`
	node := newPeopleNode(t, alone, 200, answer)
	creds, err := peopleAt(t, node.URL).Credentials(t.Context(), NewPersonToken("hvs.person"), "engineering", ask)
	require.NoError(t, err)
	require.Equal(t, &Creds{
		Token: "mcpt_secret", Accessor: "a", Client: "engineering", ClientID: "c", Resource: ask.Resource, Application: "dynamic:x", Login: "employees",
		Person: "ann", EntityID: "e", SignIn: "acc", Life: 15 * time.Minute,
	}, creds)
	require.NotContains(t, fmt.Sprintf("%v %+v %#v", creds, creds, creds), "mcpt_secret")
	require.Equal(t, http.MethodPut, node.seen[0].Method)
	require.Equal(t, "/v1/mcp/creds/engineering", node.seen[0].URL.Path)
	require.Empty(t, node.seen[0].URL.RawQuery)
	require.Equal(t, map[string]any{
		"resource": ask.Resource, "application": "dynamic:x", "application_name": "An editor", "login": "employees",
		"sign_in_ends": "2026-11-30T12:40:34Z", "assertion_id": "j", "assertion_expires": "2026-11-30T12:40:34Z",
	}, node.bodies[0])

	for _, change := range []func(*CredsRequest){
		func(r *CredsRequest) { r.Resource += "/x" }, func(r *CredsRequest) { r.Application += "x" }, func(r *CredsRequest) { r.Login += "x" },
	} {
		other := ask
		change(&other)
		_, err := peopleAt(t, newPeopleNode(t, alone, 200, answer).URL).Credentials(t.Context(), NewPersonToken("hvs.person"), "engineering", other)
		require.ErrorIs(t, err, errUnbound)
	}
	old := newPeopleNode(t, alone, 200, `{"lease_duration":2764800,"data":{"token":"mcpt_secret"}}`)
	_, err = peopleAt(t, old.URL).Credentials(t.Context(), NewPersonToken("hvs.person"), "engineering", ask)
	require.ErrorIs(t, err, errUnbound)
	require.Equal(t, "/v1/auth/token/revoke-self", old.seen[1].URL.Path, "a token for everything is not left behind")
}

func TestCapabilitiesOfManyPaths(t *testing.T) {
	node := newPeopleNode(t, alone, 200, `{"data":{"mcp/creds/a":["update"],"mcp/creds/b":["deny"]}}`)
	found, err := peopleAt(t, node.URL).Capabilities(t.Context(), NewPersonToken("hvs.person"), []string{"mcp/creds/a", "mcp/creds/b", "mcp/creds/c"})
	require.NoError(t, err)
	require.Equal(t, map[string][]string{"mcp/creds/a": {"update"}, "mcp/creds/b": {"deny"}, "mcp/creds/c": nil}, found)
}

// cubbyhole stores the writes of one token.
func cubbyhole(t *testing.T) (*People, map[string]string, *[]string) {
	t.Helper()
	held := map[string]string{}
	var mu sync.Mutex
	var requests []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		key := strings.TrimPrefix(r.URL.Path, "/v1/cubbyhole/mcp-sign-in")
		requests = append(requests, r.Method+" "+key)
		switch {
		case r.Method == http.MethodPut:
			var body map[string]string
			_ = json.NewDecoder(r.Body).Decode(&body)
			held[strings.TrimPrefix(key, "/")] = body["rotated_at"]
			w.WriteHeader(http.StatusNoContent)
		case r.Method == http.MethodDelete:
			delete(held, strings.TrimPrefix(key, "/"))
			w.WriteHeader(http.StatusNoContent)
		case key == "" && len(held) > 0:
			keys := make([]string, 0, len(held))
			for k := range held {
				keys = append(keys, k)
			}
			slices.Sort(keys) // as Vault does
			_ = json.NewEncoder(w).Encode(map[string]any{"data": map[string]any{"keys": keys}})
		case key != "" && held[strings.TrimPrefix(key, "/")] != "":
			_ = json.NewEncoder(w).Encode(map[string]any{"data": map[string]any{"rotated_at": held[strings.TrimPrefix(key, "/")]}})
		default:
			vaultError(w, http.StatusNotFound)
		}
	}))
	t.Cleanup(server.Close)
	return peopleAt(t, server.URL), held, &requests
}

func TestTheHighestGenerationIsThePresentOne(t *testing.T) {
	people, held, _ := cubbyhole(t)
	token := NewPersonToken("hvs.person")
	n, at, err := people.Generation(t.Context(), token)
	require.NoError(t, err)
	require.Zero(t, n)
	require.True(t, at.IsZero())

	began := time.Date(2026, 11, 30, 12, 0, 0, 123, time.UTC)
	for n := range uint64(12) {
		require.NoError(t, people.SetGeneration(t.Context(), token, n+1, began.Add(time.Duration(n)*time.Minute)))
		present, _, err := people.Generation(t.Context(), token)
		require.NoError(t, err)
		require.Equal(t, n+1, present, "by number, and not by letters")
	}
	require.Len(t, held, 2, "what no generation needs is removed")
	n, at, err = people.Generation(t.Context(), token)
	require.NoError(t, err)
	require.EqualValues(t, 12, n)
	require.Equal(t, began.Add(11*time.Minute), at)

	require.NoError(t, people.SetGeneration(t.Context(), token, 3, began), "a write that comes late")
	held["note"], held["-1"], held["99999999999999999999999"] = "x", "x", "x"
	n, _, err = people.Generation(t.Context(), token)
	require.NoError(t, err)
	require.EqualValues(t, 12, n)

	held["13"] = "not a time"
	n, at, err = people.Generation(t.Context(), token)
	require.NoError(t, err)
	require.EqualValues(t, 13, n)
	require.True(t, at.IsZero(), "so that it has no grace")
}

// TestAGenerationThatWasListedAndIsGoneSaysNothing: no sign-in ends on it.
func TestAGenerationThatWasListedAndIsGoneSaysNothing(t *testing.T) {
	people, held, _ := cubbyhole(t)
	held["2"] = "" // listed, and not found
	_, _, err := people.Generation(t.Context(), NewPersonToken("hvs.person"))
	require.ErrorIs(t, err, errGenerationGone)
	require.False(t, IsDenied(err) || IsRefused(err), "it is not judged")
}
