package backend

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// slowStorage takes as long for a read as Vault does, once it is told to.
type slowStorage struct {
	logical.Storage
	delay atomic.Int64
}

func (s *slowStorage) Get(ctx context.Context, key string) (*logical.StorageEntry, error) {
	if d := s.delay.Load(); d > 0 {
		select {
		case <-time.After(time.Duration(d)):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return s.Storage.Get(ctx, key)
}

// manyClients are how many the test below works with: a few, unless SCALE_CLIENTS
// says otherwise (make test-scale).
func manyClients(t *testing.T) int {
	t.Helper()
	if _, ok := os.LookupEnv("SCALE_CLIENTS"); !ok {
		return 2000
	}
	clients, _ := sizes(t)
	return max(clients, 100_000)
}

// An urgent write of a denial does not wait for a request that reads every client.
func TestLookingAtEveryClientHoldsUpNobody(t *testing.T) {
	clients := manyClients(t)
	shelf := newShelf()
	storage := &slowStorage{Storage: shelf}
	e := newEnvOn(quiet{t}, storage, newClock())
	e.write("servers/s", data{"transport": "http", "url": "http://h.example/"})
	for _, name := range []string{"used", "unused", "forced"} {
		e.write("policies/"+name, data{"deniedMcpServers": `[{"serverName":"x"}]`})
	}
	for i := range clients {
		d := data{"allowed_servers": "s"}
		if i%2 == 0 {
			d["policies"] = "used"
		}
		e.client(fmt.Sprintf("client-%06d", i), d)
	}
	e.b.clients.cache.Purge()
	// Reading one after the other would take longer than a sequence of writes may.
	storage.delay.Store(int64(max(12*time.Second/time.Duration(clients), 400*time.Microsecond)))
	restricted := data{"deniedMcpServers": `[{"serverName":"s"}]`}

	looking := make(chan string, 3)
	go func() {
		resp, err := e.request(t.Context(), logical.DeleteOperation, "policies/used", nil)
		looking <- fmt.Sprint("delete used: ", err, resp.Error())
		resp, err = e.request(t.Context(), logical.UpdateOperation, "policies/used", with(data{"dry_run": true}, restricted))
		looking <- fmt.Sprint("dry run: ", err, resp.Data["changed"])
		_, err = e.request(t.Context(), logical.DeleteOperation, "policies/unused", nil)
		looking <- fmt.Sprint("delete unused: ", err)
	}()
	var slowest time.Duration
	var seen []string
	started := time.Now()
	for i := 0; len(seen) < 3; i++ {
		asked := time.Now()
		e.write("policies/emergency", data{"deniedMcpServers": fmt.Sprintf(`[{"serverName":"s%d"}]`, i), "managed": true})
		slowest = max(slowest, time.Since(asked))
		select {
		case text := <-looking:
			seen = append(seen, text)
		case <-time.After(time.Millisecond):
		}
	}
	t.Logf("%d clients: a refused delete, a dry run and a delete took %s; the slowest of the writes meanwhile took %s",
		clients, time.Since(started).Round(time.Millisecond), slowest.Round(time.Millisecond))
	require.Contains(t, seen[0], fmt.Sprintf("%d clients", clients/2))
	require.Equal(t, fmt.Sprintf("dry run: <nil> %d", clients/2), seen[1])
	require.Equal(t, "delete unused: <nil>", seen[2])
	require.Less(t, slowest, 5*time.Second, "a denial waited for those who looked")
	require.Zero(t, e.b.clients.cache.Len(), "the cache that lookups need was filled with all clients")

	storage.delay.Store(0)
	for _, call := range shelf.recorded(func() { e.must(logical.DeleteOperation, "policies/forced", data{"force": true}) }) {
		require.NotContains(t, call, clientPrefix, "force looks at nobody")
	}
	require.Nil(t, e.read("policies/unused"))
	require.NotNil(t, e.read("policies/used"))
}

// The request's own context ends a scan, and nothing else does.
func TestAScanEndsWithItsRequest(t *testing.T) {
	storage := &slowStorage{Storage: newShelf()}
	e := newEnvOn(t, storage, newClock())
	e.write("policies/p", data{"deniedMcpServers": `[{"serverName":"x"}]`})
	for i := range 50 {
		e.client(fmt.Sprint("c", i), nil)
	}
	e.b.clients.cache.Purge()
	require.NotNil(t, e.read("policies/p")) // the policies are in memory, the clients are not
	storage.delay.Store(int64(time.Hour))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := e.request(ctx, logical.DeleteOperation, "policies/p", nil)
	require.ErrorIs(t, err, context.Canceled)
	storage.delay.Store(0)
	require.NotNil(t, e.read("policies/p"))
}
