package vaultclient

import (
	"context"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/config"
)

func TestInvalidTokenOfTheGatewayIsReplacedByOneLoginForAll(t *testing.T) {
	v := newFakeVault(t)
	v.handler = func(w http.ResponseWriter, _ *http.Request) { vaultData(w, `{"active":false}`) }
	engine := loggedIn(t, v, appRole(t))
	v.set(func() { v.valid = "revoked meanwhile" })
	var failed atomic.Int64
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			if _, err := engine.Lookup(ctx, UnsealedToken{Token: "t"}); err != nil {
				failed.Add(1)
			}
		})
	}
	group.Wait()
	require.Zero(t, failed.Load())
	logins, _ := v.counts()
	require.Equal(t, 2, logins)
}

func TestDeniedRequestIsNoReasonToLogInAgain(t *testing.T) {
	v := newFakeVault(t)
	v.handler = func(w http.ResponseWriter, _ *http.Request) {
		vaultError(w, http.StatusForbidden, "1 error occurred:\n\t* permission denied\n\n")
	}
	engine := loggedIn(t, v, appRole(t))
	for range 5 {
		_, err := engine.Lookup(t.Context(), UnsealedToken{Token: "t"})
		var refused *api.ResponseError
		require.ErrorAs(t, err, &refused)
	}
	logins, _ := v.counts()
	require.Equal(t, 1, logins)
}

func TestLoginIsTriedUntilVaultIsThere(t *testing.T) {
	v := newFakeVault(t)
	v.sealed = true
	s, err := NewLogin(v.settings(t, appRole(t)), hclog.NewNullLogger())
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	go s.Run(ctx)
	require.ErrorIs(t, s.do(ctx, func(*api.Client) error { return nil }), ErrNotLoggedIn)
	v.set(func() { v.sealed = false })
	require.NoError(t, s.await(ctx, nil))
}

// TestARefusedLoginIsNotRepeatedUntilItsFilesChange: at the fifth time Vault would
// lock the role, for all gateways.
func TestARefusedLoginIsNotRepeatedUntilItsFilesChange(t *testing.T) {
	v := newFakeVault(t)
	v.refusing = true
	auth := appRole(t)
	s, err := NewLogin(v.settings(t, auth), hclog.NewNullLogger())
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	go s.Run(ctx)
	tries := func() int { logins, _ := v.counts(); return logins }
	require.Eventually(t, func() bool { return tries() == refusedTries }, 5*time.Second, 10*time.Millisecond)
	require.Never(t, func() bool { return tries() > refusedTries }, 2*credentialPoll, 50*time.Millisecond)

	v.set(func() { v.refusing = false })
	require.NoError(t, os.WriteFile(auth.SecretIDFile, []byte("another"), 0o600))
	require.NoError(t, s.await(ctx, nil))
	require.Equal(t, refusedTries+1, tries())
}

func TestTokenIsRenewedAndReplacedNearTheEndOfItsLife(t *testing.T) {
	v := newFakeVault(t)
	v.ttl, v.renewed = 1, 1
	_ = loggedIn(t, v, appRole(t))
	require.Eventually(t, func() bool { _, renewals := v.counts(); return renewals >= 2 }, 10*time.Second, 10*time.Millisecond)
	logins, _ := v.counts()
	require.Equal(t, 1, logins, "what can be renewed is not replaced")
	v.set(func() { v.renewed = 0 })
	require.Eventually(t, func() bool { logins, _ := v.counts(); return logins >= 2 }, 10*time.Second, 10*time.Millisecond)
}

// TestWrappingInTheEnvironmentDoesNotTouchTheLogin: a wrapped answer has no token.
func TestWrappingInTheEnvironmentDoesNotTouchTheLogin(t *testing.T) {
	t.Setenv("VAULT_WRAP_TTL", "60s")
	v := newFakeVault(t)
	var wrapped atomic.Bool
	serve := v.Config.Handler
	v.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Vault-Wrap-Ttl") != "" {
			wrapped.Store(true)
		}
		serve.ServeHTTP(w, r)
	})
	_ = loggedIn(t, v, appRole(t))
	require.False(t, wrapped.Load())
}

func TestTokenInTheEnvironmentIsNotUsed(t *testing.T) {
	t.Setenv("VAULT_TOKEN", "root")
	t.Setenv("VAULT_NAMESPACE", "elsewhere")
	v := newFakeVault(t)
	s, err := NewLogin(v.settings(t, appRole(t)), hclog.NewNullLogger())
	require.NoError(t, err)
	require.Empty(t, s.client.Token())
	require.Empty(t, s.anonymous.Token())
	require.Empty(t, s.client.Namespace())
}

func TestEachMethodLogsInWithWhatItsFilesHold(t *testing.T) {
	tests := map[string]struct {
		auth config.Auth
		body string
	}{
		"AppRole with a role id in a file": {
			config.Auth{Method: config.AuthAppRole, Mount: "approle", RoleIDFile: secretFile(t, "r\n"), SecretIDFile: secretFile(t, "s\n")},
			`{"role_id":"r","secret_id":"s"}`,
		},
		"AppRole with a wrapped secret id": {
			config.Auth{Method: config.AuthAppRole, Mount: "approle", RoleID: "r", SecretIDFile: secretFile(t, "wrapping-token"), WrappedSecretID: true},
			`{"role_id":"r","secret_id":"unwrapped"}`,
		},
		"Kubernetes": {
			config.Auth{Method: config.AuthKubernetes, Mount: "kubernetes", Role: "gw", JWTFile: secretFile(t, "jwt")},
			`{"jwt":"jwt","role":"gw"}`,
		},
		"JWT": {
			config.Auth{Method: config.AuthJWT, Mount: "jwt", Role: "gw", JWTFile: secretFile(t, "jwt\n")},
			`{"jwt":"jwt","role":"gw"}`,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			v := newFakeVault(t)
			_ = loggedIn(t, v, test.auth)
			v.mu.Lock()
			defer v.mu.Unlock()
			require.JSONEq(t, test.body, v.last)
		})
	}
}

func TestTokenFileIsReadAgainWhenItChanges(t *testing.T) {
	v := newFakeVault(t)
	v.valid = "from-agent"
	file := &tokenFile{path: secretFile(t, "from-agent\n")}
	client, err := newAPIClient(v.settings(t, config.Auth{}).VaultClient, 0, hclog.NewNullLogger())
	require.NoError(t, err)
	c, err := file.login(t.Context(), client)
	require.NoError(t, err)
	require.Equal(t, "from-agent", c.token)
	require.False(t, file.changed(c))
	require.NoError(t, os.WriteFile(file.path, []byte("another"), 0o600))
	require.True(t, file.changed(c))
	client.ClearToken()
	_, err = file.login(t.Context(), client)
	require.ErrorContains(t, err, file.path, "a token that Vault refuses is not a login")
	require.NotContains(t, err.Error(), "another")
}
