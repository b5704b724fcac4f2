package grants

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

func benchToken(i int) string { return fmt.Sprintf("mcpt_%049d", i) }

// BenchmarkWarmGrant measures this package's part of a request with a known token.
func BenchmarkWarmGrant(b *testing.B) {
	m := newModel()
	token := benchToken(1)
	m.addToken(token, "c")
	broker, err := newBroker(testOptions(), m)
	require.NoError(b, err)
	require.NoError(b, broker.fetchRegistry(b.Context()))
	broker.sync(m)
	server := broker.Server("files")
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			g, err := broker.Grant(b.Context(), token, home)
			if err != nil {
				b.Fatal(err)
			}
			_, hold, err := broker.Hold(b.Context(), g, Use{Token: token, Source: home, Server: server})
			if err != nil {
				b.Fatal(err)
			}
			hold.Release()
		}
	})
}

// TestHundredThousandGrantsFitInTheirMemory: with them, the whole gateway is to fit
// in 100 MB. Half of that is for the program and for garbage.
func TestHundredThousandGrantsFitInTheirMemory(t *testing.T) {
	const grants, bound = 100_000, 50 << 20
	b := brokerFor(t, newModel())
	b.options.Grants.MaxEntries = grants
	before := heap()
	for i := range grants {
		l := &vaultclient.Lookup{
			Active: true, Epoch: "0123456789abcdef", AnsweredAt: time.Now(),
			Client: fmt.Sprint("client-", i), ClientID: fmt.Sprintf("%024d", i), Accessor: fmt.Sprintf("%048d", i),
			ExpiresAt:      time.Now().Add(time.Hour).Format(time.RFC3339Nano),
			AllowedServers: []string{"calculator", "github", "files"},
		}
		g, err := newGrant(l, time.Now(), b.entitlements.get)
		require.NoError(t, err)
		require.NoError(t, b.publish(keyOf(benchToken(i)), l, g, time.Now()))
	}
	used := heap() - before
	t.Logf("%d bytes a grant", used/grants)
	require.Less(t, used, uint64(bound))
	require.Equal(t, grants, b.Stats().Grants)
	runtime.KeepAlive(b)
}

func heap() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}
