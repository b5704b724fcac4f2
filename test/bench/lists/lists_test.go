package lists

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/pin"
	"vault-plugin-secrets-mcp/test/bench/measure"
	"vault-plugin-secrets-mcp/test/bench/report"
	"vault-plugin-secrets-mcp/test/bench/rig/job"
	"vault-plugin-secrets-mcp/test/harness"
)

// What the environment may say otherwise.
const (
	roundsVariable   = "BENCH_ROUNDS"
	durationVariable = "BENCH_DURATION"
	serversVariable  = "BENCH_SERVERS"
)

// tools is how many each server of the rig lists at the path /fifty.
const tools = 50

// cell is one list of one client, at one endpoint.
type cell struct {
	What     string `json:"what"` // what judges the list
	Endpoint string `json:"endpoint"`
	place    measure.Place
	token    string
	tools    int
	times    []float64 // of the rounds, in µs

	P50   report.Spread `json:"p50"`
	Plain report.Spread `json:"beside_plain"` // ratios of times, within each round
	Ruled report.Spread `json:"beside_rules"`
	plain *cell
	ruled *cell
}

// Judges of a list.
const (
	nothing = "nothing"
	rules   = "rules about tools"
	enforce = "pins, `pin=enforce`"
)

// BenchmarkLists prints the table.
func BenchmarkLists(b *testing.B) {
	for range b.N {
		machine := measure.ThisMachine(b)
		cells := newStage(b, measure.Int(b, serversVariable, 100))
		rounds, duration := measure.Int(b, roundsVariable, 9), measure.Duration(b, durationVariable, time.Second)
		for range rounds {
			for _, c := range cells.all {
				cells.run(b, c, duration)
			}
		}
		publish(b, machine, cells.all)
	}
}

// TestEveryListOfTheBenchmarkIsWhole is its short form. How long a list takes is not looked at.
func TestEveryListOfTheBenchmarkIsWhole(t *testing.T) {
	s := newStage(t, 3)
	for _, c := range s.all {
		s.run(t, c, time.Millisecond)
		require.Len(t, c.times, 1)
	}
	require.Contains(t, tableOf(s.all), enforce)
}

// stage has the lists of three clients, at both endpoints of one gateway.
type stage struct {
	*harness.Harness
	load *measure.Load
	all  []*cell
}

func newStage(t testing.TB, servers int) *stage {
	t.Helper()
	h := harness.New(t)
	rig := measure.NewRig(t, h.Dir)
	upstream := rig.Upstream()
	s := &stage{Harness: h, load: rig.Load()}
	approvals := approvalsOf(t, h, "http://"+upstream.Address+"/fifty")
	plain, pinned := make([]string, servers), make([]string, servers)
	for i := range servers {
		plain[i], pinned[i] = fmt.Sprintf("plain-%d", i), fmt.Sprintf("pinned-%d", i)
		url := fmt.Sprintf("http://%s/fifty/%d", upstream.Address, i)
		h.Write("mcp/servers/"+plain[i], harness.Map{"transport": "http", "url": url})
		h.Write("mcp/servers/"+pinned[i], harness.Map{"transport": "http", "url": url, "pin": "enforce", "pin_kinds": "tool"})
		h.Write("mcp/pins/"+pinned[i], harness.Map{"definitions": approvals})
	}
	gateway := h.StartGateway(harness.GatewayOptions{})
	tokens := map[string]string{
		nothing: h.CreateClient("free", harness.Map{"allowed_servers": plain}),
		rules:   h.CreateClient("ruled", harness.Map{"allowed_servers": plain, "denied_tools": "*/hidden*"}),
		enforce: h.CreateClient("pinned", harness.Map{"allowed_servers": pinned}),
	}
	for _, at := range []struct {
		endpoint string
		tools    int
	}{{"/servers/{name}/mcp", tools}, {"/mcp", tools * servers}} {
		first := len(s.all)
		for _, what := range []string{nothing, rules, enforce} {
			c := &cell{What: what, Endpoint: at.endpoint, token: tokens[what], tools: at.tools, place: measure.Place{Address: measure.Host(gateway), Path: "/mcp"}}
			if at.tools == tools && at.endpoint != "/mcp" {
				c.place.Path = "/servers/" + map[bool]string{true: pinned[0], false: plain[0]}[what == enforce] + "/mcp"
			}
			s.all = append(s.all, c)
			c.plain, c.ruled = s.all[first], s.all[min(first+1, len(s.all)-1)]
			h.Eventually("the whole list is there", func() error { return s.whole(c) })
		}
	}
	return s
}

