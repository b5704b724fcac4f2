package vaultclient

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/config"
)

// fakeVault speaks as much of Vault's HTTP API as the gateway uses.
type fakeVault struct {
	*httptest.Server

	mu       sync.Mutex
	valid    string // the one token that is accepted
	logins   int
	renewals int
	ttl      int    // seconds, of a login
	renewed  int    // seconds, of a renewal
	sealed   bool   // everything is 503
	refusing bool   // logins are 400
	last     string // body of the last login
	handler  func(w http.ResponseWriter, r *http.Request)
}

func newFakeVault(t *testing.T) *fakeVault {
	t.Helper()
	v := &fakeVault{ttl: 3600, renewed: 3600}
	v.Server = httptest.NewServer(http.HandlerFunc(v.serve))
	t.Cleanup(v.Close)
	return v
}

func vaultError(w http.ResponseWriter, status int, texts ...string) {
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"errors": texts})
}

func vaultData(w http.ResponseWriter, data string) { fmt.Fprintf(w, `{"data":%s}`, data) }

func (v *fakeVault) serve(w http.ResponseWriter, r *http.Request) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.sealed {
		vaultError(w, http.StatusServiceUnavailable, "Vault is sealed")
		return
	}
	if strings.HasPrefix(r.URL.Path, "/v1/auth/") && strings.HasSuffix(r.URL.Path, "/login") {
		body, _ := io.ReadAll(r.Body)
		v.last = string(body)
		v.logins++
		if v.refusing {
			vaultError(w, http.StatusBadRequest, "invalid role or secret ID")
			return
		}
		v.valid = fmt.Sprint("gateway-token-", v.logins)
		fmt.Fprintf(w, `{"auth":{"client_token":%q,"lease_duration":%d,"renewable":true}}`, v.valid, v.ttl)
		return
	}
	if r.URL.Path == "/v1/sys/wrapping/unwrap" {
		vaultData(w, `{"secret_id":"unwrapped"}`)
		return
	}
	if r.Header.Get("X-Vault-Token") != v.valid {
		vaultError(w, http.StatusForbidden, "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n")
		return
	}
	switch {
	case r.URL.Path == "/v1/auth/token/renew-self":
		v.renewals++
		fmt.Fprintf(w, `{"auth":{"client_token":%q,"lease_duration":%d,"renewable":true}}`, v.valid, v.renewed)
	case r.URL.Path == "/v1/auth/token/lookup-self":
		vaultData(w, `{"ttl":0}`)
	case v.handler != nil:
		v.handler(w, r)
	default:
		vaultError(w, http.StatusNotFound, "no handler for route")
	}
}

func (v *fakeVault) set(f func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	f()
}

func (v *fakeVault) counts() (logins, renewals int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.logins, v.renewals
}

func (v *fakeVault) settings(t *testing.T, auth config.Auth) config.Vault {
	t.Helper()
	address, err := url.Parse(v.URL)
	require.NoError(t, err)
	return config.Vault{VaultClient: config.VaultClient{Address: address, Timeout: time.Minute}, Mount: "mcp", Auth: auth}
}

func secretFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

func appRole(t *testing.T) config.Auth {
	t.Helper()
	return config.Auth{Method: config.AuthAppRole, Mount: "approle", RoleID: "the-role", SecretIDFile: secretFile(t, "the-secret\n")}
}

// loggedIn returns the engine behind v, with a login that runs.
func loggedIn(t *testing.T, v *fakeVault, auth config.Auth) *Engine {
	t.Helper()
	s, err := NewLogin(v.settings(t, auth), hclog.NewNullLogger())
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	waitCtx, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	require.NoError(t, s.await(waitCtx, nil))
	return &Engine{login: s, mount: "mcp"}
}
