package backend

import (
	"context"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	double "vault-plugin-secrets-mcp/test/kms"
)

// TestNobodyIsSignedOutWhileTokensCannotBeSealed: a gateway ends a sign-in for which the engine
// refuses a token, and here nobody has refused it to the person.
func TestNobodyIsSignedOutWhileTokensCannotBeSealed(t *testing.T) {
	for name, fault := range map[string]*double.Fault{
		"KMS refuses the key":   new(double.Refuse("Decrypt")),
		"KMS does not answer":   new(double.Outage()),
		"KMS is not configured": nil,
	} {
		t.Run(name, func(t *testing.T) {
			e := newBareKMSEnv(t)
			if fault != nil {
				e.write("config/kms", e.settings())
				e.kms.Fail(*fault)
				e = e.restart()
			}
			e.withSignIn()
			e.patch("clients/c", data{"seal": "kms"})
			_, err := e.asks(context.Background(), ann(), logical.UpdateOperation, "c", signInData(nil))
			require.Error(t, err)
			coded, ok := err.(logical.HTTPCodedError) //nolint:errorlint // only the outermost type reaches Vault
			require.True(t, ok, err)
			require.GreaterOrEqual(t, coded.Code(), 500)
			require.Empty(t, e.rows())
		})
	}
}
