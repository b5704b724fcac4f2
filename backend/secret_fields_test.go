package backend

import (
	"context"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

func TestValuesOfSecretFieldsAreNeverRepeated(t *testing.T) {
	const secret = "very-secret-0123456789"
	tests := []struct {
		name, path string
		data       data
		field      string
	}{
		{"a custom token in a list", "clients/x", data{"access_token": []any{secret}}, "access_token"},
		{"a custom token in an object", "clients/x", data{"access_token": map[string]any{"a": secret}}, "access_token"},
		{"a token to look up in a list", "lookup", data{"token": []any{secret}}, "token"},
		{"a token to introspect in a list", "introspect", data{"token": []any{secret}}, "token"},
		{"a token to revoke in a list", "revoke", data{"token": []any{secret}}, "token"},
		{"a URL in a list", "servers/x", data{"transport": "http", "url": []any{secret}}, "url"},
		{"a header without a name", "servers/x", data{"transport": "http", "url": "http://h/", "headers": secret}, "headers"},
		{"an environment without names", "servers/x", data{"transport": "stdio", "command": "/bin/x", "env": []any{secret}}, "env"},
		{"a header whose value is a list", "servers/x", data{"transport": "http", "url": "http://h/", "headers": map[string]any{"A": []any{secret}}}, "headers"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			e := newEnv(t)
			_, _, err := e.b.HandleExistenceCheck(context.Background(), &logical.Request{
				Operation: logical.UpdateOperation, Path: test.path, Data: test.data, Storage: e.storage,
			})
			require.NoError(t, err)
			text := e.refused(logical.UpdateOperation, test.path, test.data)
			require.Contains(t, text, "field "+test.field)
			require.NotContains(t, text, secret)
		})
	}
}

// Vault's audit log keeps the query of a URL in clear, and reads, lists and deletes
// have nothing else.
func TestASecretInAQueryIsRefusedWithAWarningThatItHasLeaked(t *testing.T) {
	const secret = "very-secret-0123456789"
	e := newEnv(t)
	e.client("c", data{})
	e.write("servers/s", data{"transport": "http", "url": "http://127.0.0.1:1/"})
	for _, path := range []string{"lookup", "introspect", "renew", "revoke", "clients/c", "clients/", "rotate-client/c", "creds/c", "servers/s", "config/kms"} {
		for field := range secretFields {
			for _, operation := range []logical.Operation{logical.ReadOperation, logical.ListOperation, logical.DeleteOperation} {
				text := e.refused(operation, path, data{field: secret})
				require.Contains(t, text, "field "+field+": ", path)
				require.Contains(t, text, "treat it as leaked")
				require.NotContains(t, text, secret)
			}
		}
	}
	require.NotNil(t, e.read("clients/c"), "a refused delete deletes nothing")
}
