package vaultclient

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/config"
)

// node answers requests of child tokens, one script after the other.
type node struct {
	*httptest.Server

	mu      sync.Mutex
	answers []int // statuses; behind the last one, that again
	seen    []string
}

// newNode starts a node; leader "" makes it the only one.
func newNode(t *testing.T, leader string, answers ...int) *node {
	t.Helper()
	n := &node{answers: answers}
	n.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.mu.Lock()
		defer n.mu.Unlock()
		if r.URL.Path == "/v1/sys/leader" {
			_, _ = w.Write([]byte(`{"ha_enabled":` + map[bool]string{true: "true", false: "false"}[leader != ""] + `,"leader_address":"` + leader + `"}`))
			return
		}
		n.seen = append(n.seen, r.Method+" "+r.URL.Path+" "+r.Header.Get("X-Vault-Token"))
		status := n.answers[0]
		if len(n.answers) > 1 {
			n.answers = n.answers[1:]
		}
		if status != http.StatusOK {
			vaultError(w, status, "permission denied")
			return
		}
		_, _ = w.Write([]byte(`{"lease_id":"l/1","lease_duration":60,"renewable":true,"data":{"password":"p"}}`))
	}))
	t.Cleanup(n.Close)
	return n
}

func (n *node) requests() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.seen
}

func childrenAt(t *testing.T, address string) *Children {
	t.Helper()
	v := &fakeVault{Server: &httptest.Server{URL: address}}
	settings := v.settings(t, config.Auth{Method: config.AuthTokenFile, TokenFile: "/nowhere"})
	login, err := NewLogin(settings, hclog.NewNullLogger())
	require.NoError(t, err)
	children, err := NewChildren(login, settings, hclog.NewNullLogger())
	require.NoError(t, err)
	return children
}

func fresh() *Child {
	c := NewChild("child")
	c.Sent = time.Now()
	return c
}

const readOfChild = "GET /v1/database/creds/ro child"

func TestAReadOfAChildIsRepeatedOnlyWhereVaultAsksForThat(t *testing.T) {
	old := NewChild("child")
	old.Sent = time.Now().Add(-time.Minute)
	for name, c := range map[string]struct {
		child   *Child
		leader  bool
		answers []int // of the node
		active  []int // of the active one
		fails   bool
		sent    int // to the node
		led     int // to the active one
	}{
		"it succeeds":                                    {fresh(), false, []int{200}, nil, false, 1, 0},
		"a standby lags behind":                          {fresh(), false, []int{412, 412, 200}, nil, false, 3, 0},
		"Vault limits the rate":                          {fresh(), false, []int{429, 200}, nil, false, 2, 0},
		"Vault limits the rate for good":                 {fresh(), false, []int{429}, nil, true, laterTries, 0},
		"a standby does not know the token yet":          {fresh(), true, []int{412, 403}, []int{200}, false, 2, 1},
		"the active node denies it, too":                 {fresh(), true, []int{403}, []int{403}, true, 1, 1},
		"the only node denies it":                        {fresh(), false, []int{403}, nil, true, 1, 0},
		"a node denies it to a token that is known":      {old, true, []int{403}, []int{200}, true, 1, 0},
		"the engine fails: it may have made the account": {fresh(), false, []int{500}, nil, true, 1, 0},
		"Vault is sealed":                                {fresh(), false, []int{503}, nil, true, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			active := newNode(t, "", append(c.active, 500)...)
			leader := ""
			if c.leader {
				leader = active.URL
			}
			n := newNode(t, leader, c.answers...)
			secret, err := childrenAt(t, n.URL).Read(t.Context(), c.child, "database/creds/ro")
			require.Equal(t, c.fails, err != nil, "%v", err)
			require.Len(t, n.requests(), c.sent)
			require.Len(t, active.requests(), c.led)
			for _, request := range append(n.requests(), active.requests()...) {
				require.Equal(t, readOfChild, request)
			}
			if !c.fails {
				require.Equal(t, "l/1", secret.LeaseID)
				require.Equal(t, time.Minute, secret.Duration)
				require.True(t, secret.Renewable)
			}
		})
	}
}

func TestAChildThatVaultDoesNotKnowHasEnded(t *testing.T) {
	v := newFakeVault(t) // its answer to every token but the gateway's
	require.NoError(t, childrenAt(t, v.URL).Revoke(t.Context(), fresh()))
	n := newNode(t, "", http.StatusForbidden) // a policy that does not grant revoke-self
	require.Error(t, childrenAt(t, n.URL).Revoke(t.Context(), fresh()))
}

func TestChildrenBelongToTheGatewaysPresentToken(t *testing.T) {
	v := newFakeVault(t)
	v.handler = func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(`{"auth":{"client_token":"child-of-` + r.Header.Get("X-Vault-Token") + `","accessor":"a","entity_id":"e","policies":["p"],"lease_duration":600,"renewable":true}}`))
	}
	settings := v.settings(t, appRole(t))
	login, err := NewLogin(settings, hclog.NewNullLogger())
	require.NoError(t, err)
	children, err := NewChildren(login, settings, hclog.NewNullLogger())
	require.NoError(t, err)
	_, err = children.Create(t.Context(), ChildRequest{Role: "r", Alias: "mcp:a", TTL: time.Minute})
	require.ErrorIs(t, err, ErrNotLoggedIn)

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	go login.Run(ctx)
	require.NoError(t, login.Await(ctx))
	first, err := children.Create(ctx, ChildRequest{Role: "r", Alias: "mcp:a", TTL: time.Minute})
	require.NoError(t, err)
	require.Equal(t, "child-of-gateway-token-1", first.Token())
	require.False(t, first.Parent.Refused())
	require.Equal(t, 10*time.Minute, first.TTL)
	require.WithinDuration(t, time.Now().Add(time.Hour), first.Parent.Ends(), time.Minute)

	_, changed := children.Parent()
	v.set(func() { v.valid = "revoked meanwhile" })
	_, err = children.Create(ctx, ChildRequest{Role: "r", Alias: "mcp:a", TTL: time.Minute})
	require.True(t, IsInvalidToken(err))
	select {
	case <-changed:
	case <-ctx.Done():
		t.Fatal("the gateway has not logged in again")
	}
	require.True(t, first.Parent.Refused(), "its children have ended with it")
	second, err := children.Create(ctx, ChildRequest{Role: "r", Alias: "mcp:a", TTL: time.Minute})
	require.NoError(t, err)
	require.NotEqual(t, first.Parent, second.Parent)
}
