package partition

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/history"
)

// probePace is the time between a probe's requests.
const probePace = 100 * time.Millisecond

// probe calls the tool at a gateway with one token, again and again.
type probe struct {
	bed    *bed
	client *http.Client
	url    string
	token  string
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu      sync.Mutex
	reading history.Reading
}

// probe makes a client with a token, and starts a probe of it once the gateway knows it.
func (b *bed) probe(t *testing.T, g *harness.Gateway, name string) *probe {
	t.Helper()
	p := b.stranger(t, g, name)
	p.becomes(t, http.StatusOK, patience)
	ctx, cancel := context.WithCancel(t.Context())
	p.cancel = cancel
	p.done.Go(func() {
		tick := time.NewTicker(probePace)
		defer tick.Stop()
		for {
			p.call()
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	})
	t.Cleanup(p.stop)
	return p
}

// stranger makes a client with a token that no gateway has seen yet.
func (b *bed) stranger(t *testing.T, g *harness.Gateway, name string) *probe {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &probe{
		bed: b, client: &http.Client{Transport: transport, Timeout: 10 * time.Second}, url: g.ServerURL(calculator),
		token: b.client(t, name), cancel: func() {}, reading: history.Reading{Token: name},
	}
}

// call calls the tool once, and notes the answer. A call goes to its end: nothing is lost by
// stopping.
func (p *probe) call() history.Answer {
	a := history.Answer{Sent: time.Now()}
	a.Status, a.RetryAfter, a.Err = harness.Add(context.Background(), p.client, p.url, p.token)
	if a.Came = time.Now(); a.Err != nil {
		a.Status, a.RetryAfter = 0, ""
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reading.Answers = append(p.reading.Answers, a)
	return a
}

// becomes waits until calls are answered with a status, and returns how long that took.
func (p *probe) becomes(t *testing.T, status int, within time.Duration) time.Duration {
	t.Helper()
	started := time.Now()
	p.bed.Within(within, fmt.Sprintf("%s is answered %d", p.reading.Token, status), func() error {
		if a := p.call(); a.Status != status {
			<-time.After(probePace / 2) // it is no flood
			return fmt.Errorf("it is answered %d after %s: %w", a.Status, a.Came.Sub(a.Sent), a.Err)
		}
		return nil
	})
	return time.Since(started)
}

// revoke has a node of Vault revoke the probe's client.
func (p *probe) revoke(t *testing.T, node *harness.Node) {
	t.Helper()
	p.bed.Within(patience, "a revocation is answered", func() error { return p.tryRevoke(t, node) })
}

// tryRevoke is revoke that may get no answer.
func (p *probe) tryRevoke(t *testing.T, node *harness.Node) error {
	t.Helper()
	vault := node.Client()
	vault.SetClientTimeout(workTimeout)
	p.mu.Lock()
	if p.reading.EndAsked.IsZero() {
		p.reading.EndAsked = time.Now()
	}
	p.mu.Unlock()
	_, err := vault.Logical().WriteWithContext(t.Context(), "mcp/revoke-client/"+p.reading.Token, nil)
	if err == nil {
		p.mu.Lock()
		p.reading.EndAnswered = time.Now()
		p.mu.Unlock()
	}
	return err
}

func (p *probe) stop() {
	p.cancel()
	p.done.Wait()
}

// keeps ends probes, and fails the test where the gateway has not kept its promise to one.
func keeps(t *testing.T, promise *history.Promise, probes ...*probe) {
	t.Helper()
	promise.Bound, promise.MaxStale, promise.Wait, promise.Back, promise.Slack = bound, maxStale, wait, back, slack
	answers := map[int]int{}
	for _, p := range probes {
		p.stop()
		if err := promise.Judge(&p.reading); err != nil {
			t.Error(err)
		}
		for _, a := range p.reading.Answers {
			answers[a.Status]++
		}
	}
	t.Logf("the answers, by their status: %v", answers)
}
