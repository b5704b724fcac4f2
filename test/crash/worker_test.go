package crash

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/history"
)

// maxClients is how many clients a worker has at a time.
const maxClients = 4

// worker does one thing after the other to clients of its own, and compares the answers
// with its own records.
type worker struct {
	t       *testing.T
	h       *harness.Harness
	vault   *api.Client
	random  *rand.Rand
	ledger  *ledger
	seen    *history.Book
	number  int
	name    string
	clients []*client
	gone    []*client // deleted ones, whose tokens must stay dead

	made     int // clients so far
	answered *atomic.Int64
	lost     *atomic.Int64
}

// errLost stands for an answer that did not come: the request may have been done
// or not.
var errLost = errors.New("the answer was lost")

// method sends one request.
type method func(ctx context.Context, path string, d map[string]any) (*api.Secret, error)

// ask sends a request, and records the result. Its error is errLost, or the text of a
// refusal.
func (w *worker) ask(ctx context.Context, asked *history.Asked, send method, path string, d map[string]any) (map[string]any, error) {
	secret, err := send(ctx, path, d)
	for notSent(err) && ctx.Err() == nil {
		<-time.After(10 * time.Millisecond)
		secret, err = send(ctx, path, d)
	}
	var refusal *api.ResponseError
	if err != nil {
		asked.Lost()
	}
	switch {
	case err == nil:
		w.answered.Add(1)
	case errors.As(err, &refusal) && (refusal.StatusCode == http.StatusBadRequest || refusal.StatusCode == http.StatusForbidden):
		return nil, errors.New(strings.Join(refusal.Errors, "; "))
	default:
		w.lost.Add(1)
		return nil, errLost
	}
	if secret == nil {
		asked.Done(nil)
		return nil, nil
	}
	if token, ok := secret.Data["token"].(string); ok {
		w.h.Secret(token)
	}
	if secret.LeaseID != "" && secret.Data != nil {
		secret.Data["lease"] = secret.LeaseID
	}
	asked.Done(secret.Data)
	return secret.Data, nil
}

// notSent tells whether the request has certainly not been done: nobody listened,
// or Vault was not unsealed yet.
func notSent(err error) bool {
	var dial *net.OpError
	var refusal *api.ResponseError
	return errors.As(err, &dial) && dial.Op == "dial" ||
		errors.As(err, &refusal) && refusal.StatusCode == http.StatusServiceUnavailable
}

func (w *worker) write(ctx context.Context, path string, d map[string]any) (map[string]any, error) {
	return w.ask(ctx, w.seen.Ask(w.number, path, d, false), w.vault.Logical().WriteWithContext, harness.Mount+"/"+path, d)
}

func (w *worker) read(ctx context.Context, path string) (map[string]any, error) {
	return w.ask(ctx, nil, func(ctx context.Context, path string, _ map[string]any) (*api.Secret, error) {
		return w.vault.Logical().ReadWithContext(ctx, path)
	}, harness.Mount+"/"+path, nil)
}

func (w *worker) remove(ctx context.Context, path string) error {
	_, err := w.ask(ctx, w.seen.Ask(w.number, path, nil, true), func(ctx context.Context, path string, _ map[string]any) (*api.Secret, error) {
		return w.vault.Logical().DeleteWithContext(ctx, path)
	}, harness.Mount+"/"+path, nil)
	return err
}

// work goes on until stop is closed.
func (w *worker) work(ctx context.Context, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
			w.step(ctx)
		}
	}
}

