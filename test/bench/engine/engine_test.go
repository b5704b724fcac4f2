package engine

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"vault-plugin-secrets-mcp/test/harness"
)

const (
	rounds   = 5
	tokens   = 100 // that are looked up in turn
	duration = 2 * time.Second
)

// What may be set in the environment.
const (
	auditVariable = "BENCH_AUDIT" // 1: with an audit log in a file, as in production
)

var connections = []int{1, 8, 64}

const callerPolicy = `
path "mcp/*"              { capabilities = ["create", "read", "update"] }
path "auth/token/lookup"  { capabilities = ["update"] }
path "auth/token/create"  { capabilities = ["update"] }
`

// BenchmarkEngine prints a table. In every round each path is measured once at
// each number of connections, one right after the other, so that what slows the
// machine down slows all of them; the figures are medians of the rounds. Lookups
// come before all that makes leases: a Vault that holds a hundred thousand of them
// has another heap than one that was asked for nothing but lookups.
func BenchmarkEngine(b *testing.B) {
	h := harness.New(b, harness.WithCluster(1))
	vault := h.Vault.Client()
	if os.Getenv(auditVariable) != "1" {
		if err := vault.Sys().DisableAudit("file"); err != nil {
			b.Fatal(err)
		}
	}
	targets, address := prepare(b, h), hostOf(b, h.Vault.Address())
	used := findProcesses(b, h.Dir)
	for i := range targets {
		targets[i].run(b, address, used, 8, duration/2) // warm
	}
	for range b.N {
		measured := map[string][]figures{}
		for _, group := range groups(targets) {
			for range rounds {
				for _, c := range connections {
					for i := range group {
						key := cell(group[i].name, c)
						measured[key] = append(measured[key], group[i].run(b, address, used, c, duration))
					}
				}
			}
		}
		printTable(targets, measured)
	}
}

// groups takes the targets apart into those that are compared with each other.
func groups(targets []target) [][]target {
	var all [][]target
	for _, t := range targets {
		if t.beside == "" {
			all = append(all, nil)
		}
		last := len(all) - 1
		all[last] = append(all[last], t)
	}
	return all
}

func cell(name string, connections int) string { return fmt.Sprintf("%s/%d", name, connections) }

// prepare makes what is looked up and the caller's token.
func prepare(b *testing.B, h *harness.Harness) []target {
	b.Helper()
	vault := h.Vault.Client()
	if err := vault.Sys().PutPolicy("bench", callerPolicy); err != nil {
		b.Fatal(err)
	}
	// The templated default policy would be parsed anew with each request.
	issue := func() string {
		made, err := vault.Auth().Token().Create(&api.TokenCreateRequest{Policies: []string{"bench"}, NoDefaultPolicy: true, TTL: "24h"})
		if err != nil {
			b.Fatal(err)
		}
		return made.Auth.ClientToken
	}
	caller, address := issue(), hostOf(b, h.Vault.Address())
	request := func(method, path, body string) []byte { return post(method, address, caller, path, body) }

	builtIn, own := make([][]byte, tokens), make([][]byte, tokens)
	for i := range tokens {
		builtIn[i] = request("POST", "auth/token/lookup", fmt.Sprintf(`{"token":%q}`, issue()))
		token := h.CreateClient(fmt.Sprintf("bench-%d", i), harness.Map{"allowed_servers": "github,calculator", "token_ttl": "24h"})
		own[i] = request("POST", "mcp/lookup", fmt.Sprintf(`{"token":%q}`, token))
	}
	const lookup, create = "auth/token/lookup", "auth/token/create"
	return []target{
		{name: lookup, requests: builtIn},
		{name: "mcp/lookup", beside: lookup, requests: own},
		// The way to the plugin and back, with nothing to do there.
		{name: "mcp/lookup, malformed token", beside: lookup, requests: [][]byte{request("POST", "mcp/lookup", `{"token":"malformed"}`)}},
		{name: "mcp/tidy/status", beside: lookup, requests: [][]byte{request("GET", "mcp/tidy/status", "")}},
		{name: create, requests: [][]byte{request("POST", "auth/token/create", `{"policies":["bench"],"no_default_policy":true,"ttl":"1h"}`)}},
		{name: "mcp/creds", beside: create, requests: [][]byte{request("GET", "mcp/creds/bench-0", "")}},
	}
}

func median[T float64 | time.Duration](all []figures, of func(figures) T) T {
	values := make([]T, 0, len(all))
	for _, f := range all {
		values = append(values, of(f))
	}
	slices.Sort(values)
	return values[len(values)/2]
}

func printTable(targets []target, measured map[string][]figures) {
	fmt.Printf("\n%d CPUs; medians of %d rounds of %s each; Vault on integrated storage, audit log %s\n\n", runtime.NumCPU(), rounds, duration,
		map[bool]string{true: "on", false: "off"}[os.Getenv(auditVariable) == "1"])
	fmt.Println("| connections | path | requests/s | p50 | p99 | ratio | CPU of Vault | of the plugin |")
	fmt.Println("|---:|---|---:|---:|---:|---:|---:|---:|")
	for _, c := range connections {
		for _, t := range targets {
			all := measured[cell(t.name, c)]
			ratio := ""
			if t.beside != "" {
				ratio = fmt.Sprintf("%.2f", medianRatio(all, measured[cell(t.beside, c)]))
			}
			fmt.Printf("| %d | `%s` | %.0f | %s | %s | %s | %d µs | %d µs |\n", c, t.name,
				median(all, func(f figures) float64 { return f.perSecond }),
				inMilliseconds(median(all, func(f figures) time.Duration { return f.p50 })),
				inMilliseconds(median(all, func(f figures) time.Duration { return f.p99 })), ratio,
				median(all, func(f figures) time.Duration { return f.vault }).Microseconds(),
				median(all, func(f figures) time.Duration { return f.plugin }).Microseconds())
		}
	}
}

// medianRatio is the median of the rounds' ratios of requests per second.
func medianRatio(all, beside []figures) float64 {
	ratios := make([]figures, len(all))
	for i := range all {
		ratios[i].perSecond = all[i].perSecond / beside[i].perSecond
	}
	return median(ratios, func(f figures) float64 { return f.perSecond })
}

func inMilliseconds(d time.Duration) string {
	return fmt.Sprintf("%.2f ms", float64(d)/float64(time.Millisecond))
}
