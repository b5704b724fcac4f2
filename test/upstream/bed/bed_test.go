package bed_test

import (
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/upstream/bed"
)

// child mints a child token for a client, as a gateway does.
func child(t *testing.T, h *harness.Harness, alias string) *api.Client {
	t.Helper()
	secret, err := h.Vault.Client().Auth().Token().CreateWithRoleWithContext(t.Context(), &api.TokenCreateRequest{
		EntityAlias: alias, Policies: []string{bed.SelfPolicy, bed.SecretsPolicy}, TTL: "5m",
	}, bed.TokenRole)
	require.NoError(t, err)
	h.Secret(secret.Auth.ClientToken)
	return h.Vault.ClientWithToken(secret.Auth.ClientToken)
}

// TestEveryEngineEndsWhatItsTokenHasLeased leases from each engine of every Vault under a
// child token, and ends that.
func TestEveryEngineEndsWhatItsTokenHasLeased(t *testing.T) {
	h := harness.New(t, harness.WithoutEngine())
	bed.SetUp(t, h, "5m")
	alice := child(t, h, "mcp:alice")
	certificate, err := alice.Logical().WriteWithContext(t.Context(), "pki/issue/mcp", harness.Map{"common_name": "mcp:alice"})
	require.NoError(t, err)
	password, err := alice.Logical().WriteWithContext(t.Context(), "ssh/creds/otp", harness.Map{"ip": "127.0.0.1"})
	require.NoError(t, err)
	h.Write("kv/data/mcp/mcp:alice/github", harness.Map{"data": harness.Map{"token": "a token of Alice's"}})
	_, err = alice.Logical().ReadWithContext(t.Context(), "kv/data/mcp/mcp:alice/github")
	require.NoError(t, err)

	_, err = alice.Logical().WriteWithContext(t.Context(), "pki/issue/mcp", harness.Map{"common_name": "mcp:bob"})
	require.Error(t, err, "a client gets a certificate for another")
	bob := child(t, h, "mcp:bob")
	_, err = bob.Logical().ReadWithContext(t.Context(), "kv/data/mcp/mcp:alice/github")
	require.Error(t, err, "a client reads the secret of another")

	serial := certificate.Data["serial_number"].(string)
	name, revoked, err := bed.Certificate(t.Context(), h, serial)
	require.NoError(t, err)
	require.Equal(t, "mcp:alice", name)
	require.False(t, revoked)
	require.Len(t, bed.AllLeases(h), 2)
	require.Len(t, bed.Children(t, h), 2)
	require.Equal(t, bed.Entity(t, h, "mcp:alice"), childOf(t, h, alice).Entity)

	require.NoError(t, alice.Auth().Token().RevokeSelfWithContext(t.Context(), ""))
	h.Within(bed.Promised, "nothing is left", func() error {
		_, revoked, err := bed.Certificate(t.Context(), h, serial)
		if err != nil || !revoked || len(bed.AllLeases(h)) > 0 {
			return errors.Join(err, errors.New("there is"))
		}
		return nil
	})
	_, err = h.TryWrite("ssh/verify", harness.Map{"otp": password.Data["key"]})
	require.Error(t, err, "the one-time password is good")
	require.Len(t, bed.Children(t, h), 1)
}

// childOf is a child token as Vault sees it.
func childOf(t *testing.T, h *harness.Harness, client *api.Client) bed.Child {
	t.Helper()
	self, err := client.Auth().Token().LookupSelfWithContext(t.Context())
	require.NoError(t, err)
	for _, c := range bed.Children(t, h) {
		if c.Accessor == self.Data["accessor"] {
			return c
		}
	}
	t.Fatal("it is not a child")
	return bed.Child{}
}

// TestPeopleInADirectoryEndWithTheirToken is the same with LDAP.
func TestPeopleInADirectoryEndWithTheirToken(t *testing.T) {
	bed.Required(t)
	h := harness.New(t, harness.WithoutEngine())
	bed.SetUp(t, h, "5m")
	directory := bed.StartLDAP(t, h)
	bed.SetUpLDAP(t, h, directory, 5*time.Minute, time.Hour)
	alice := child(t, h, "mcp:alice")
	leased, err := alice.Logical().ReadWithContext(t.Context(), "ldap/creds/"+bed.LDAPRole)
	require.NoError(t, err)
	dn, password := bed.Person(leased.Data["username"].(string)), leased.Data["password"].(string)
	h.Leased(password)
	require.NoError(t, directory.Login(dn, password))
	require.True(t, leased.Renewable)

	require.NoError(t, alice.Auth().Token().RevokeSelfWithContext(t.Context(), ""))
	h.Within(bed.Promised, "the directory knows nobody", func() error {
		if directory.Login(dn, password) == nil {
			return errors.New("it does")
		}
		return nil
	})
}
