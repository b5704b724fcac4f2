package reliability

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"vault-plugin-secrets-mcp/test/harness"
)

const (
	// pace is the time between a probe's requests.
	pace = 50 * time.Millisecond

	// impatience is when a client has waited too long for any answer.
	impatience = 10 * time.Second
)

// answer is the answer to one request of a client.
type answer struct {
	sent       time.Time
	took       time.Duration
	status     int // 0: none
	retryAfter string
	err        error
}

// caller is a client that calls a tool at one server through one gateway.
type caller struct {
	client *http.Client
	url    string
}

func newCaller(t *testing.T, g *harness.Gateway) *caller {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(transport.CloseIdleConnections)
	return &caller{client: &http.Client{Transport: transport, Timeout: impatience}, url: g.ServerURL(calculator)}
}

// call calls the tool once.
func (c *caller) call(ctx context.Context, token string) answer {
	a := answer{sent: time.Now()}
	a.status, a.retryAfter, a.err = harness.Add(ctx, c.client, c.url, token)
	a.took = time.Since(a.sent)
	return a
}

// decided calls the tool until the gateway can decide about the token, as
// harness.Patient does, for one call.
func (c *caller) decided(ctx context.Context, token string) answer {
	for end := time.Now().Add(impatience); ; {
		a := c.call(ctx, token)
		if !harness.Undecided(a.status, a.retryAfter, a.took) || time.Now().After(end) {
			return a
		}
	}
}

// probe calls the tool again and again, and keeps every answer.
type probe struct {
	name   string
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu      sync.Mutex
	answers []answer
}

func (c *caller) probe(t *testing.T, name, token string) *probe {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	p := &probe{name: name, cancel: cancel}
	p.done.Go(func() {
		tick := time.NewTicker(pace)
		defer tick.Stop()
		for {
			// Each request goes to its end: nothing is lost by stopping.
			a := c.call(context.WithoutCancel(ctx), token)
			p.mu.Lock()
			p.answers = append(p.answers, a)
			p.mu.Unlock()
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

func (p *probe) stop() {
	p.cancel()
	p.done.Wait()
}

// all are the answers so far.
func (p *probe) all() []answer {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]answer(nil), p.answers...)
}

// neverFailed fails the test where a request was not answered with 200.
func (p *probe) neverFailed(t *testing.T) {
	t.Helper()
	var longest time.Duration
	answers := p.all()
	for _, a := range answers {
		if a.status != http.StatusOK || a.err != nil {
			t.Errorf("%s: a request was answered %d after %s: %v", p.name, a.status, a.took, a.err)
			return
		}
		longest = max(longest, a.took)
	}
	t.Logf("%s: %d requests, none failed; the longest took %s", p.name, len(answers), longest.Round(time.Millisecond))
}

// outcome is a probe's view of an outage.
type outcome struct {
	lastGood   time.Time // sending of the last 200 before the first failure
	firstBad   time.Time // zero: there was none
	recovered  time.Time // sending of the first 200 after the last failure
	slowest    time.Duration
	bad, total int
}

// outcome wants every answer to be 200, or 503 with Retry-After: never a
// refusal, and never none. The first that fails may be cut in mid-answer.
func (p *probe) outcome(t *testing.T) outcome {
	t.Helper()
	var o outcome
	for _, a := range p.all() {
		o.total++
		o.slowest = max(o.slowest, a.took)
		switch {
		case a.status == http.StatusOK && a.err == nil:
			if o.bad == 0 {
				o.lastGood = a.sent
			}
			if o.recovered.IsZero() {
				o.recovered = a.sent
			}
		case a.status == http.StatusServiceUnavailable && a.retryAfter != "":
			if o.bad == 0 {
				o.firstBad = a.sent
			}
			o.bad++
			o.recovered = time.Time{}
		case a.status == http.StatusOK && errors.Is(a.err, io.ErrUnexpectedEOF) && o.bad == 0:
			o.firstBad = a.sent // it was in flight when max_stale ended: docs/reliability.md
			o.bad++
			o.recovered = time.Time{}
		default:
			t.Errorf("%s: a request was answered %d, Retry-After %q: %v", p.name, a.status, a.retryAfter, a.err)
			return o
		}
	}
	return o
}

// since is how much later one time is than another, to be read.
func since(later, earlier time.Time) time.Duration {
	return later.Sub(earlier).Round(10 * time.Millisecond)
}
