package growth

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-mcp/test/bench/measure"
	"vault-plugin-secrets-mcp/test/harness"
)

// A credential is renewed, or replaced, at two thirds of its life less up to a fifth of that:
// after 0.6 of it in the middle. What has no lease is read again after 0.9 of its refresh.
const (
	renewedAfter = 0.6
	rereadAfter  = 0.9
)

// lives are those of the benchmark. They are short: in a life of an hour there would be little
// to count. A lease that is replaced lives for one renewal of its child token, and not for two.
func lives(scale int) measure.Leasing {
	unit := 20 * time.Second
	if scale > 1 {
		unit = 3 * time.Second
	}
	return measure.Leasing{Tokens: 2 * unit, Leases: 3 * unit, Refresh: 2 * unit}
}

// due is a kind of request that Vault gets in the steady state.
type due struct {
	what  string
	paths []string
	// a client's requests in an hour, with one server of each kind.
	formula string
	hourly  func(measure.Leasing) float64
}

const (
	createPath  = "auth/token/create/mcp-upstream"
	renewPath   = "auth/token/renew-self"
	extendPath  = "sys/leases/renew"
	destroyPath = "auth/token/revoke-self"
)

func anHour(after time.Duration, share float64) float64 {
	return float64(time.Hour) / (float64(after) * share)
}

// dues are all that a client causes that has a server of each kind: one whose lease is replaced
// (R), one whose lease is renewed (L), and one that has no lease (N).
var dues = []due{
	{
		"renewals of child tokens",
		[]string{renewPath},
		"(L + N) × 6000 s / `token_ttl`, and R × ⌊lease / `token_ttl`⌋ in each lease",
		func(l measure.Leasing) float64 {
			return 2*anHour(l.Tokens, renewedAfter) + float64(l.Leases/l.Tokens)*anHour(l.Leases, renewedAfter)
		},
	},
	{
		"renewals of leases",
		[]string{extendPath},
		"L × 6000 s / lease",
		func(l measure.Leasing) float64 { return anHour(l.Leases, renewedAfter) },
	},
	{
		"reads of what has no lease",
		[]string{measure.TextPath},
		"N × 4000 s / `refresh`",
		func(l measure.Leasing) float64 { return anHour(l.Refresh, rereadAfter) },
	},
	{
		"child tokens, reads and revocations, for what is replaced",
		[]string{createPath, measure.IssuePath, destroyPath},
		"R × 3 × 6000 s / lease",
		func(l measure.Leasing) float64 { return 3 * anHour(l.Leases, renewedAfter) },
	},
}

// usualLives are those of a gateway that says nothing, and of a database role of an hour.
var usualLives = measure.Leasing{Tokens: 10 * time.Minute, Leases: time.Hour, Refresh: 5 * time.Minute}

// credentials are those of clients at three servers each, leased from Vault: one that is
// replaced, one that is renewed, and one that is read again.
func (w *world) credentials(t testing.TB, numbers []int, leasing measure.Leasing) *growth {
	t.Helper()
	leasing.SetUp(t, w.Harness)
	url := "http://" + w.upstream.Address + "/json"
	servers := []string{"replaced", "renewed", "read-again"}
	for i, registration := range []harness.Map{leasing.Certificate(url), leasing.Token(url), leasing.Text(url)} {
		w.Write("mcp/servers/"+servers[i], registration)
	}
	gateway := w.StartGateway(harness.GatewayOptions{Blocks: map[string]string{
		"grants": unlimited + "wait = \"10s\"\n", "upstream_credentials": leasing.Block(),
	}})
	g := &growth{
		Of: "Clients with leased credentials at three servers each", Order: "memory, tokens and leases O(n)",
		Names: []string{"memory MB", "goroutines", "child tokens in Vault", "leases in Vault", "memory of Vault MB"},
	}
	others := len(w.List("auth/token/accessors"))
	known := 0
	for _, n := range numbers {
		var calls [][]byte
		for ; known < n; known++ {
			token := w.CreateClient(fmt.Sprintf("lessee-%d", known), harness.Map{"allowed_servers": strings.Join(servers, ",")})
			for _, server := range servers {
				calls = append(calls, measure.Call(measure.At(gateway, server), harness.StatelessEra, token, "", 1))
			}
		}
		w.once("leasing", measure.Host(gateway), calls)
		if held := measure.Gauge(t, gateway, "mcp_gateway_credentials"); int(held) != n*len(servers) {
			t.Fatalf("the gateway has leased %.0f credentials for %d clients", held, n)
		}
		leases, err := measure.CountLeases(t.Context(), w.Vault.Client())
		if err != nil {
			t.Fatal(err)
		}
		g.Rows = append(g.Rows, []float64{
			float64(n), megabytes(measure.Resident(t, gateway.Process.Pid())), measure.Gauge(t, gateway, "go_goroutines"),
			float64(len(w.List("auth/token/accessors")) - others), float64(leases),
			megabytes(measure.Resident(t, w.Vault.Nodes[0].Pid())),
		})
	}
	g.Notes = append(g.Notes, fmt.Sprintf("A client takes %.1f KB and %.1f goroutines of the gateway for a server, its token's grant included, and %.0f KB of Vault.",
		g.slope(1)*1024/float64(len(servers)), g.slope(2)/float64(len(servers)), g.slope(5)*1024/float64(len(servers))))
	g.Notes = append(g.Notes, w.steady(t, gateway, numbers[len(numbers)-1], leasing)...)
	g.curve("credentials", "Clients with leased credentials at three servers each", "clients", []int{1}, []int{2})
	gateway.Stop()
	return g
}

