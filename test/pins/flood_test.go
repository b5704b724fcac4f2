package pins

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/pin"
	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/stage"
)

// floodVariable sets for how long a server shows ten thousand other definitions a minute. `make
// test-pins` sets a minute, and has the machine for itself: then nobody else may be slower.
const floodVariable = "PINS_FLOOD"

// Ten thousand definitions a minute come as lists of so many, as often as that. The short form
// has as many as fast as they come.
const (
	floodTools  = 500
	floodEvery  = time.Minute * floodTools / 10_000
	shortFloods = 5
)

// Bounds of the reports that an engine keeps, and of a gateway's requests.
const (
	maxReported        = 256
	maxReportedOfAName = 4
	reportsASecond     = 1
)

// flooding is a server that never says the same twice: of one tool, and of others that it
// invents.
func flooding() func(*question) *says {
	var turn atomic.Int64
	return func(*question) *says {
		n := turn.Add(1)
		a := saying(all(good))
		entries := make([]string, 0, floodTools)
		for i := range floodTools {
			name := toolName
			if i%2 == 0 {
				name = fmt.Sprintf("tool-%d-%d", n, i)
			}
			entries = append(entries, fmt.Sprintf(`{"name":%q,"description":"%d-%d %s","inputSchema":{"type":"object"}}`, name, n, i, strings.Repeat("x", 200)))
		}
		return a.with(pin.Tool, entries...)
	}
}

// aFloodIsBounded has a server that changes all the time, and another one beside it.
func aFloodIsBounded(t *testing.T, s *pinned) {
	t.Helper()
	every, lasts, long := time.Duration(0), time.Duration(0), os.Getenv(floodVariable) != ""
	if long {
		var err error
		lasts, err = time.ParseDuration(os.Getenv(floodVariable))
		require.NoError(t, err, floodVariable)
		every = floodEvery
	}
	server, calm := newHostile(saying(all(good))), newHostile(saying(all(good)))
	s.register("flood", s.start(server), inJSON, harness.Map{"pin": "observe"})
	s.register("calm", s.start(calm), inJSON, harness.Map{"pin": "enforce"})
	s.approve("calm", all(good)...)
	path := stage.Path{Era: harness.StatelessEra, At: stage.Single}
	flood := s.caller(t, path, "flood", s.CreateClient("flood", harness.Map{"allowed_servers": "flood"}))
	other := s.caller(t, path, "calm", s.CreateClient("calm", harness.Map{"allowed_servers": "calm"}))
	flood.gateway, other.gateway = s.gateways[1], s.gateways[1] // which has had little to report until now
	s.Eventually("the gateway knows the servers", func() error { return errors.Join(registered(flood), registered(other)) })
	s.Eventually("the approved text is shown", func() error { return other.shows(true) })

	before := other.times(20)
	server.saysBy(flooding())
	started, shown := time.Now(), 0
	var meanwhile []time.Duration
	for lists := 0; lists < shortFloods || time.Since(started) < lasts; lists++ {
		shown += strings.Count(flood.sees(pin.Tool), `"inputSchema"`)
		meanwhile = append(meanwhile, other.times(5)...)
		<-time.After(time.Until(started.Add(time.Duration(lists+1) * every)))
	}
	took := time.Since(started)
	t.Logf("%d other definitions in %s; a list of another server took %s before and %s meanwhile at the median",
		shown, took.Round(time.Millisecond), median(before), median(meanwhile))
	if long && median(meanwhile) > 2*median(before)+5*time.Millisecond {
		t.Errorf("a list of another server took %s, and %s before", median(meanwhile), median(before))
	}

	// A new definition of another server is reported, flood or not.
	calm.says(saying(all(bad)))
	require.NoError(t, other.shows(false))
	row := definitionOf(pin.Tool, bad).row()
	s.Within(10*time.Second, "the other server's new definition is reported", func() error {
		if s.reported("calm")[row] != "changed" {
			return fmt.Errorf("reported: %v", s.reported("calm"))
		}
		return nil
	})
	s.Eventually("the flood is reported, as far as there is room", func() error {
		read := s.Read("mcp/pins/flood")
		if lost, err := number(read["lost"]); err != nil || lost == 0 {
			return fmt.Errorf("lost: %v", read["lost"])
		}
		return nil
	})
	rows := s.reported("flood")
	require.LessOrEqual(t, len(rows), maxReported)
	ofOne := 0
	for row := range rows {
		if strings.HasPrefix(row, "tool "+toolName+" ") {
			ofOne++
		}
	}
	require.LessOrEqual(t, ofOne, maxReportedOfAName)
	require.Regexp(t, `mcp_gateway_pins_lost_total [1-9]`, s.gateways[1].Metrics())
	asked := s.reportsSince(t, started)
	require.LessOrEqual(t, asked, (int(time.Since(started)/time.Second)+2)*reportsASecond*len(s.gateways), "reports to Vault")
	t.Logf("Vault keeps %d of them, and got %d reports", len(rows), asked)
}

// times are those of so many lists.
func (c *caller) times(n int) (times []time.Duration) {
	c.t.Helper()
	for range n {
		began := time.Now()
		if err := c.shows(true); err != nil {
			c.t.Fatal(err)
		}
		times = append(times, time.Since(began))
	}
	return times
}

func median(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[len(times)/2]
}

func number(value any) (int64, error) {
	n, ok := value.(json.Number)
	if !ok {
		return 0, fmt.Errorf("%v is not a number", value)
	}
	return n.Int64()
}

// reportsSince counts the reports of gateways in Vault's audit log.
func (s *pinned) reportsSince(t *testing.T, since time.Time) (n int) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(s.Dir, "vault-audit.log"))
	require.NoError(t, err)
	for line := range bytes.Lines(content) {
		var entry struct {
			Type    string
			Time    time.Time
			Request struct{ Path, Operation string }
		}
		if json.Unmarshal(line, &entry) != nil {
			continue // it is being written
		}
		if entry.Type == "request" && entry.Request.Operation == "update" && strings.HasPrefix(entry.Request.Path, "mcp/gateway/pins/") && entry.Time.After(since) {
			n++
		}
	}
	return n
}
