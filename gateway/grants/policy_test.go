package grants

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/policy"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

// denying is a policy that denies servers by URL.
func denying(url string) []policy.Source {
	return []policy.Source{{Name: "corp", Managed: true, Policy: policy.Document{
		Denied: []policy.Entry{{Kind: policy.ServerURL, Text: url}},
	}}}
}

// allowed returns the broker's decision for a token and a server.
func (b *Broker) allowed(t *testing.T, token, server string) error {
	t.Helper()
	g, err := b.Grant(t.Context(), token, home)
	require.NoError(t, err)
	return Allows(g, b.Server(server))
}

func TestPolicyIsComparedWithWhatIsRegistered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		m.addToken("t", "c").policy = denying("http://127.0.0.1:9001/*")
		b := settledBroker(t, m)
		require.NoError(t, b.allowed(t, "t", "github"))

		var refused *NotAllowed
		require.ErrorAs(t, b.allowed(t, "t", "files"), &refused)
		require.ErrorIs(t, refused, ErrNotAllowed)
		assert.Equal(t, policy.BlockedDeny, refused.Decision.Decision)
		assert.Equal(t, "corp", refused.Source)
		assert.Contains(t, refused.Error(), "is denied")
	})
}

func TestClientsOwnListIsToldApartFromAPolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		m.addToken("t", "c").servers = []string{"github"}
		b := settledBroker(t, m)
		var refused *NotAllowed
		require.ErrorAs(t, b.allowed(t, "t", "files"), &refused)
		assert.Equal(t, policy.NotInAllowedServers, refused.Decision.Decision)
		assert.Contains(t, refused.Reason, "allowed_servers")
	})
}

func TestGrantWhosePolicyWasNeverFetchedAdmitsNothing(t *testing.T) {
	g := grantOf(t, `{"allowed_servers":["*"],"policy_digest":"something"}`)
	require.ErrorIs(t, Allows(g, &Server{Name: "files"}), ErrNotAllowed)
}

func TestPolicyIsFetchedOnceForAllThatHaveIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		for _, token := range []string{"a", "b", "c", "d"} {
			m.addToken(token, "client-"+token).policy = denying("http://127.0.0.1:9001/*")
		}
		b := settledBroker(t, m)
		var all sync.WaitGroup
		for _, token := range []string{"a", "b", "c", "d"} {
			all.Go(func() { assert.ErrorIs(t, b.allowed(t, token, "files"), ErrNotAllowed) })
		}
		all.Wait()
		require.Equal(t, 1, m.fetched)
	})
}

func TestDecisionIsMadeOnceForARegistration(t *testing.T) {
	p := &effectivePolicy{policy: policy.Compile(denying("http://h/*"))}
	s := &Server{Name: "s", ID: "1", Transport: TransportHTTP, URL: "http://h/mcp"}
	first := p.decide(s)
	require.False(t, first.Allowed)
	require.Same(t, first, p.decide(s))

	moved := &Server{Name: "s", ID: "2", Transport: TransportHTTP, URL: "http://elsewhere/mcp"}
	require.True(t, p.decide(moved).Allowed, "a decision about the old registration was kept for the new one")
}

func TestPolicyThatChangedSinceTheLookupIsAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		m.addToken("t", "c").policy = denying("http://127.0.0.1:9001/*")
		m.forgetful = 1
		b := settledBroker(t, m)
		require.ErrorIs(t, b.allowed(t, "t", "files"), ErrNotAllowed)
		require.Equal(t, 2, m.asked(), "the token was not looked up again")
	})
}

func TestNobodyPassesWhilePolicyCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		m.addToken("t", "c").policy = denying("http://127.0.0.1:9001/*")
		m.forgetful = 1000
		b := settledBroker(t, m)
		_, err := b.Grant(t.Context(), "t", home)
		require.ErrorIs(t, err, ErrUnavailable)
	})
}

// otherVersion answers with a policy that is not the one asked for.
type otherVersion struct{ *model }

func (o otherVersion) Policy(context.Context, string) (*vaultclient.Policy, error) {
	return &vaultclient.Policy{Sources: denying("http://other/*")}, nil
}

func TestPolicyThatReadsDifferentlyHereIsNotUsed(t *testing.T) {
	m := newModel()
	p, err := newPolicies(otherVersion{m})
	require.NoError(t, err)
	_, err = p.get(policy.Compile(denying("http://127.0.0.1:9001/*")).Digest())
	require.ErrorContains(t, err, "not of the same version")
}

func BenchmarkAllowsByPolicy(b *testing.B) {
	g := &Grant{entitlements: &entitlements{rights: []policy.Rights{{Lists: policy.Lists{AllowedServers: []string{"*"}}}}, policyDigest: "x", policy: &effectivePolicy{policy: policy.Compile(denying("http://h/*"))}}}
	s := &Server{Name: "s", ID: "1", Transport: TransportHTTP, URL: "http://elsewhere/mcp"}
	b.ReportAllocs()
	for b.Loop() {
		if Allows(g, s) != nil {
			b.Fatal("refused")
		}
	}
}
