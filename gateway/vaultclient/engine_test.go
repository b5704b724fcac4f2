package vaultclient

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"
)

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
	answer, err := loggedIn(t, v, appRole(t)).Lookup(t.Context(), UnsealedToken{Token: "mcpt_secret"})
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
	answer, err := loggedIn(t, standby, appRole(t)).Lookup(t.Context(), UnsealedToken{Token: "t"})
	require.NoError(t, err)
	require.False(t, answer.Active)
}

func TestOwnRateLimitIsNoOutage(t *testing.T) {
	v := newFakeVault(t)
	v.handler = func(w http.ResponseWriter, _ *http.Request) { vaultData(w, `{"active":false}`) }
	asked := loggedIn(t, v, appRole(t))
	asked.limit = rate.NewLimiter(rate.Limit(0.01), 1)
	_, err := asked.Lookup(t.Context(), UnsealedToken{Token: "t"})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err = asked.Lookup(ctx, UnsealedToken{Token: "t"})
	require.ErrorIs(t, err, errOwnLimit)
	require.NotErrorIs(t, err, context.DeadlineExceeded, "which would mean that Vault hangs")
	_, err = asked.Servers(ctx)
	require.ErrorIs(t, err, errOwnLimit)
	_, err = asked.Changes(ctx, "", 0, time.Second)
	require.NotErrorIs(t, err, errOwnLimit, "the feed is not held up")
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
			_, err := loggedIn(t, v, appRole(t)).Changes(ctx, "e", 1, time.Second)
			require.Error(t, err)
			require.Equal(t, test.unsupported, errors.Is(err, ErrNoFeed))
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
	answer, err := loggedIn(t, v, appRole(t)).Changes(t.Context(), "e", 7, 4500*time.Millisecond)
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
	servers, err := engine.Servers(t.Context())
	require.NoError(t, err)
	require.Equal(t, "e", servers.Epoch)
	require.EqualValues(t, 3, servers.Index)
	require.Len(t, servers.Servers, 4)
	require.Equal(t, ServerEntry{ID: "r1", Transport: "stdio", Command: "/bin/files", Args: []string{"-v"}, Env: map[string]string{"K": "V"}, Shared: true}, servers.Servers["files"])
	keys, err := engine.SessionKeys(t.Context())
	require.NoError(t, err)
	require.Equal(t, &SessionKeyList{Current: 2, MountID: "m", Keys: map[int]SessionKey{2: {Key: strings.Repeat("A", 43) + "="}}}, keys)
}

func TestWhatSignInNeedsIsReadFromTheWire(t *testing.T) {
	v := newFakeVault(t)
	v.handler = func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v1/mcp/gateway/sign-in":
			vaultData(w, `{"clients":{"engineering":{"id":"c1","description":"Engineers","servers":["files","github"],"all_servers":false}},"logins":["employees"]}`)
		case "/v1/mcp/gateway/keys":
			vaultData(w, `{"current_version":1,"mount_id":"m","keys":{},"registration_key":"cmVn"}`)
		case "/v1/mcp/lookup":
			vaultData(w, `{"active":true,"resource":"https://mcp.example.com/sign-in/mcp","application":"a","person":"ann","login":"employees","entity_id":"e","sign_in":"s"}`)
		}
	}
	engine := loggedIn(t, v, appRole(t))
	list, err := engine.SignIn(t.Context())
	require.NoError(t, err)
	require.Equal(t, &SignInList{
		Clients: map[string]SignInClient{"engineering": {ID: "c1", Description: "Engineers", Servers: []string{"files", "github"}}},
		Logins:  []string{"employees"},
	}, list)
	keys, err := engine.SessionKeys(t.Context())
	require.NoError(t, err)
	require.Equal(t, "cmVn", keys.RegistrationKey)
	found, err := engine.Lookup(t.Context(), UnsealedToken{Token: "t"})
	require.NoError(t, err)
	require.Equal(t, &Lookup{
		Active: true, Resource: "https://mcp.example.com/sign-in/mcp", Application: "a", Person: "ann", Login: "employees", EntityID: "e", SignIn: "s",
	}, found)
}
