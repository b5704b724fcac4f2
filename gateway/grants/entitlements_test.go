package grants

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/policy"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

func TestTokensShareTheirTermsWhereTheseAreTheSameInEveryPoint(t *testing.T) {
	tests := map[string]struct {
		change func(*vaultclient.Lookup)
		shares bool
	}{
		"another client":                       {func(l *vaultclient.Lookup) { l.Client, l.ClientID, l.Accessor = "d", "id-d", "accessor-d" }, true},
		"a later answer":                       {func(l *vaultclient.Lookup) { l.Index++ }, true},
		"another expiry":                       {func(l *vaultclient.Lookup) { l.ExpiresAt = "" }, true},
		"another history":                      {func(l *vaultclient.Lookup) { l.Epoch = "e2" }, false},
		"another data key":                     {func(l *vaultclient.Lookup) { l.DataKey = "k2" }, false},
		"another policy":                       {func(l *vaultclient.Lookup) { l.PolicyDigest = "" }, false},
		"one server less":                      {func(l *vaultclient.Lookup) { l.AllowedServers = l.AllowedServers[:1] }, false},
		"all servers":                          {func(l *vaultclient.Lookup) { l.AllowedServers = []string{"*"} }, false},
		"one server with the name of two":      {func(l *vaultclient.Lookup) { l.AllowedServers = []string{`files","github`} }, false},
		"allowed tools where none are set":     {func(l *vaultclient.Lookup) { l.AllowedTools = []string{} }, false},
		"other denied tools":                   {func(l *vaultclient.Lookup) { l.DeniedTools = nil }, false},
		"a denied tool that is an allowed one": {func(l *vaultclient.Lookup) { l.AllowedTools, l.DeniedTools = l.DeniedTools, nil }, false},
		"other source ranges":                  {func(l *vaultclient.Lookup) { l.TokenBoundCIDRs = nil }, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			m := newModel()
			m.addToken(benchToken(1), "c").policy = denying("http://h/*")
			b := brokerFor(t, m)
			answer := func() *vaultclient.Lookup {
				l, err := m.Lookup(t.Context(), vaultclient.UnsealedToken{Token: benchToken(1)})
				require.NoError(t, err)
				l.Epoch, l.DataKey, l.DeniedTools = "e1", "k1", []string{"files/delete"}
				l.AllowedServers, l.TokenBoundCIDRs = []string{"files", "github"}, []string{"10.0.0.0/8"}
				l.ExpiresAt = time.Now().Add(time.Hour).Format(time.RFC3339Nano)
				return l
			}
			first, err := newGrant(answer(), time.Now(), b.entitlements.get)
			require.NoError(t, err)
			require.NotNil(t, first.policy)
			l := answer()
			test.change(l)
			second, err := newGrant(l, time.Now(), b.entitlements.get)
			require.NoError(t, err)
			assert.Equal(t, test.shares, first.entitlements == second.entitlements)
			alone, err := NewGrant(l, time.Now())
			require.NoError(t, err)
			alone.policy = second.policy
			assert.Equal(t, alone.entitlements, second.entitlements, "shared or not, they say what the answer says")
		})
	}
}

// Entitlements without the policy that they name would refuse everything, for every token
// that shares them.
func TestTermsWhosePolicyCouldNotBeFetchedAreNotKept(t *testing.T) {
	m := newModel()
	b := brokerFor(t, m)
	digest := "unknown"
	l := &vaultclient.Lookup{Active: true, Client: "c", ClientID: "id-c", Accessor: "a", PolicyDigest: digest}
	_, err := newGrant(l, time.Now(), b.entitlements.get)
	require.ErrorIs(t, err, errOutdated)
	assert.Zero(t, b.entitlements.held.Len())
}

// TestEveryFieldThatEntitlementsAreMadeOfIsInTheirKey: one that is forgotten there would
// give a token the access of another.
func TestEveryFieldThatEntitlementsAreMadeOfIsInTheirKey(t *testing.T) {
	fields := reflect.TypeFor[vaultclient.Lookup]()
	ofSignIn := []string{"Resource", "Application", "Person", "Login", "EntityID", "SignIn"} // all, or none
	different := 0
	for i := range fields.NumField() {
		t.Run(fields.Field(i).Name, func(t *testing.T) {
			var with, without vaultclient.Lookup
			if slices.Contains(ofSignIn, fields.Field(i).Name) {
				for _, name := range ofSignIn {
					reflect.ValueOf(&with).Elem().FieldByName(name).SetString("b")
				}
				without = with
			}
			switch value := reflect.ValueOf(&with).Elem().Field(i).Addr().Interface().(type) {
			case *bool:
				*value = true
			case *uint64:
				*value = 1
			case *int:
				*value = 1
			case *float64:
				*value = 0.5
			case *string:
				*value = "a"
			case *[]policy.Rights:
				*value = []policy.Rights{{Role: "a"}}
			case *[]string:
				*value = []string{"10.0.0.0/8"}
			case *time.Time:
				*value = time.Unix(1, 0)
			case *map[string]string: // means something only beside upstream policies
				*value, with.UpstreamPolicies, without.UpstreamPolicies = map[string]string{"team": "a"}, []string{}, []string{}
			default:
				t.Fatalf("this test knows no other value for a %s", fields.Field(i).Type)
			}
			one, err := entitlementsOf(&with)
			require.NoError(t, err)
			other, err := entitlementsOf(&without)
			require.NoError(t, err)
			if reflect.DeepEqual(one, other) {
				return
			}
			different++
			oneKey, err := entitlementsKeyOf(&with)
			require.NoError(t, err)
			otherKey, err := entitlementsKeyOf(&without)
			require.NoError(t, err)
			require.NotEqual(t, oneKey, otherKey)
		})
	}
	require.Equal(t, 18, different, "fields that entitlements are made of")
}

// TestEveryPartOfASourceIsKeptAndInTheKey: a list that is forgotten would give a client the
// rules of another one, or none.
func TestEveryPartOfASourceIsKeptAndInTheKey(t *testing.T) {
	unset := entitlementsKeyOfSource(t, policy.Rights{})
	var source policy.Rights
	for _, part := range []reflect.Value{reflect.ValueOf(&source).Elem(), reflect.ValueOf(&source.Lists).Elem()} {
		for i := range part.NumField() {
			name, field := part.Type().Field(i).Name, part.Field(i)
			var values []any
			switch field.Interface().(type) {
			case string:
				values = []any{"a"}
			case bool:
				values = []any{true}
			case []string:
				values = []any{[]string{"a"}}
				if strings.HasPrefix(name, "Allowed") && name != "AllowedServers" {
					values = append(values, []string{}) // allows none, while unset allows all
				}
			case policy.Lists:
			default:
				t.Fatalf("this test knows no other value for a %s", field.Type())
			}
			for _, value := range values {
				source = policy.Rights{}
				field.Set(reflect.ValueOf(value))
				require.NotEqual(t, unset, entitlementsKeyOfSource(t, source), "%s %q", name, value)
				require.Equal(t, []policy.Rights{source}, internRights([]policy.Rights{source}), "%s %q", name, value)
			}
		}
	}
}

func entitlementsKeyOfSource(t *testing.T, source policy.Rights) entitlementsKey {
	t.Helper()
	key, err := entitlementsKeyOf(&vaultclient.Lookup{Rights: []policy.Rights{source}})
	require.NoError(t, err)
	return key
}