// step does one thing that the worker's random numbers choose.
func (w *worker) step(ctx context.Context) {
	var c *client
	if n := w.random.IntN(maxClients); n < len(w.clients) {
		c = w.clients[n]
	}
	if c == nil {
		w.create(ctx)
		return
	}
	if c.exists == unknown && !w.resolve(ctx, c) {
		return
	}
	operations := []struct {
		weight int
		do     func(context.Context, *client)
	}{
		{8, w.lookUp},
		{4, w.rotate},
		{3, w.lease},
		{2, w.revokeOne},
		{2, w.rotateByID},
		{2, w.endLease},
		{1, w.bringToken},
		{1, w.rotateWithoutGrace},
		{1, w.revokeClient},
		{1, w.deleteClient},
		{1, w.renewLease},
	}
	total := 0
	for _, op := range operations {
		total += op.weight
	}
	chosen := w.random.IntN(total)
	for _, op := range operations {
		if chosen -= op.weight; chosen < 0 {
			op.do(ctx, c)
			return
		}
	}
}

// resolve finds out whether a client exists whose creation or deletion was not
// answered.
func (w *worker) resolve(ctx context.Context, c *client) bool {
	found, err := w.read(ctx, "clients/"+c.name)
	switch {
	case errors.Is(err, errLost):
		return false
	case err != nil:
		w.t.Errorf("%s: reading it was refused: %v", c.name, err)
		return false
	case found == nil:
		w.forget(c)
		return false
	}
	c.exists, c.id = active, found["client_id"].(string)
	return true
}

// forget takes a client that is gone off the list.
func (w *worker) forget(c *client) {
	c.exists = ended
	become(c.tokens, true)
	w.gone = append(w.gone, c)
	for i, other := range w.clients {
		if other == c {
			w.clients = append(w.clients[:i], w.clients[i+1:]...)
			return
		}
	}
}

// customToken is a new token of the worker's own.
func (w *worker) customToken() *held {
	secret := fmt.Sprintf("custom-%s-%016x%016x", w.name, w.random.Uint64(), w.random.Uint64())
	w.h.Secret(secret)
	return &held{secret: secret, custom: true}
}

// lookUp checks one token of the client, by itself or by its accessor.
func (w *worker) lookUp(ctx context.Context, c *client) {
	if len(c.tokens) == 0 {
		return
	}
	t := c.tokens[w.random.IntN(len(c.tokens))]
	path, d := "lookup", map[string]any{"token": t.secret}
	if t.accessor != "" && w.random.IntN(4) == 0 {
		path, d = "lookup-accessor", map[string]any{"accessor": t.accessor}
	}
	found, err := w.write(ctx, path, d)
	if err != nil {
		if !errors.Is(err, errLost) {
			w.t.Errorf("%s: a lookup was refused: %v", c.name, err)
		}
		return
	}
	w.compare(c, t, found["active"] == true)
}

// compare fails the test where a token is active that was answered as ended, or
// the other way round.
func (w *worker) compare(c *client, t *held, isActive bool) {
	switch {
	case isActive && t.state == ended:
		w.t.Errorf("%s: a token that was answered as ended is active (accessor %s, lease %q, custom %t)", c.name, t.accessor, t.lease, t.custom)
	case !isActive && t.state == active:
		w.t.Errorf("%s: a token that was answered as issued is not active (accessor %s, lease %q, custom %t)", c.name, t.accessor, t.lease, t.custom)
		t.state = ended
	case !isActive:
		t.state = ended
	}
}

// checkAll looks up every token that the worker has ever known.
func (w *worker) checkAll(ctx context.Context, lookup func(ctx context.Context, token string) (bool, error)) (tokens int, err error) {
	for _, c := range append(append([]*client{}, w.clients...), w.gone...) {
		for _, t := range c.tokens {
			found, err := lookup(ctx, t.secret)
			if err != nil {
				return tokens, err
			}
			w.compare(c, t, found)
			tokens++
		}
	}
	return tokens, nil
}

// lookupAt asks Vault.
func (w *worker) lookupAt(ctx context.Context, token string) (bool, error) {
	found, err := w.write(ctx, "lookup", map[string]any{"token": token})
	return found["active"] == true, err
}

const (
	longGrace = 6 * time.Hour
	longLease = 24 * time.Hour
)
