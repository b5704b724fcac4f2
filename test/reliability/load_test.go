package reliability

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vault-plugin-secrets-mcp/test/harness"
)

const (
	loadWorkers  = 8
	loadSessions = 600 // where LOAD_SESSIONS does not say

	// A session that is over may leave so much memory behind, in bytes. It is far
	// less than one that is kept would: each is several kilobytes.
	leftBySession = 512

	// noise is the change of a process's memory without a reason, in MB.
	noise = 20
)

// usage is a gateway's use of resources.
type usage struct {
	goroutines, files, inFlight int
	resident                    float64 // MB
}

// usageOf reads the gateway's metrics.
func usageOf(t *testing.T, g *harness.Gateway) usage {
	t.Helper()
	metrics := g.Metrics()
	value := func(name string) float64 {
		_, after, found := strings.Cut(metrics, "\n"+name+" ")
		text, _, _ := strings.Cut(after, "\n")
		v, err := strconv.ParseFloat(text, 64)
		if err != nil || !found {
			t.Fatalf("the metrics have no %s: %v", name, err)
		}
		return v
	}
	return usage{
		goroutines: int(value("go_goroutines")), files: int(value("process_open_fds")),
		inFlight: int(value("mcp_gateway_requests_in_flight")), resident: value("process_resident_memory_bytes") / (1 << 20),
	}
}

// settled is the least that the gateway uses once it serves nobody.
func (s *stage) settled(t *testing.T, g *harness.Gateway) usage {
	t.Helper()
	var least usage
	idle := 0
	s.Eventually("the gateway is idle", func() error {
		now := usageOf(t, g)
		if now.inFlight > 0 {
			idle = 0
			return fmt.Errorf("it is not: %+v", now)
		}
		if idle++; idle == 1 {
			least = now
		}
		least.goroutines, least.files = min(least.goroutines, now.goroutines), min(least.files, now.files)
		least.resident = min(least.resident, now.resident)
		if idle < 50 {
			return fmt.Errorf("it has just become so: %+v", now)
		}
		return nil
	})
	return least
}

// TestSessionsLeaveNothingBehind opens and closes sessions over HTTP and with a
// child process, some of them with a stream. LOAD_SESSIONS says how many.
func TestSessionsLeaveNothingBehind(t *testing.T) {
	total := loadSessions
	if text := os.Getenv("LOAD_SESSIONS"); text != "" {
		var err error
		if total, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	s := newStage(t)
	s.Write("mcp/servers/counter", harness.Map{"transport": "http", "url": s.StartUpstream(withSessions(counter())).URL})
	s.Write("mcp/servers/notes", harness.Map{"transport": "stdio", "command": s.Programs.Bootstrap, "args": []string{"demo", "notes"}, "shared": true})
	g := s.StartGateway(harness.GatewayOptions{Blocks: map[string]string{"stdio": fmt.Sprintf("allowed_commands = [%q]", s.Programs.Bootstrap)}})
	token := s.CreateClient("c", harness.Map{"allowed_servers": "*"})

	s.introduce(t, token, g)
	openAndClose(t, g, token, total/3)
	before := s.settled(t, g)
	started := time.Now()
	openAndClose(t, g, token, total-total/3)
	took := time.Since(started)
	after := s.settled(t, g)
	t.Logf("%d sessions, %.0f a second: from %+v to %+v", total, float64(total-total/3)/took.Seconds(), before, after)
	if after.goroutines > before.goroutines+8 {
		t.Errorf("the gateway has %d goroutines, and had %d", after.goroutines, before.goroutines)
	}
	if after.files > before.files+8 {
		t.Errorf("the gateway has %d files open, and had %d", after.files, before.files)
	}
	if most := before.resident + noise*weight(t, s.Programs.Gateway) + float64(total*leftBySession)/(1<<20); after.resident > most {
		t.Errorf("the gateway has %.0f MB in memory, and had %.0f", after.resident, before.resident)
	}
}

// openAndClose has workers open and close so many sessions.
func openAndClose(t *testing.T, g *harness.Gateway, token string, count int) {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: loadWorkers}
	defer transport.CloseIdleConnections()
	var next atomic.Int64
	var workers sync.WaitGroup
	for range loadWorkers {
		workers.Go(func() {
			for {
				i := int(next.Add(1))
				if i > count || t.Failed() {
					return
				}
				url := g.ServerURL("counter")
				if i%2 == 0 {
					url = g.ServerURL("notes")
				}
				if err := oneSession(t.Context(), transport, url, token, i%10 < 2); err != nil {
					t.Errorf("session %d: %v", i, err)
				}
			}
		})
	}
	workers.Wait()
}

// oneSession opens a session, uses it, and ends it.
func oneSession(ctx context.Context, transport *http.Transport, url, token string, listens bool) error {
	session, err := step(ctx, transport, http.MethodPost, url, token, "", initialize, http.StatusOK)
	if err != nil {
		return err
	}
	if _, err = step(ctx, transport, http.MethodPost, url, token, session, `{"jsonrpc":"2.0","method":"notifications/initialized"}`, http.StatusAccepted); err != nil {
		return err
	}
	if listens {
		listening, cancel := context.WithCancel(ctx)
		if err := open(listening, transport, url, token, session); err != nil {
			cancel()
			return err
		}
		defer cancel()
	}
	if _, err = step(ctx, transport, http.MethodPost, url, token, session, `{"jsonrpc":"2.0","id":2,"method":"tools/list"}`, http.StatusOK); err != nil {
		return err
	}
	_, err = step(ctx, transport, http.MethodDelete, url, token, session, "", http.StatusNoContent)
	return err
}
