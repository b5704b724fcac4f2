package engine

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/bench/measure"
	"vault-plugin-secrets-mcp/test/harness"
)

// usedServers is how many servers each client has used, with one tool each.
const usedServers = 3

// usageClients is how many clients have used something, if the environment says no other number.
const (
	usageClientsVariable = "BENCH_CLIENTS"
	usageClients         = 1000
)

// BenchmarkUsage measures how long reports take of what so many clients have used, and reads of
// it: each of the clients with one token and three tools.
func BenchmarkUsage(b *testing.B) {
	clients := measure.Int(b, usageClientsVariable, usageClients)
	for range b.N {
		for name, took := range reportUsage(b, clients) {
			b.ReportMetric(float64(took.Microseconds())/1000, name+"-ms")
		}
	}
}

// TestReportsOfTheBenchmarkAreStored is its short form. How long they take is not looked at.
func TestReportsOfTheBenchmarkAreStored(t *testing.T) {
	require.Len(t, reportUsage(t, 5), 6)
}

func reportUsage(t testing.TB, count int) map[string]time.Duration {
	t.Helper()
	h := harness.New(t, harness.WithCluster(1))
	servers := harness.Map{}
	for i := range usedServers {
		name := fmt.Sprintf("server-%d", i)
		h.Write("mcp/servers/"+name, harness.Map{"transport": "http", "url": "https://" + name + ".example.com/mcp"})
		servers[name] = []string{"a-tool-of-" + name}
	}
	clients := harness.Map{}
	for i := range count {
		made := h.Write(fmt.Sprintf("mcp/clients/bench-%04d", i), harness.Map{"allowed_servers": "*", "token_ttl": "24h"})
		h.Secret(made["token"].(string))
		clients[made["client_id"].(string)] = harness.Map{"tokens": []any{made["accessor"]}, "servers": servers}
	}
	took := map[string]time.Duration{}
	timed := func(name string, do func()) {
		var all []time.Duration
		for range 3 {
			start := time.Now()
			do()
			all = append(all, time.Since(start))
		}
		slices.Sort(all)
		took[name] = all[1]
	}
	today := time.Now().UTC()
	report := func(gateway string, day time.Time, clients harness.Map) {
		answer := h.Write("mcp/gateway/usage", harness.Map{"gateway": gateway, "day": day.Format(time.DateOnly), "clients": clients})
		require.Equal(t, "0", fmt.Sprint(answer["refused"]))
	}
	// What was used yesterday first, so that the next report changes each entry.
	start := time.Now()
	report("gateway000000001", today.AddDate(0, 0, -1), clients)
	took["first-report"] = time.Since(start)
	start = time.Now()
	report("gateway000000001", today, clients)
	took["next-day"] = time.Since(start)
	timed("known-report", func() { report("gateway000000002", today, clients) })
	timed("list", func() { require.Len(t, h.List("mcp/clients/"), count) })
	timed("read-client", func() { require.Len(t, h.Read("mcp/usage/clients/bench-0000")["rows"], usedServers) })
	timed("read-coverage", func() { require.Len(t, h.Read("mcp/usage")["days"], 2) })
	return took
}
