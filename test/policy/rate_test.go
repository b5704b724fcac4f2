package policy

import (
	"errors"
	"net/http"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/stage"
)

// TestRateLimitOfAClient sends more requests than a client may, to two gateways.
func TestRateLimitOfAClient(t *testing.T) {
	h := harness.New(t)
	upstream := h.StartUpstream(nil)
	h.Write("mcp/servers/calculator", harness.Map{"transport": "http", "url": upstream.URL})
	slow := harness.Map{"rate_limit": 0.01, "rate_burst": 5}
	token := h.CreateClient("busy", harness.Map{"allowed_servers": "calculator", "rate_limit": 0.01, "rate_burst": 5})
	other := h.CreateClient("other", harness.Map{"allowed_servers": "calculator", "rate_limit": 0.01, "rate_burst": 5})
	first, second := h.StartGateway(harness.GatewayOptions{}), h.StartGateway(harness.GatewayOptions{})
	send := func(gateway *harness.Gateway, token string, n int) (passed int) {
		for range n {
			answer := h.Call(gateway.ServerURL("calculator"), token, "add", `{"a":1,"b":1}`)
			if answer.Status == http.StatusOK {
				passed++
				continue
			}
			require.Equal(t, http.StatusTooManyRequests, answer.Status, answer.Body)
			wait, err := strconv.Atoi(answer.Header.Get("Retry-After"))
			require.NoError(t, err)
			require.Positive(t, wait)
		}
		return passed
	}
	require.Equal(t, 5, send(first, token, 20))
	require.Equal(t, 5, send(first, other, 20), "another client has its own rate")
	require.Equal(t, 5, send(second, token, 20), "and so has each gateway")
	require.Equal(t, 15, stage.ToolCalls(upstream), "what was refused reached the server")
	require.Equal(t, http.StatusTooManyRequests, h.DoOnce(http.MethodGet, first.URL+"/mcp", token, nil, "").Status, "both endpoints count")

	h.Write("mcp/clients/busy", harness.Map{"rate_limit": 1000, "rate_burst": 1000})
	h.Within(stage.InForce, "the new limit to count", func() error {
		if send(first, token, 1) == 0 {
			return errors.New("the old one counts")
		}
		return nil
	})
	h.Write("mcp/clients/busy", slow)
	h.Within(stage.InForce, "the old limit to count again", func() error {
		if passed := send(first, token, 10); passed > 0 {
			return errors.New(strconv.Itoa(passed) + " have passed")
		}
		return nil
	})
	require.Contains(t, first.Metrics(), "mcp_gateway_client_rate_limited_total")
	first.Stop()
	wantRateLines(t, first)
}

// wantRateLines makes sure that the audit log has the refusals of both clients, and has counted
// those of one time together.
func wantRateLines(t *testing.T, gateway *harness.Gateway) {
	t.Helper()
	lines, counted := map[any]int{}, map[any]int{}
	for _, line := range gateway.Audit() {
		if line["reason"] != "rate-limited" {
			continue
		}
		lines[line["client"]]++
		if count, ok := line["count"].(float64); ok {
			require.Equal(t, "refusals", line["type"])
			counted[line["client"]] += int(count)
		}
	}
	require.Equal(t, 14, counted["other"])
	require.Equal(t, 2, lines["other"])
	require.Greater(t, counted["busy"], 15)
	require.Less(t, lines["busy"], 6, "one in ten seconds")
}
