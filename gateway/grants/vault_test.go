package grants

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"

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

// loggedIn returns the engine behind v, with a session that runs.
func loggedIn(t *testing.T, v *fakeVault, auth config.Auth) *vault {
	t.Helper()
	s, err := newSession(v.settings(t, auth), hclog.NewNullLogger())
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	waitCtx, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	require.NoError(t, s.await(waitCtx, nil))
	return &vault{session: s, mount: "mcp"}
}

func TestLookupSendsTheTokenInTheBodyAlone(t *testing.T) {
	v := newFakeVault(t)
	v.handler = func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.URL.Path != "/v1/mcp/lookup" || r.URL.RawQuery != "" || string(body) != `{"token":"mcpt_secret"}` || r.Header.Get("Authorization") != "" {
			vaultError(w, http.StatusBadRequest, "not like that")
			return
		}
		vaultData(w, `{"active":true,"epoch":"e","index":12345678901234567,"client":"c","client_id":"id","accessor":"a"}`)
	}
	answer, err := loggedIn(t, v, appRole(t)).lookup(t.Context(), presented{token: "mcpt_secret"})
	require.NoError(t, err)
	require.True(t, answer.Active)
	require.Equal(t, uint64(12345678901234567), answer.Index)
}

func TestRedirectToTheActiveNodeKeepsTheBody(t *testing.T) {
	active := newFakeVault(t)
	active.valid = "gateway-token-1"
	active.handler = func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if string(body) != `{"token":"t"}` {
			vaultError(w, http.StatusBadRequest, "no body")
			return
		}
		vaultData(w, `{"active":false}`)
	}
	standby := newFakeVault(t)
	standby.handler = func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, active.URL+r.URL.Path, http.StatusTemporaryRedirect)
	}
	answer, err := loggedIn(t, standby, appRole(t)).lookup(t.Context(), presented{token: "t"})
	require.NoError(t, err)
	require.False(t, answer.Active)
}

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
			if _, err := engine.lookup(ctx, presented{token: "t"}); err != nil {
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
		_, err := engine.lookup(t.Context(), presented{token: "t"})
		var refused *api.ResponseError
		require.ErrorAs(t, err, &refused)
	}
	logins, _ := v.counts()
	require.Equal(t, 1, logins)
}

func TestLoginIsTriedUntilVaultIsThere(t *testing.T) {
	v := newFakeVault(t)
	v.sealed = true
	s, err := newSession(v.settings(t, appRole(t)), hclog.NewNullLogger())
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	go s.run(ctx)
	require.ErrorIs(t, s.do(ctx, func(*api.Client) error { return nil }), errNotLoggedIn)
	v.set(func() { v.sealed = false })
	require.NoError(t, s.await(ctx, nil))
}

// TestARefusedLoginIsNotRepeatedUntilItsFilesChange: at the fifth time Vault would
// lock the role, for all gateways.
func TestARefusedLoginIsNotRepeatedUntilItsFilesChange(t *testing.T) {
	v := newFakeVault(t)
	v.refusing = true
	auth := appRole(t)
	s, err := newSession(v.settings(t, auth), hclog.NewNullLogger())
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	go s.run(ctx)
	tries := func() int { logins, _ := v.counts(); return logins }
	require.Eventually(t, func() bool { return tries() == refusedTries }, 5*time.Second, 10*time.Millisecond)
	require.Never(t, func() bool { return tries() > refusedTries }, 2*evidencePoll, 50*time.Millisecond)

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

func TestOwnRateLimitIsNoOutage(t *testing.T) {
	v := newFakeVault(t)
	v.handler = func(w http.ResponseWriter, _ *http.Request) { vaultData(w, `{"active":false}`) }
	asked := loggedIn(t, v, appRole(t))
	asked.limit = rate.NewLimiter(rate.Limit(0.01), 1)
	_, err := asked.lookup(t.Context(), presented{token: "t"})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err = asked.lookup(ctx, presented{token: "t"})
	require.ErrorIs(t, err, errOwnLimit)
	require.NotErrorIs(t, err, context.DeadlineExceeded, "which would mean that Vault hangs")
	_, err = asked.servers(ctx)
	require.ErrorIs(t, err, errOwnLimit)
	_, err = asked.changes(ctx, "", 0, time.Second)
	require.NotErrorIs(t, err, errOwnLimit, "the feed is not held up")
}

func TestTokenInTheEnvironmentIsNotUsed(t *testing.T) {
	t.Setenv("VAULT_TOKEN", "root")
	t.Setenv("VAULT_NAMESPACE", "elsewhere")
	v := newFakeVault(t)
	s, err := newSession(v.settings(t, appRole(t)), hclog.NewNullLogger())
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
	client, err := newClient(v.settings(t, config.Auth{}).VaultClient, 0, hclog.NewNullLogger())
	require.NoError(t, err)
	c, err := file.login(t.Context(), client)
	require.NoError(t, err)
	require.Equal(t, "from-agent", c.token)
	require.False(t, file.changed(c))
	require.NoError(t, os.WriteFile(file.path, []byte("another"), 0o600))
	require.True(t, file.changed(c))
	client.ClearToken()
	_, err = file.login(t.Context(), client)
	require.ErrorContains(t, err, file.path, "a token that Vault refuses is no login")
	require.NotContains(t, err.Error(), "another")
}

func TestChangesTellWhetherTheFeedIsMissingOrFailing(t *testing.T) {
	tests := map[string]struct {
		status      int
		text        string
		unsupported bool
	}{
		"no such path":                   {http.StatusNotFound, "unsupported path", true},
		"no such operation":              {http.StatusMethodNotAllowed, "unsupported operation", true},
		"a policy that does not allow":   {http.StatusForbidden, "permission denied", true},
		"an invalid token":               {http.StatusForbidden, "permission denied; invalid token", false},
		"a sealed Vault":                 {http.StatusServiceUnavailable, "Vault is sealed", false},
		"an election":                    {http.StatusInternalServerError, "local node not active but active cluster node not found", false},
		"a quota":                        {http.StatusTooManyRequests, "quota", false},
		"a plugin that died in the call": {http.StatusInternalServerError, "Unavailable: EOF", false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			v := newFakeVault(t)
			v.handler = func(w http.ResponseWriter, _ *http.Request) { vaultError(w, test.status, test.text) }
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			_, err := loggedIn(t, v, appRole(t)).changes(ctx, "e", 1, time.Second)
			require.Error(t, err)
			require.Equal(t, test.unsupported, errors.Is(err, errUnsupported))
		})
	}
}

