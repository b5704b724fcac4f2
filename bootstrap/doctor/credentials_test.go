package doctor

import (
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/credential"
)

func TestALeaseThatVaultDoesNotRevokeIsTold(t *testing.T) {
	held := &trial{
		examination: &examination{vault: vaultOf(t, map[string]object{"/v1/sys/leases/lookup": {"id": "database/creds/orders/1"}})},
		leases:      []string{"database/creds/orders/1"},
	}
	left, err := held.leasesLeft(t.Context(), 250*time.Millisecond)
	require.NoError(t, err)
	require.Equal(t, "database/creds/orders/1", left)
}

func TestTheDataOfACredentialIsFoundWhereverItsServerStands(t *testing.T) {
	data := object{"common_name": "c"}
	entry := func(name string) object {
		return object{name: object{"credentials": object{"cert": object{"path": "pki/issue/c", "data": data}}}}
	}
	tried := &trial{examination: &examination{Options: Options{Mount: "mcp"}, vault: vaultOf(t, map[string]object{
		"gateway/servers": {"credential_servers": entry("plain"), "pinned_servers": entry("pinned")},
	})}}
	shown := object{"path": "pki/issue/c", "method": "write", "data": []any{"common_name"}}
	for _, server := range []string{"plain", "pinned"} {
		spec, why := tried.spec(t.Context(), server, "cert", shown)
		require.Empty(t, why, server)
		require.Equal(t, map[string]string{"common_name": "c"}, spec.Data, server)
	}
	_, why := tried.spec(t.Context(), "other", "cert", shown)
	require.Contains(t, why, "only a token with read on mcp/gateway/servers")
}

func TestAGrantedSecretIsDescribedWithoutItsValues(t *testing.T) {
	for name, test := range map[string]struct {
		secret api.Secret
		spec   credential.Spec
		want   string
	}{
		"a lease": {
			api.Secret{LeaseID: "l", LeaseDuration: 3600, Renewable: true, Data: object{"username": "v-1", "password": "s3cret"}},
			credential.Spec{},
			"a lease of 1h0m0s, renewable; its fields: password, username",
		},
		"a lease that ends": {
			api.Secret{LeaseID: "l", LeaseDuration: 60, Data: object{"key": "s3cret"}},
			credential.Spec{Refresh: 60},
			"a lease of 1m0s, not renewable; its fields: key",
		},
		"a secret of KV version 1": {
			api.Secret{LeaseDuration: 2764800, Data: object{"token": "s3cret"}},
			credential.Spec{},
			"no lease, read again every 5m0s; its fields: token",
		},
		"a secret of KV version 2": {
			api.Secret{Data: object{"data": object{"token": "s3cret"}, "metadata": object{"version": 1}}},
			credential.Spec{Refresh: 60},
			"no lease, read again every 1m0s; its fields: data.token",
		},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, test.want, granted(&test.secret, test.spec))
			require.False(t, isEmpty(&test.secret))
		})
	}
	for name, secret := range map[string]*api.Secret{
		"no answer":         nil,
		"an empty answer":   {},
		"a deleted version": {Data: object{"data": nil, "metadata": object{"deletion_time": "2026-11-30T00:00:00Z"}}},
	} {
		require.True(t, isEmpty(secret), name)
	}
}

func TestTheRuleToAddIsForAllClientsWhereThePathIs(t *testing.T) {
	tried := &trial{accessor: "auth_token_1"}
	const of = "{{identity.entity.aliases.auth_token_1.name}}"
	for registered, want := range map[string]string{
		"kv/data/mcp/{{client.alias}}/github":                    "kv/data/mcp/" + of + "/github",
		"kv/data/{{ client.alias }}":                             "kv/data/" + of,
		"database/creds/orders-ro":                               "database/creds/orders-ro",
		"kv/data/{{client.metadata.team}}/{{client.alias}}/here": "as resolved",
	} {
		require.Equal(t, want, tried.templated(registered, map[bool]string{true: "as resolved", false: registered}[want == "as resolved"]))
	}
}
