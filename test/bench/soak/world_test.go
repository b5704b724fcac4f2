package soak

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"vault-plugin-secrets-mcp/test/bench/measure"
	"vault-plugin-secrets-mcp/test/harness"
)

// Registered servers.
const (
	serverJSON  = "json"
	serverSSE   = "sse"
	serverFlaky = "flaky" // comes and goes
	serverStdio = "stdio"
)

// world is a gateway beside three Vaults, and everything that happens to it.
type world struct {
	*harness.Harness
	gateway *harness.Gateway
	flaky   measure.Server
	vault   *api.Client
	client  *http.Client
	token   string // of a client that nobody touches

	mu     sync.Mutex
	counts map[string]int
	wrong  []string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	h := harness.New(t, harness.WithCluster(3))
	rig := measure.NewRig(t, h.Dir)
	steady := rig.Upstream()
	w := &world{
		Harness: h, flaky: rig.Upstream(), vault: h.Vault.Nodes[1].Client(), counts: map[string]int{},
		client: &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}},
	}
	for name, url := range map[string]string{
		serverJSON: "http://" + steady.Address + "/json", serverSSE: "http://" + steady.Address + "/sse",
		serverFlaky: "http://" + w.flaky.Address + "/json",
	} {
		h.Write("mcp/servers/"+name, harness.Map{"transport": "http", "url": url})
	}
	h.Write("mcp/servers/"+serverStdio, harness.Map{"transport": "stdio", "command": rig.Path, "args": "stdio"})
	w.token = h.CreateClient("steady", harness.Map{"allowed_servers": "*"})
	h.CreateClient("rotated", harness.Map{"allowed_servers": "*"})
	h.CreateClient("leasing", harness.Map{"allowed_servers": "*"})
	w.gateway = h.StartGateway(harness.GatewayOptions{
		Vault: h.Vault.Nodes[1].Address(), Blocks: map[string]string{
			"stdio": fmt.Sprintf("allowed_commands = [%q]\n", rig.Path),
			// All clients come from one address here, and ask again and again while
			// Vault has no leader.
			"grants": "cold_rate = 100000\ncold_burst = 100000\ncold_source_rate = 100000\ncold_source_burst = 100000\n",
		},
	})
	return w
}

// done notes one piece of work of a kind.
func (w *world) done(kind string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts[kind]++
	if err != nil && len(w.wrong) < 20 {
		w.wrong = append(w.wrong, kind+": "+err.Error())
	}
}

// answer is what came of a request.
type answer struct {
	status  int
	session string
	body    string
}

func (w *world) do(ctx context.Context, method, path, token, body string, header http.Header) (answer, error) {
	request, err := http.NewRequestWithContext(ctx, method, w.gateway.URL+path, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	if header != nil {
		request.Header = header
	}
	request.Header.Set("Accept", "application/json, text/event-stream")
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := w.client.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, response.Header.Get("Mcp-Session-Id"), string(content)}, err
}

// call calls a tool in the stateless era.
func (w *world) call(ctx context.Context, path, tool, token string) (answer, error) {
	return w.do(ctx, http.MethodPost, path, token, harness.CallBody(tool, `{}`), http.Header{
		"Mcp-Protocol-Version": {harness.StatelessEra}, "Mcp-Method": {"tools/call"}, "Mcp-Name": {tool},
	})
}

func endpoint(server string) string { return "/servers/" + server + "/mcp" }

// want is nil where the answer has one of the statuses, and a result if it is 200.
func want(got answer, err error, statuses ...int) error {
	if err != nil {
		return err
	}
	for _, status := range statuses {
		if got.status != status {
			continue
		}
		if status == http.StatusOK && !strings.Contains(got.body, `"result"`) {
			return fmt.Errorf("200 without a result: %.300s", got.body)
		}
		return nil
	}
	return fmt.Errorf("status %d: %.300s", got.status, got.body)
}