func TestChangesAreAskedForSinceTheLastOnes(t *testing.T) {
	v := newFakeVault(t)
	v.handler = func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/mcp/changes" || r.URL.Query().Encode() != "epoch=e&index=7&wait=4500ms" {
			vaultError(w, http.StatusBadRequest, r.URL.String())
			return
		}
		vaultData(w, `{"epoch":"e","index":9,"reset":false,"changes":[{"index":8,"type":"token","operation":"revoke","client":"c","client_id":"id","accessor":"a","name":""}]}`)
	}
	answer, err := loggedIn(t, v, appRole(t)).changes(t.Context(), "e", 7, 4500*time.Millisecond)
	require.NoError(t, err)
	require.Equal(t, &Changes{Epoch: "e", Index: 9, Changes: []Change{{Index: 8, Type: "token", Operation: "revoke", Client: "c", ClientID: "id", Accessor: "a"}}}, answer)
}

func TestRegistryAndKeysAreReadFromTheWire(t *testing.T) {
	v := newFakeVault(t)
	v.handler = func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v1/mcp/gateway/servers":
			vaultData(w, `{"epoch":"e","index":3,"servers":{
				"files":{"id":"r1","transport":"stdio","command":"/bin/files","args":["-v"],"env":{"K":"V"},"shared":true,"description":"x"},
				"bad":{"id":"r2","transport":"carrier-pigeon"},
				"relative":{"id":"r3","transport":"stdio","command":"bin/files"},
				"nowhere":{"id":"r4","transport":"http","url":"/mcp"}}}`)
		case "/v1/mcp/gateway/keys":
			vaultData(w, `{"current_version":2,"mount_id":"m","keys":{"2":{"key":"`+strings.Repeat("A", 43)+`=","created_at":"x"}}}`)
		}
	}
	engine := loggedIn(t, v, appRole(t))
	b, err := newBroker(testOptions(), engine)
	require.NoError(t, err)
	_, err = b.FindServer("files")
	require.ErrorIs(t, err, ErrUnavailable, "nothing is known yet")
	require.NoError(t, b.fetchRegistry(t.Context()))
	require.Equal(t, &Server{Name: "files", ID: "r1", Transport: "stdio", Command: "/bin/files", Args: []string{"-v"}, Env: map[string]string{"K": "V"}, Shared: true}, b.Server("files"))
	require.Len(t, b.Servers(), 1, "what cannot be used is not there")
	require.NoError(t, b.fetchKeys(t.Context()))
	require.Equal(t, "m", b.SessionKeys().MountID)
}

func TestSessionKeysThatAreNotAllThereAreRefused(t *testing.T) {
	good := strings.Repeat("A", 43) + "="
	tests := map[string]string{
		"the current one is missing": `{"current_version":2,"mount_id":"m","keys":{"1":{"key":"` + good + `"}}}`,
		"one is too short":           `{"current_version":1,"mount_id":"m","keys":{"1":{"key":"AAAA"}}}`,
		"one is no base64":           `{"current_version":1,"mount_id":"m","keys":{"1":{"key":"***"}}}`,
		"the mount has no id":        `{"current_version":1,"keys":{"1":{"key":"` + good + `"}}}`,
	}
	for name, data := range tests {
		t.Run(name, func(t *testing.T) {
			var list sessionKeyList
			require.NoError(t, json.Unmarshal([]byte(data), &list))
			_, err := list.keys()
			require.Error(t, err)
		})
	}
}

func TestRegistryIsUsedNoLongerThanMaxStale(t *testing.T) {
	m := newModel()
	b := brokerFor(t, m)
	require.NoError(t, b.fetchRegistry(t.Context()))
	r := *b.registry.Load()
	r.sent = time.Now().Add(-31 * time.Second)
	b.registry.Store(&r)
	_, err := b.FindServer("files")
	require.ErrorIs(t, err, ErrUnavailable)
	v := *b.view.Load()
	v.epoch, v.sent = m.epoch, time.Now()
	b.view.Store(&v)
	s, err := b.FindServer("files")
	require.NoError(t, err, "the feed confirms it")
	require.NotNil(t, s)
	v.servers = 5
	b.view.Store(&v)
	_, err = b.FindServer("files")
	require.ErrorIs(t, err, ErrUnavailable, "a change of it that was not fetched yet")
}
