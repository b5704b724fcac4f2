package credentials

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/grants"
)

// warmed returns a server whose credentials the client of the grant has already.
func warmed(t testing.TB) (*Server, *grants.Grant) {
	t.Helper()
	vault := newModel()
	vault.now = time.Now
	vault.engines[dbPath] = database(time.Hour, 0)
	store, err := New(Options{
		Config: &config.Config{UpstreamCredentials: usual()}, Vault: vault, Log: hclog.NewNullLogger(),
		Live: func(grants.Principal) bool { return true },
	})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		store.Run(ctx)
	}()
	t.Cleanup(func() {
		store.Close()
		stop()
		<-stopped
	})
	server, err := store.Server(databaseServer("orders"))
	require.NoError(t, err)
	grant := grantOf(t, "alice", nil)
	_, err = server.Get(t.Context(), grant)
	require.NoError(t, err)
	return server, grant
}

// use is this package's part of a request that is sent with credentials that are there.
func use(ctx context.Context, server *Server, grant *grants.Grant, cancel context.CancelCauseFunc, u *Use) error {
	set, err := server.Get(ctx, grant)
	if err != nil {
		return err
	}
	if err := u.Begin(set, cancel, false); err != nil {
		return err
	}
	defer u.End()
	if len(set.Header()) == 0 || set.Accessor() == "" || len(set.LeaseIDs()) == 0 {
		return errors.New("the set has no header, no accessor or no lease")
	}
	return nil
}

// BenchmarkWarmGet measures the request for credentials that are there, and this package's
// whole part of a request that is sent with them: on one core, and on all.
func BenchmarkWarmGet(b *testing.B) {
	server, grant := warmed(b)
	_, cancel := context.WithCancelCause(b.Context())
	defer cancel(nil)
	ctx := b.Context()
	get := func(*Use) error {
		_, err := server.Get(ctx, grant)
		return err
	}
	whole := func(u *Use) error { return use(ctx, server, grant, cancel, u) }
	for _, bench := range []struct {
		name string
		do   func(*Use) error
	}{{"get", get}, {"get and use", whole}} {
		b.Run(bench.name, func(b *testing.B) {
			var u Use
			b.ReportAllocs()
			for b.Loop() {
				if err := bench.do(&u); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(bench.name+", all cores", func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				var u Use
				for pb.Next() {
					if err := bench.do(&u); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

func TestCredentialsThatAreThereCostNoAllocation(t *testing.T) {
	server, grant := warmed(t)
	_, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	var u Use
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		if err := use(t.Context(), server, grant, cancel, &u); err != nil {
			t.Error(err)
		}
	}))
}
