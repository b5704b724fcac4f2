package credentials

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/credential"
	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

// stage is a Store between a model of Vault and a test's requests. It runs in a bubble, in
// which time passes only while everything waits.
type stage struct {
	*Store
	t      *testing.T
	vault  *model
	config *config.Config
	live   atomic.Bool // principals have live tokens
	skew   atomic.Int64
}

func onStage(t *testing.T, settings *config.UpstreamCredentials, play func(s *stage)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		if settings == nil {
			settings = usual()
		}
		s := &stage{t: t, vault: newModel(), config: &config.Config{UpstreamCredentials: settings}}
		s.live.Store(true)
		now := func() time.Time { return skewed(time.Duration(s.skew.Load())) }
		s.vault.now = now
		store, err := New(Options{
			Config: s.config, Vault: s.vault, Log: hclog.NewNullLogger(),
			Live: func(grants.Principal) bool { return s.live.Load() },
			Now:  now,
		})
		require.NoError(t, err)
		s.Store = store
		store.revocable.Store("mcp-upstream", true) // others are tried first
		ctx, stop := context.WithCancel(context.Background())
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			store.Run(ctx)
		}()
		play(s)
		store.Close()
		require.Zero(t, s.vault.alive(), "child tokens that are left in Vault")
		require.Equal(t, Stats{}, store.Stats())
		stop()
		<-stopped
	})
}

// skewed is now, by a wall clock that was set forward.
func skewed(by time.Duration) time.Time {
	if by == 0 {
		return time.Now()
	}
	return time.Now().Round(0).Add(by)
}

func usual() *config.UpstreamCredentials {
	return &config.UpstreamCredentials{
		TokenRole: "mcp-upstream", Policies: []string{"mcp-upstream"}, AliasPrefix: "mcp", TokenTTL: 10 * time.Minute,
		IdleTimeout: 10 * time.Minute, MaxLeases: 100, MaxLeasesPerClient: 32, MintRate: 1000,
	}
}

const dbPath = "database/creds/ro"

// database is an engine whose roles are named after the alias.
func database(ttl, most time.Duration) engine {
	return engine{ttl: ttl, max: most, fields: func(n int, alias string) map[string]any {
		return map[string]any{"username": alias, "password": fmt.Sprintf("secret-%d", n)}
	}}
}

// server registers a server with one database credential.
func (s *stage) server(name string) *Server {
	s.t.Helper()
	return s.register(databaseServer(name))
}

func databaseServer(name string) *grants.Server {
	return &grants.Server{
		Name: name, ID: "id-of-" + name, Transport: grants.TransportHTTP, URL: "https://server.example.com/mcp",
		Credentials: map[string]credential.Spec{"db": {Path: dbPath}},
		Headers:     map[string]string{"X-User": "{{db.username}}", "X-Password": "{{db.password}}"},
	}
}

func (s *stage) register(of *grants.Server) *Server {
	s.t.Helper()
	server, err := s.Server(of)
	require.NoError(s.t, err)
	return server
}

// grantOf is that of an issued token of the client; change nil leaves it as it is.
func grantOf(t testing.TB, client string, change func(*vaultclient.Lookup)) *grants.Grant {
	t.Helper()
	l := &vaultclient.Lookup{Active: true, Client: client, ClientID: "id-of-" + client, Accessor: "accessor-of-" + client, AllowedServers: []string{"*"}}
	if change != nil {
		change(l)
	}
	g, err := grants.NewGrant(l, time.Now())
	require.NoError(t, err)
	return g
}

// get is a request's Get.
func (s *stage) get(server *Server, client string) *Set {
	s.t.Helper()
	set, err := server.Get(context.Background(), grantOf(s.t, client, nil))
	require.NoError(s.t, err)
	return set
}

// refusal is the Error of a request's Get.
func (s *stage) refusal(server *Server, client string) *Error {
	s.t.Helper()
	_, err := server.Get(context.Background(), grantOf(s.t, client, nil))
	var e *Error
	require.ErrorAs(s.t, err, &e)
	return e
}

// after lets that much of the bubble's time pass.
func after(d time.Duration) { <-time.After(d) }
