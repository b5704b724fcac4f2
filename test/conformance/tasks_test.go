package conformance

import (
	"maps"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"vault-plugin-secrets-mcp/gateway/gatewaytest"
	"vault-plugin-secrets-mcp/test/harness"
)

// TestTasksAreCarried runs the suite's scenarios about tasks against a server that has them,
// and through the gateway. The fixture of the SDK has none.
func TestTasksAreCarried(t *testing.T) {
	h := harness.New(t)
	x := install(t, h)
	server := httptest.NewServer(gatewaytest.NewTaskServer())
	t.Cleanup(server.Close)
	h.Write("mcp/servers/jobs", harness.Map{"transport": "http", "url": server.URL + "/"})
	front := newFront(t)
	gateway := h.StartGateway(harness.GatewayOptions{})
	token := h.CreateClient("suite", harness.Map{"allowed_servers": "jobs"})
	h.Post(gateway.ServerURL("jobs"), token, `{"jsonrpc":"2.0","id":1,"method":"ping"}`)

	all := map[string]results{}
	var mu sync.Mutex
	t.Run("runs", func(t *testing.T) { // beside each other, since most of their time they wait
		for name, url := range map[string]string{
			"direct":                server.URL + "/",
			"the server's endpoint": front.to(t, gateway.ServerURL("jobs"), token, nil),
			"one of many servers":   newFront(t).to(t, gateway.URL+"/mcp", token, namesOf("jobs")),
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				of := checks(t, x, []string{x.current, "server", "--requirements", "2026-07-28"}, url)
				maps.DeleteFunc(of, func(scenario string, _ map[string]endings) bool { return !strings.HasPrefix(scenario, "tasks-") })
				mu.Lock()
				defer mu.Unlock()
				all[name] = of
			})
		}
	})
	want, passed := all["direct"], 0
	for scenario, checks := range want {
		for check, ended := range checks {
			if statuses(ended)["FAILURE"] > 0 {
				t.Errorf("%s: %s fails against the server itself: %v", scenario, check, ended)
			}
			passed += statuses(ended)["SUCCESS"]
		}
	}
	if passed < 40 {
		t.Fatalf("only %d checks have passed against the server itself", passed)
	}
	compare(t, want, all["the server's endpoint"], nil)
	compare(t, want, all["one of many servers"], nil)
}
