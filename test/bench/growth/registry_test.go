package growth

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-mcp/test/bench/measure"
	"vault-plugin-secrets-mcp/test/bench/report"
	"vault-plugin-secrets-mcp/test/harness"
)

// entries are those of one client's policy. None but the last admits the server.
func (w *world) entries(t testing.TB, numbers []int) *growth {
	t.Helper()
	w.Write("mcp/servers/json", harness.Map{"transport": "http", "url": "http://" + w.upstream.Address + "/json"})
	gateway := w.StartGateway(harness.GatewayOptions{})
	g := &growth{
		Of: "Entries of a client's policy", Order: "a known token's call constant: the decision is kept; the decision itself O(n)",
		Names: []string{"p50 µs of a call", "p50 µs of `mcp/evaluate`"},
	}
	for _, n := range numbers {
		type entry struct {
			URL string `json:"serverUrl"`
		}
		var list []entry
		for i := range n - 1 {
			list = append(list, entry{fmt.Sprintf("https://*.server-%d.example.com/*", i)})
		}
		list = append(list, entry{"http://" + w.upstream.Address + "/*"})
		text, err := json.Marshal(list)
		if err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("entries-%d", n)
		w.Write("mcp/policies/"+name, harness.Map{"allowedMcpServers": string(text)})
		token := w.CreateClient(name, harness.Map{"allowed_servers": "json", "policies": name})
		call := measure.Call(measure.At(gateway, "json"), harness.StatelessEra, token, "", 1)
		g.Rows = append(g.Rows, []float64{float64(n), w.p50(t, "entries", measure.Host(gateway), call), w.evaluate(t, name)})
	}
	g.curve("policies", "Entries of a client's policy", "entries", []int{1, 2})
	gateway.Stop()
	return g
}

// evaluate is how long Vault takes for a decision, its own overhead included, in
// microseconds.
func (w *world) evaluate(t testing.TB, client string) float64 {
	t.Helper()
	vault := w.Vault.Client()
	var times []float64
	for range 50 {
		started := time.Now()
		answer, err := vault.Logical().WriteWithContext(t.Context(), "mcp/evaluate", harness.Map{"client": client, "server": "json"})
		if err != nil || answer.Data["allowed"] != true {
			t.Fatalf("%v %v", answer, err)
		}
		times = append(times, float64(time.Since(started))/float64(time.Microsecond))
	}
	return report.SpreadOf(times).Median
}

// servers are registered ones, all of which the client may reach.
func (w *world) servers(t testing.TB, numbers []int) *growth {
	t.Helper()
	token := w.CreateClient("of-many-servers", harness.Map{"allowed_servers": "*"})
	gateway := w.StartGateway(harness.GatewayOptions{})
	whole := measure.Place{Address: measure.Host(gateway), Path: "/mcp", Tool: "json__" + measure.Tool}
	g := &growth{
		Of: "Registered servers", Order: "a call constant, on `/mcp` too; the list of all tools O(n)",
		Names: []string{"p50 µs of a call", "p50 µs of a call on `/mcp`", "p50 µs of `tools/list` on `/mcp`", "memory MB"},
	}
	registered := 1 // json, by then
	for _, n := range numbers {
		for ; registered < n; registered++ {
			w.Write(fmt.Sprintf("mcp/servers/many-%d", registered), harness.Map{
				"transport": "http", "url": fmt.Sprintf("http://%s/json/%d", w.upstream.Address, registered),
			})
		}
		w.Eventually("the gateway knows all servers", func() error {
			listed := w.Do(http.MethodPost, gateway.URL+"/mcp", token, listHeader(), list)
			if found := strings.Count(listed.Body, `"name":"`); listed.Status != http.StatusOK || found != n {
				return fmt.Errorf("status %d, %d tools of %d: %.300s", listed.Status, found, n, listed.Body)
			}
			return nil
		})
		call := measure.Call(measure.At(gateway, "json"), harness.StatelessEra, token, "", 1)
		g.Rows = append(g.Rows, []float64{
			float64(n),
			w.p50(t, "servers", measure.Host(gateway), call),
			w.p50(t, "servers, /mcp", measure.Host(gateway), measure.Call(whole, harness.StatelessEra, token, "", 1)),
			w.p50(t, "servers, tools/list", measure.Host(gateway), measure.List(whole, token)),
			megabytes(measure.Resident(t, gateway.Process.Pid())),
		})
	}
	g.curve("servers", "Registered servers", "servers", []int{1, 2}, []int{3})
	gateway.Stop()
	return g
}

const list = measure.ListMessage

func listHeader() http.Header {
	return http.Header{
		"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"},
		"Mcp-Protocol-Version": {harness.StatelessEra}, "Mcp-Method": {"tools/list"},
	}
}
