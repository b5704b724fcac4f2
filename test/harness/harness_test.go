package harness_test

import (
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"

	"vault-plugin-secrets-mcp/test/harness"
)

// registered is nil where the server is in the registry.
func registered(h *harness.Harness, name string) error {
	answer, err := h.Vault.Client().Logical().Read(harness.Mount + "/servers/" + name)
	if err == nil && answer == nil {
		err = errors.New("it is not registered")
	}
	return err
}

func TestVaultStartsThePluginAgainAfterItWasKilled(t *testing.T) {
	h := harness.New(t)
	h.Write("mcp/servers/a", harness.Map{"transport": "http", "url": "http://127.0.0.1:1/mcp"})
	if got := h.List("mcp/servers"); len(got) != 1 || got[0] != "a" {
		t.Errorf("servers %v", got)
	}
	if killed := h.Vault.Nodes[0].KillPlugin(); killed != 1 {
		t.Errorf("%d plugins were killed", killed)
	}
	h.Eventually("the engine answers", func() error { return registered(h, "a") })
}

func TestAClusterRemembersWhenItIsKilled(t *testing.T) {
	h := harness.New(t, harness.WithCluster(1))
	h.Write("mcp/servers/a", harness.Map{"transport": "http", "url": "http://127.0.0.1:1/mcp"})
	node := h.Vault.Nodes[0]
	node.Kill()
	if node.Running() {
		t.Error("it still runs")
	}
	node.Start()
	if err := registered(h, "a"); err != nil {
		t.Error(err)
	}
}

func TestAnotherNodeLeadsWhenTheLeaderIsKilled(t *testing.T) {
	h := harness.New(t, harness.WithCluster(3))
	h.Write("mcp/servers/a", harness.Map{"transport": "http", "url": "http://127.0.0.1:1/mcp"})
	killed := h.Vault.Leader()
	killed.Kill()
	if h.Vault.Leader() == killed {
		t.Error("a node that was killed leads")
	}
	h.Eventually("the engine answers", func() error { return registered(h, "a") })
	killed.Start()
	if err := registered(h, "a"); err != nil {
		t.Error(err)
	}
}

func TestAnUpstreamRecordsWhatItIsAsked(t *testing.T) {
	h := harness.New(t)
	upstream := h.StartUpstream(nil)
	answer := h.Call(upstream.URL, "", "add", `{"a":2,"b":3}`)
	if answer.Status != http.StatusOK || !strings.Contains(answer.Body, `"result":5`) {
		t.Errorf("%d %s", answer.Status, answer.Body)
	}
	session := h.Connect(upstream.URL, "")
	if tools, err := session.ListTools(t.Context(), nil); err != nil || len(tools.Tools) != 4 {
		t.Errorf("%v %v", tools, err)
	}
	requests := upstream.Requests()
	if len(requests) < 2 || requests[0].Header.Get("Mcp-Name") != "add" || !strings.Contains(string(requests[0].Body), "tools/call") {
		t.Errorf("requests: %v", requests)
	}
	upstream.Forget()
	if upstream.Count() != 0 {
		t.Error("it does not forget")
	}
}

func TestAnAddressIsFreeForTheProgramThatIsToldIt(t *testing.T) {
	address := harness.FreeAddress(t)
	for range 2 {
		listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if err := listener.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
