package growth

import (
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"vault-plugin-secrets-mcp/test/bench/measure"
	"vault-plugin-secrets-mcp/test/harness"
)

// streams are open, plaintext, and silent.
func (w *world) streams(t testing.TB, numbers []int) *growth {
	t.Helper()
	// One upstream has not enough ports for all of them where these are few.
	w.Write("mcp/servers/json", harness.Map{"transport": "http", "url": "http://" + w.upstream.Address + "/json"})
	token := w.CreateClient("of-many-streams", harness.Map{"allowed_servers": "json"})
	gateway := w.StartGateway(harness.GatewayOptions{Blocks: map[string]string{"limits": "per_client_concurrency = 100000\nmax_connections_per_source = 100000\n"}})
	pid, at := gateway.Process.Pid(), measure.At(gateway, "json")
	held := w.rig.Streams()
	g := &growth{
		Of: "Open streams", Order: "a call constant, memory O(n)",
		Names: []string{"p50 µs of a call", "memory MB", "open files"},
	}
	var open []*measure.Stream
	for _, n := range numbers {
		for len(open) < n {
			begin := len(open)
			for range min(500, n-begin) { // not all at once
				open = append(open, held.Open(measure.Host(gateway), measure.Listen(at, token)))
			}
			measure.AwaitOpen(t, open[begin:])
		}
		g.Rows = append(g.Rows, []float64{
			float64(n), w.p50(t, "streams", measure.Host(gateway), measure.Call(at, harness.StatelessEra, token, "", 1)),
			megabytes(measure.Resident(t, pid)), float64(measure.OpenFiles(t, pid)),
		})
	}
	for _, s := range open {
		if len(s.Ended)+len(s.Failed) > 0 {
			t.Fatal("a stream has ended by itself")
		}
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	g.Notes = append(g.Notes, fmt.Sprintf("A stream takes %.1f KB and two open files, of which the system allows a process %d.",
		g.slope(2)*1024, limit.Cur))
	g.curve("streams", "Open streams", "streams", []int{1}, []int{2})
	held.CloseAll()
	gateway.Stop()
	return g
}

// watchers are requests for changes that Vault holds, one for each gateway.
func (w *world) watchers(t testing.TB, numbers []int) *growth {
	t.Helper()
	w.Write("mcp/config", harness.Map{"max_watchers": 2_000, "max_wait": "30s"})
	vault := w.Vault.Nodes[0].Pid()
	g := &growth{
		Of: "Gateways that wait for changes", Order: "memory O(n)",
		Names: []string{"memory of Vault MB", "memory of the engine MB"},
	}
	for range 200 { // what it needs for requests of any kind is in memory then
		w.Read("mcp/changes")
	}
	head := w.Read("mcp/changes")
	epoch, _ := head["epoch"].(string)
	index, _ := head["index"].(json.Number)
	address := strings.TrimPrefix(w.Vault.Address(), "http://")
	request := fmt.Appendf(nil, "GET /v1/mcp/changes?wait=30s&epoch=%s&index=%s HTTP/1.1\r\nHost: %s\r\nX-Vault-Token: %s\r\n\r\n",
		url.QueryEscape(epoch), index, address, w.Vault.RootToken)
	for _, n := range numbers {
		held := make([]net.Conn, 0, n)
		for range n {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, conn)
			if _, err := conn.Write(request); err != nil {
				t.Fatal(err)
			}
		}
		w.settle(t)
		g.Rows = append(g.Rows, []float64{
			float64(n), megabytes(measure.Resident(t, vault)), megabytes(measure.Resident(t, w.Vault.Nodes[0].PluginPid())),
		})
		for _, conn := range held {
			_ = conn.Close()
		}
	}
	g.Notes = append(g.Notes, fmt.Sprintf("One that waits takes %.0f KB of Vault's memory and %.0f KB of the engine's.", g.slope(1)*1024, g.slope(2)*1024))
	g.curve("watchers", "Gateways that wait for changes", "gateways", []int{1, 2})
	return g
}

// settle waits until Vault and the engine have nothing to do.
func (w *world) settle(t testing.TB) {
	t.Helper()
	vault, plugin := w.Vault.Nodes[0].Pid(), w.Vault.Nodes[0].PluginPid()
	w.Eventually("Vault has nothing to do", func() error {
		before := measure.CPU(t, vault) + measure.CPU(t, plugin)
		<-time.After(300 * time.Millisecond)
		if used := measure.CPU(t, vault) + measure.CPU(t, plugin) - before; used > 30*time.Millisecond {
			return fmt.Errorf("it was busy for %s", used)
		}
		return nil
	})
}