// steady counts what Vault is asked while nobody calls anything, beside what the formulas say.
func (w *world) steady(t testing.TB, gateway *harness.Gateway, clients int, leasing measure.Leasing) (notes []string) {
	t.Helper()
	// A whole number of every period, so that it does not matter when they began.
	period := func(of time.Duration, share float64) time.Duration { return time.Duration(float64(of) * share) }
	window := 2 * period(leasing.Leases, renewedAfter)
	log := measure.NewVaultLog(t, w.Harness)
	<-time.After(window / 2) // each is renewed once
	log.Next()
	cpu := measure.CPU(t, gateway.Process.Pid())
	started := time.Now()
	<-time.After(window)
	answers := log.Next()
	took := time.Since(started)
	cpu = measure.CPU(t, gateway.Process.Pid()) - cpu
	var table strings.Builder
	fmt.Fprintf(&table, "What Vault is asked while all of them are used, counted in its audit log for %s with %d clients, `token_ttl` %s, leases of %s and `refresh` %s. "+
		"A client has R servers whose lease is replaced, L whose lease is renewed, and N without a lease; here one of each.\n\n"+
		"| requests | for each client, in an hour | by the formula | counted | %d clients in an hour, with %s, %s and %s |\n|---|---|---:|---:|---:|\n",
		took.Round(time.Second), clients, short(leasing.Tokens), short(leasing.Leases), short(leasing.Refresh),
		clients, short(usualLives.Tokens), short(usualLives.Leases), short(usualLives.Refresh))
	var counted, expected, usually float64
	for _, d := range dues {
		found := 0
		for _, a := range answers {
			if slices.Contains(d.paths, a.Path) {
				found++
			}
		}
		if found == 0 {
			t.Errorf("no %s in %s", d.what, took)
		}
		formula := d.hourly(leasing) * float64(clients) * took.Hours()
		usual := d.hourly(usualLives) * float64(clients)
		fmt.Fprintf(&table, "| %s | %s | %.0f | %d | %.0f |\n", d.what, d.formula, formula, found, usual)
		counted, expected, usually = counted+float64(found), expected+formula, usually+usual
	}
	if counted < expected/2 || counted > 2*expected {
		t.Errorf("Vault was asked %.0f times, and not about %.0f times", counted, expected)
	}
	fmt.Fprintf(&table, "| all | | %.0f | %.0f | %.0f |\n", expected, counted, usually)
	return []string{strings.TrimSuffix(table.String(), "\n"), fmt.Sprintf(
		"That is %.1f requests a second here, and %.1f with the times of the last column. The gateway used %.1f ms of CPU time for each.",
		counted/took.Seconds(), usually/time.Hour.Seconds(), float64(cpu)/float64(time.Millisecond)/max(counted, 1))}
}

// short writes a duration without parts that are zero.
func short(d time.Duration) string {
	text := strings.TrimSuffix(d.String(), "m0s")
	if text != d.String() {
		text += "m"
	}
	if hours, whole := strings.CutSuffix(text, "h0m"); whole {
		return hours + "h"
	}
	return text
}
