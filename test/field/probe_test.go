package field

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
)

// calculator is a server that answers calls without a session.
const calculator = "calculator"

// probe calls a tool through an edge again and again, and records the failures.
type probe struct {
	name   string
	client *http.Client
	url    string
	token  string
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu       sync.Mutex
	sent     int
	longest  time.Duration
	failures []error
}

// probe starts one. Each of its requests goes to its end.
func (c *company) probe(t *testing.T, edge, token string) *probe {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	transport := &http.Transport{ForceAttemptHTTP2: true}
	p := &probe{
		name: edge, client: &http.Client{Transport: transport, Timeout: patience},
		url: edge + "/servers/" + calculator + "/mcp", token: token, cancel: cancel,
	}
	p.done.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			sent := time.Now()
			status, err := p.call(context.WithoutCancel(ctx))
			if err == nil && status != http.StatusOK {
				err = fmt.Errorf("answered %d", status)
			}
			p.mu.Lock()
			p.sent++
			p.longest = max(p.longest, time.Since(sent))
			if err != nil {
				p.failures = append(p.failures, fmt.Errorf("request %d, after %s: %w", p.sent, time.Since(sent), err))
			}
			p.mu.Unlock()
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	})
	t.Cleanup(func() {
		p.stop()
		transport.CloseIdleConnections()
	})
	return p
}

// call calls the tool once. Its error is that of an answer which is none.
func (p *probe) call(ctx context.Context) (status int, err error) {
	status, _, err = harness.Add(ctx, p.client, p.url, p.token)
	return status, err
}

// becomes waits until calls are answered with a status, and returns how long it took.
func (p *probe) becomes(t *testing.T, status int, within time.Duration) time.Duration {
	t.Helper()
	started := time.Now()
	for {
		got, err := p.call(t.Context())
		if err == nil && got == status {
			return time.Since(started)
		}
		if time.Since(started) > within {
			t.Fatalf("at %s it is answered %d after %s, not %d: %v", p.name, got, within, status, err)
		}
		<-time.After(50 * time.Millisecond)
	}
}

func (p *probe) stop() {
	p.cancel()
	p.done.Wait()
}

// neverFailed ends the probe, and fails the test where a request was not answered well.
func (p *probe) neverFailed(t *testing.T) {
	t.Helper()
	p.stop()
	t.Logf("%s: %d requests, %d failed; the longest took %s", p.name, p.sent, len(p.failures), p.longest.Round(time.Millisecond))
	require.NoError(t, errors.Join(p.failures...))
}

// silence is a stream of a session on which nothing is said.
type silence struct {
	name   string
	opened chan time.Time
	ended  chan error // how it ended, when it has
}

// begins begins a session, and returns the headers of its requests.
func (c *company) begins(t *testing.T, url, token string) http.Header {
	t.Helper()
	header := http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"}, "Mcp-Protocol-Version": {harness.SessionEra}}
	got := c.Do(http.MethodPost, url, token, header, `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"`+harness.SessionEra+
		`","capabilities":{},"clientInfo":{"name":"field","version":"1"}}}`)
	require.Equal(t, http.StatusOK, got.Status, got.Body)
	header["Mcp-Session-Id"] = got.Header["Mcp-Session-Id"]
	require.NotEmpty(t, header["Mcp-Session-Id"])
	got = c.Do(http.MethodPost, url, token, header, `{"jsonrpc":"2.0","method":"notifications/initialized"}`)
	require.Less(t, got.Status, 300, got.Body)
	return header
}

// listens opens a session and its stream, as clients do that want to hear of changes.
func (c *company) listens(t *testing.T, client, url string) *silence {
	t.Helper()
	token := c.CreateClient(client, harness.Map{"allowed_servers": "everything"})
	header := c.begins(t, url, token)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	require.NoError(t, err)
	request.Header = header
	request.Header.Set("Authorization", "Bearer "+token)
	transport := &http.Transport{ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	s := &silence{name: client, opened: make(chan time.Time, 1), ended: make(chan error, 1)}
	go func() {
		response, err := transport.RoundTrip(request)
		if err != nil {
			s.ended <- err
			return
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			s.ended <- fmt.Errorf("it is answered %s", response.Status)
			return
		}
		s.opened <- time.Now()
		lines := bufio.NewScanner(response.Body)
		for lines.Scan() {
		}
		s.ended <- lines.Err()
	}()
	return s
}

// lasted fails the test where the stream has ended before it was open for longer than
// the proxies on the way bear silence; and where it does not end with its token.
func (s *silence) lasted(t *testing.T, c *company) {
	t.Helper()
	var opened time.Time
	select {
	case opened = <-s.opened:
	case err := <-s.ended:
		t.Fatalf("the stream %s did not open: %v", s.name, err)
	case <-time.After(patience):
		t.Fatalf("the stream %s is not open", s.name)
	}
	select {
	case err := <-s.ended:
		t.Fatalf("the stream %s ended after less than %s: %v", s.name, time.Since(opened).Round(time.Second), err)
	case <-time.After(time.Until(opened.Add(65 * time.Second))):
	}
	t.Logf("the stream %s is open after %s", s.name, time.Since(opened).Round(time.Second))
	c.Write("mcp/revoke-client/"+s.name, nil)
	select {
	case err := <-s.ended:
		t.Logf("it ends with its token: %v", err)
	case <-time.After(promised):
		t.Fatalf("the stream %s outlives its token", s.name)
	}
}
