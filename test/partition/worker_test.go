package partition

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/history"
)

const (
	// workPace is the time between a worker's requests.
	workPace = 40 * time.Millisecond

	// workTimeout is when it gives a request up.
	workTimeout = time.Second

	// noticeable is how long a node takes only where it has nobody to ask, or the machine is
	// as good as stopped.
	noticeable = 500 * time.Millisecond

	// poolSize is how many clients all workers share.
	poolSize = 4
)

// worker sends requests to the engine at one node of Vault, and records the answers.
type worker struct {
	number int
	vault  *api.Client
	book   *history.Book
	pool   *pool
	random *rand.Rand

	mu   sync.Mutex
	away []history.Span // when the node did not answer
	from time.Time      // since when it does not; zero: it does
}

// pool are the clients that workers share, with the tokens that they were answered.
type pool struct {
	mu      sync.Mutex
	made    int
	clients []*shared
	tokens  []string // of clients that are not used any more, too
}

// shared is one of these clients.
type shared struct {
	name   string
	tokens []string
}

// startWorkers has one worker at each node ask until the test ends, or stop is called.
func (b *bed) startWorkers(t *testing.T, seed uint64) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var working sync.WaitGroup
	p := &pool{}
	for i, node := range b.Vault.Nodes {
		vault := node.Client()
		vault.SetClientTimeout(workTimeout)
		w := &worker{number: i, vault: vault, book: b.book, pool: p, random: rand.New(rand.NewPCG(seed, uint64(i)))}
		b.workers = append(b.workers, w)
		working.Go(func() { w.work(ctx, b.Harness) })
	}
	stop = func() {
		cancel()
		working.Wait()
	}
	t.Cleanup(stop)
	return stop
}

func (w *worker) work(ctx context.Context, h *harness.Harness) {
	tick := time.NewTicker(workPace)
	defer tick.Stop()
	for {
		w.step(ctx, h)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// step asks one thing by chance. While its node does not answer, a worker only looks: each
// request that may have been done, or not, makes an order harder to find.
func (w *worker) step(ctx context.Context, h *harness.Harness) {
	c, token := w.choose()
	chance := w.random.IntN(100)
	switch {
	case token != "" && (chance < 70 || w.isAway()):
		w.ask(ctx, h, nil, "lookup", harness.Map{"token": token})
	case token == "" || c == nil:
		w.create(ctx, h)
	case chance < 80:
		w.ask(ctx, h, c, "rotate-client/"+c.name, harness.Map{"grace_period": 0})
	case chance < 86:
		w.ask(ctx, h, c, "rotate-client/"+c.name, harness.Map{"grace_period": "1h"})
	case chance < 90:
		w.ask(ctx, h, c, "creds/"+c.name, harness.Map{"ttl": "1h"})
	case chance < 97:
		w.ask(ctx, h, c, "revoke", harness.Map{"token": token})
	default:
		w.ask(ctx, h, c, "revoke-client/"+c.name, nil)
	}
}

// choose returns a client, nil if there are too few, and a token: mostly one of the client's
// newest, since those of others have ended.
func (w *worker) choose() (*shared, string) {
	w.pool.mu.Lock()
	defer w.pool.mu.Unlock()
	var c *shared
	from := w.pool.tokens
	if len(w.pool.clients) >= poolSize {
		c = w.pool.clients[w.random.IntN(len(w.pool.clients))]
		if len(c.tokens) > 0 && w.random.IntN(10) > 0 {
			from = c.tokens[max(0, len(c.tokens)-3):]
		}
	}
	if len(from) == 0 {
		return c, ""
	}
	return c, from[w.random.IntN(len(from))]
}

func (w *worker) create(ctx context.Context, h *harness.Harness) {
	w.pool.mu.Lock()
	w.pool.made++
	c := &shared{name: fmt.Sprint("shared-", w.pool.made)}
	w.pool.clients = append(w.pool.clients, c)
	w.pool.mu.Unlock()
	w.ask(ctx, h, c, "clients/"+c.name, harness.Map{"allowed_servers": calculator})
}

// ask sends one request. A client is not used any more once a request about it was lost.
func (w *worker) ask(ctx context.Context, h *harness.Harness, c *shared, path string, data harness.Map) {
	asked := w.book.Ask(w.number, path, data, false)
	sent := time.Now()
	secret, err := w.vault.Logical().WriteWithContext(context.WithoutCancel(ctx), harness.Mount+"/"+path, data)
	w.note(sent, err)
	if err != nil {
		asked.Lost()
		if c != nil {
			w.pool.forget(c)
		}
		return
	}
	var answer harness.Map
	if secret != nil {
		answer = secret.Data
		if secret.LeaseID != "" {
			answer["lease"] = secret.LeaseID
		}
	}
	token, _ := answer["token"].(string)
	if token != "" && c != nil {
		h.Secret(token)
	}
	asked.Done(answer)
	if token != "" && c != nil {
		w.pool.mu.Lock()
		c.tokens = append(c.tokens, token)
		w.pool.tokens = append(w.pool.tokens, token)
		w.pool.mu.Unlock()
	}
}

// forget has a client not be used any more. Its tokens are.
func (p *pool) forget(c *shared) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clients = slices.DeleteFunc(p.clients, func(other *shared) bool { return other == c })
}

// note learns from a request whether the node answers.
func (w *worker) note(sent time.Time, err error) {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	bad := err != nil || now.Sub(sent) > noticeable
	if bad && w.from.IsZero() {
		w.from = sent.Add(-workPace - slack) // it answered the request before
	}
	if !w.from.IsZero() && (!bad || err == nil) {
		w.away = append(w.away, history.Span{From: w.from, To: now})
		w.from = time.Time{}
	}
}

func (w *worker) isAway() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.from.IsZero()
}

// shaky are the times so far in which the node did not answer.
func (w *worker) shaky() []history.Span {
	w.mu.Lock()
	defer w.mu.Unlock()
	spans := slices.Clone(w.away)
	if !w.from.IsZero() {
		spans = append(spans, history.Span{From: w.from, To: time.Now()})
	}
	return spans
}
