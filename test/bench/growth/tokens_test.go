package growth

import (
	"fmt"
	"testing"

	"vault-plugin-secrets-mcp/gateway/grants/grantstest"
	"vault-plugin-secrets-mcp/test/bench/measure"
	"vault-plugin-secrets-mcp/test/harness"
)

// unlimited lets all tokens come at once, for the first time.
const unlimited = "cold_rate = 1000000\ncold_burst = 1000000\ncold_source_rate = 1000000\ncold_source_burst = 1000000\n"

// tokens are grants that a gateway keeps, each of a client of its own. Vault's part
// is a stand-in's, which answers at once: it is the gateway that is measured, and
// a hundred thousand clients would take a real Vault minutes to write.
func (w *world) tokens(t testing.TB, numbers []int) *growth {
	t.Helper()
	vault := grantstest.New(t)
	vault.AddServer("json", "http://"+w.upstream.Address+"/json")
	gateway := w.StartGateway(harness.GatewayOptions{Vault: vault.URL, Blocks: map[string]string{
		"grants": unlimited + "max_entries = 200000\n",
	}})
	pid := gateway.Process.Pid()
	g := &growth{
		Of: "Tokens that a gateway knows", Order: "time constant, memory O(n)",
		Names: []string{"p50 µs", "memory MB"},
	}
	var calls [][]byte
	known := 0
	for _, n := range numbers {
		for len(calls) < n {
			token := fmt.Sprintf("custom-token-of-some-length-%08d", len(calls))
			vault.AddToken(token, fmt.Sprintf("client-%d", len(calls)), nil)
			calls = append(calls, measure.Call(measure.At(gateway, "json"), harness.StatelessEra, token, "", 1))
		}
		w.once("warming tokens", measure.Host(gateway), calls[known:n])
		known = n
		step := max(n/2_000, 1) // of all of them, as many as a pipe takes
		var some [][]byte
		for i := 0; i < n; i += step {
			some = append(some, calls[i])
		}
		p50 := w.p50(t, "tokens", measure.Host(gateway), some...)
		g.Rows = append(g.Rows, []float64{float64(n), p50, megabytes(measure.Resident(t, pid))})
	}
	if grants := measure.Gauge(t, gateway, "mcp_gateway_grants"); int(grants) != numbers[len(numbers)-1] {
		t.Fatalf("the gateway keeps %.0f grants", grants)
	}
	g.Notes = append(g.Notes, fmt.Sprintf("A grant takes %.0f bytes, garbage that is not collected yet included. "+
		"Vault is a stand-in here.", g.slope(2)*(1<<20)))
	g.curve("tokens", "Tokens that a gateway knows", "tokens", []int{1}, []int{2})
	gateway.Stop()
	return g
}
