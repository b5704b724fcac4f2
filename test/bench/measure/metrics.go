package measure

import (
	"regexp"
	"strconv"
	"testing"

	"vault-plugin-secrets-mcp/test/harness"
)

var lookupCount = regexp.MustCompile(`(?m)^mcp_gateway_lookup_duration_seconds_count\{[^}]*\} (\d+)`)

// Lookups is the number of lookups in Vault, in a gateway's metrics.
func Lookups(t testing.TB, metrics string) int {
	t.Helper()
	total := 0
	for _, found := range lookupCount.FindAllStringSubmatch(metrics, -1) {
		total += Number(t, found[1])
	}
	return total
}

// Gauge is a metric of the gateway that has no labels.
func Gauge(t testing.TB, g *harness.Gateway, name string) float64 {
	t.Helper()
	return Value(t, g.Metrics(), name)
}

// Value is one without labels in a gateway's metrics.
func Value(t testing.TB, metrics, name string) float64 {
	t.Helper()
	found := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindStringSubmatch(metrics)
	if found == nil {
		t.Fatalf("/metrics has no %s", name)
	}
	value, err := strconv.ParseFloat(found[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// Host is the host and port of a gateway's clients.
func Host(g *harness.Gateway) string { return g.URL[len("http://"):] }
