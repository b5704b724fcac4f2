package reliability

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vault-plugin-secrets-mcp/test/harness"
)

const (
	flood        = 10_000 // tokens, no two the same
	floodClients = 16     // that send them at the same time
)

// The limits of the gateway, lower than by default for all sources together, so
// that a machine of any speed is beyond them; and how many sources its audit log
// tells apart within a second.
const (
	coldRate, coldBurst             = 50, 200
	coldSourceRate, coldSourceBurst = 20, 100
	auditSources                    = 256
)

// TestAFloodOfBadTokens sends ten thousand tokens in good form that nobody has
// issued, from one address and then from as many. Vault is asked as often as the
// limits say, the audit log tells of it in few lines, and who has a known token
// does not notice.
func TestAFloodOfBadTokens(t *testing.T) {
	s := newStage(t)
	g := s.StartGateway(harness.GatewayOptions{Blocks: map[string]string{
		"listener": "trusted_proxies = [\"127.0.0.1\"]",
		"grants":   fmt.Sprintf("cold_rate = %d\ncold_burst = %d", coldRate, coldBurst),
	}})
	c := newCaller(t, g)
	known := s.client("known")
	s.becomes(t, c, known, http.StatusOK, impatience)
	// The same traffic without its meaning: one bad token, which is remembered.
	control := c.probe(t, "a known token beside one bad token", known)
	token := harness.UnissuedToken(t)
	sendFlood(t, g, func() string { return token }, func(int) netip.Addr { return netip.MustParseAddr("192.0.2.1") })
	control.stop()
	control.neverFailed(t)

	one := netip.MustParseAddr("198.51.100.7")
	many := netip.MustParseAddr("203.0.113.1")
	// The client with a valid token is local, and so is a new client that is refused for a
	// moment.
	flooding := func(line harness.Map) bool { return line["source"] != "127.0.0.1" }
	s.everyRefusalIsSaid(g, 0, flooding)
	for _, test := range []struct {
		name        string
		source      func(int) netip.Addr
		rate, burst int
		sources     int // told apart in the audit log
	}{
		{"from one address", func(int) netip.Addr { return one }, coldSourceRate, coldSourceBurst, 1},
		{"from an address each", func(int) netip.Addr { many = many.Next(); return many }, coldRate, coldBurst, auditSources + 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := s.in(t)
			asked, lines := s.lookups(t), len(g.Audit())
			p := c.probe(t, "a known token meanwhile", known)
			started := time.Now()
			statuses := sendFlood(t, g, func() string { return harness.UnissuedToken(t) }, test.source)
			took := time.Since(started)
			asked = s.lookups(t) - asked
			if test.sources == 1 {
				// Others do not belong to it.
				s.becomes(t, c, s.client("newcomer"), http.StatusOK, impatience)
			}
			p.stop()
			refusals := s.everyRefusalIsSaid(g, lines, flooding)
			t.Logf("%d bad tokens in %s: %v; Vault was asked %d times, and the audit log has %d lines about it",
				flood, took.Round(10*time.Millisecond), statuses, asked, refusals)
			before, meanwhile := percentile(control, 50), percentile(p, 50)
			t.Logf("a known token took %s, %s at the 99th percentile; beside as many requests with one bad token %s and %s",
				meanwhile, percentile(p, 99), before, percentile(control, 99))
			if meanwhile > 3*before+10*time.Millisecond {
				t.Errorf("a known token took %s, and %s beside as many requests with one bad token", meanwhile, before)
			}
			p.neverFailed(t)
			seconds := int(took/time.Second) + 1
			if most := test.burst + test.rate*seconds; asked > most {
				t.Errorf("Vault was asked %d times, where the limits allow %d", asked, most)
			}
			// One line a second for each source and reason: no token, the limit, and Vault's
			// silence, each of which is a status.
			if most := len(statuses) * test.sources * (seconds + 1); refusals == 0 || refusals > most {
				t.Errorf("the audit log has %d lines about it, where there may be %d", refusals, most)
			}
			if statuses[http.StatusUnauthorized]+statuses[http.StatusTooManyRequests]+statuses[http.StatusServiceUnavailable] != flood {
				t.Errorf("the answers were %v", statuses)
			}
		})
	}
}

// everyRefusalIsSaid waits until the lines of the audit log after the first ones,
// as far as they are about the flood, count as many refusals as it has tokens, and
// returns how many lines that are.
func (s *stage) everyRefusalIsSaid(g *harness.Gateway, after int, flooding func(harness.Map) bool) (lines int) {
	s.Within(impatience, "every refusal is in the audit log", func() error {
		lines = 0
		said := 0.0
		for _, line := range g.Audit()[after:] {
			if line["type"] == "refusals" && flooding(line) {
				lines++
				said += line["count"].(float64)
			}
		}
		if said != flood {
			return fmt.Errorf("%v of %d refusals are in it", said, flood)
		}
		return nil
	})
	return lines
}

// sendFlood sends as many tokens, each from its source, and counts the answers.
func sendFlood(t *testing.T, g *harness.Gateway, token func() string, source func(int) netip.Addr) map[int]int {
	t.Helper()
	type drop struct{ token, source string }
	drops := make([]drop, flood)
	for i := range drops {
		drops[i] = drop{token(), source(i).String()}
	}
	transport := &http.Transport{MaxIdleConnsPerHost: floodClients}
	defer transport.CloseIdleConnections()
	var next atomic.Int64
	var mu sync.Mutex
	statuses := map[int]int{}
	var senders sync.WaitGroup
	for range floodClients {
		senders.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= flood {
					return
				}
				status, err := sendDrop(t.Context(), transport, g.ServerURL(calculator), drops[i].token, drops[i].source)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				statuses[status]++
				mu.Unlock()
			}
		})
	}
	senders.Wait()
	return statuses
}

func sendDrop(ctx context.Context, transport *http.Transport, url, token, source string) (int, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"ping"}`))
	if err != nil {
		return 0, err
	}
	for name, value := range map[string]string{
		"Authorization": "Bearer " + token, "Content-Type": "application/json", "Accept": "application/json, text/event-stream",
		"X-Forwarded-For": source,
	} {
		request.Header.Set(name, value)
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return response.StatusCode, err
}

// lookups is how often Vault was asked about a token, by its own audit log.
func (s *stage) lookups(t *testing.T) int {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(s.Dir, "vault-audit.log"))
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	for line := range bytes.Lines(content) {
		if bytes.Contains(line, []byte(`"path":"mcp/lookup"`)) && bytes.Contains(line, []byte(`"type":"response"`)) {
			asked++
		}
	}
	return asked
}

// percentile is of the times that a probe's requests took.
func percentile(p *probe, percent int) time.Duration {
	var took []time.Duration
	for _, a := range p.all() {
		took = append(took, a.took)
	}
	slices.Sort(took)
	return took[len(took)*percent/100].Round(100 * time.Microsecond)
}