// approvalsOf approves the lists of the rig.
func approvalsOf(t testing.TB, h *harness.Harness, url string) (approvals []harness.Map) {
	t.Helper()
	var answer struct {
		Result struct{ Tools []json.RawMessage }
	}
	require.NoError(t, json.Unmarshal([]byte(h.Do(http.MethodPost, url, "", http.Header{}, measure.ListMessage).Body), &answer))
	require.Len(t, answer.Result.Tools, tools)
	for _, text := range answer.Result.Tools {
		d, err := pin.Read(pin.Tool, text)
		require.NoError(t, err)
		approvals = append(approvals, harness.Map{"kind": "tool", "name": d.Name, "digest": d.Digest.String()})
	}
	return approvals
}

// whole is nil if the list has every tool.
func (s *stage) whole(c *cell) error {
	answer := s.Do(http.MethodPost, "http://"+c.place.Address+c.place.Path, c.token, http.Header{
		"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"},
		"Mcp-Protocol-Version": {harness.StatelessEra}, "Mcp-Method": {"tools/list"},
	}, measure.ListMessage)
	if n := strings.Count(answer.Body, `"inputSchema"`); answer.Status != http.StatusOK || n != c.tools {
		return fmt.Errorf("status %d, %d tools of %d: %.300s", answer.Status, n, c.tools, answer.Body)
	}
	return nil
}

// run measures one list for a while, over one connection.
func (s *stage) run(t testing.TB, c *cell, duration time.Duration) {
	t.Helper()
	loaded := s.load.Run(c.What+" at "+c.Endpoint, &job.Load{
		Address: c.place.Address, Requests: [][]byte{measure.List(c.place, c.token)}, Connections: 1, Duration: duration, Status: 200, Contains: "tool_49",
	})
	c.times = append(c.times, float64(loaded.P50)/float64(time.Microsecond))
}

func tableOf(cells []*cell) string {
	var b strings.Builder
	b.WriteString("| list | tools | judged by | p50 µs | beside nothing | beside rules |\n|---|---:|---|---:|---:|---:|\n")
	for _, c := range cells {
		c.P50, c.Plain, c.Ruled = report.SpreadOf(c.times), c.beside(c.plain), c.beside(c.ruled)
		fmt.Fprintf(&b, "| `%s` | %d | %s | %.0f [%.0f–%.0f] | %s | %s |\n", c.Endpoint, c.tools, c.What, c.P50.Median, c.P50.Min, c.P50.Max,
			ratio(c.Plain, c == c.plain), ratio(c.Ruled, c == c.plain || c == c.ruled))
	}
	return b.String()
}

// beside is how many times as long as the other the cell takes.
func (c *cell) beside(other *cell) report.Spread {
	var ratios []float64
	for i := range min(len(c.times), len(other.times)) {
		ratios = append(ratios, c.times[i]/other.times[i])
	}
	return report.SpreadOf(ratios)
}

func ratio(s report.Spread, itself bool) string {
	if itself {
		return ""
	}
	return fmt.Sprintf("%.2f [%.2f–%.2f]", s.Median, s.Min, s.Max)
}

func publish(t testing.TB, machine report.Machine, cells []*cell) {
	t.Helper()
	measure.Publish(t, "lists", machine, tableOf(cells), cells)
}
