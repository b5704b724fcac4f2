package gateway

import (
	"errors"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/stage"
)

// errorLine is a line of a gateway's log at level warn or error.
var errorLine = regexp.MustCompile(`"@level":"(warn|error)"[^\n]*`)

// wantNotReady fails the test unless a gateway runs, answers no client, and names in
// its log the thing that it waits for.
func wantNotReady(t *testing.T, h *harness.Harness, g *harness.Gateway, words ...string) {
	t.Helper()
	h.Eventually("the gateway answers", func() error {
		content, err := os.ReadFile(g.Process.Log())
		if err != nil {
			return err
		}
		complaints := strings.Join(errorLine.FindAllString(string(content), -1), "\n")
		for _, word := range words {
			if !strings.Contains(complaints, word) {
				return errors.New("its log does not say " + word + ": " + complaints)
			}
		}
		return nil
	})
	for path, status := range map[string]int{"/healthz": http.StatusOK, "/readyz": http.StatusServiceUnavailable} {
		if r := h.Do(http.MethodGet, g.Admin+path, "", nil, ""); r.Status != status {
			t.Errorf("%s is answered %d %s", path, r.Status, r.Body)
		}
	}
	r := h.DoOnce(http.MethodPost, g.ServerURL(stage.Calculator), harness.UnissuedToken(t), nil, `{"jsonrpc":"2.0","id":1,"method":"ping"}`)
	stage.WantRefusal(t, r, http.StatusServiceUnavailable)
	if r.Header.Get("Retry-After") == "" {
		t.Errorf("the refusal has no Retry-After: %v", r.Header)
	}
}

func TestGatewayWaitsForASealedVault(t *testing.T) {
	h := harness.New(t, harness.WithCluster(1))
	upstream := h.StartUpstream(nil)
	h.Write("mcp/servers/"+stage.Calculator, harness.Map{"transport": "http", "url": upstream.URL})
	token := h.CreateClient("cursor", harness.Map{"allowed_servers": stage.Calculator})
	warm := h.StartGateway(harness.GatewayOptions{})
	if r := h.Call(warm.ServerURL(stage.Calculator), token, "add", `{"a":40,"b":2}`); r.Status != http.StatusOK {
		t.Fatalf("answered %d %s", r.Status, r.Body)
	}
	if err := h.Vault.Client().Sys().SealWithContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	cold := h.StartGateway(harness.GatewayOptions{NotReady: true})
	wantNotReady(t, h, cold, "sealed")
	upstream.Forget()
	if r := h.DoOnce(http.MethodPost, cold.ServerURL(stage.Calculator), token, nil, harness.CallBody("add", `{"a":40,"b":2}`)); r.Status != http.StatusServiceUnavailable || upstream.Count() != 0 {
		t.Errorf("answered %d %s, and the server saw %d requests", r.Status, r.Body, upstream.Count())
	}

	h.Vault.Nodes[0].Start()
	cold.AwaitReady()
	h.Eventually("the gateway works", func() error {
		if r := h.Call(cold.ServerURL(stage.Calculator), token, "add", `{"a":40,"b":2}`); r.Status != http.StatusOK {
			return errors.New(r.Body)
		}
		return nil
	})
}
