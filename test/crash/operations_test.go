package crash

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/hashicorp/vault/api"
)

// create makes a client, every third with a token of its own.
func (w *worker) create(ctx context.Context) {
	w.made++
	c := &client{name: fmt.Sprintf("%s-%d", w.name, w.made), exists: unknown}
	w.clients = append(w.clients, c)
	d := map[string]any{"allowed_servers": "a,b"}
	var custom *held
	if w.made%3 == 0 {
		custom = w.customToken()
		custom.state = unknown
		c.tokens = append(c.tokens, custom)
		d["access_token"] = custom.secret
	}
	made, err := w.write(ctx, "clients/"+c.name, d)
	if err != nil && strings.Contains(err.Error(), "exists already") {
		return // the engine was killed before it answered, and Vault sent the request once more
	}
	if !w.done(c, "creating it", err) {
		return
	}
	c.exists, c.id = active, made["client_id"].(string)
	w.issued(c, made, custom)
}

// done tells whether a request was answered as done. A refusal fails the test.
func (w *worker) done(c *client, what string, err error) bool {
	if err != nil && !errors.Is(err, errLost) {
		w.t.Errorf("%s: %s was refused: %v", c.name, what, err)
	}
	return err == nil
}

// issued notes a token that was answered.
func (w *worker) issued(c *client, answer map[string]any, custom *held) {
	t := custom
	if t == nil {
		t = &held{secret: answer["token"].(string)}
		c.tokens = append(c.tokens, t)
	}
	t.state, t.accessor = active, answer["accessor"].(string)
	if lease, ok := answer["lease"].(string); ok {
		t.lease = lease
	}
}

// rotate leaves every earlier token alive, whether it is answered or not.
func (w *worker) rotate(ctx context.Context, c *client) {
	w.rotateTo(ctx, c, map[string]any{"grace_period": longGrace.String()}, nil)
}

// bringToken rotates to a token of the worker's own.
func (w *worker) bringToken(ctx context.Context, c *client) {
	custom := w.customToken()
	custom.state = unknown
	c.tokens = append(c.tokens, custom)
	w.rotateTo(ctx, c, map[string]any{"grace_period": longGrace.String(), "access_token": custom.secret}, custom)
}

// rotateByID repeats the rotation until it is answered.
func (w *worker) rotateByID(ctx context.Context, c *client) {
	d := map[string]any{"grace_period": longGrace.String(), "rotation_id": fmt.Sprint(w.random.Uint64())}
	for range 20 {
		if w.rotateTo(ctx, c, d, nil) {
			return
		}
	}
}

// rotateTo tells whether the rotation was answered, as done or as refused.
func (w *worker) rotateTo(ctx context.Context, c *client, d map[string]any, custom *held) bool {
	answer, err := w.write(ctx, "rotate-client/"+c.name, d)
	switch {
	case err == nil:
		w.issued(c, answer, custom)
	case errors.Is(err, errLost):
		return false
	case strings.Contains(err.Error(), "in their grace period"):
		if custom != nil {
			custom.state = ended
		}
		w.rotateWithoutGrace(ctx, c)
	default:
		w.t.Errorf("%s: a rotation was refused: %v", c.name, err)
	}
	return true
}

// rotateWithoutGrace ends every earlier token of the client's own.
func (w *worker) rotateWithoutGrace(ctx context.Context, c *client) {
	own := c.those(isOwn)
	answer, err := w.write(ctx, "rotate-client/"+c.name, map[string]any{"grace_period": 0})
	done := w.done(c, "a rotation without grace", err)
	w.tell(own, done)
	become(own, done)
	if done {
		w.issued(c, answer, nil)
	}
}

// tell notes that the feed must tell of the end of tokens that were active.
func (w *worker) tell(tokens []*held, answered bool) {
	for _, t := range tokens {
		if answered && t.state == active {
			w.ledger.mustTell(t.accessor)
		}
	}
}

func (w *worker) lease(ctx context.Context, c *client) {
	answer, err := w.write(ctx, "creds/"+c.name, map[string]any{"ttl": longLease.String()})
	if w.done(c, "a lease", err) {
		w.issued(c, answer, nil)
	}
}

// one is one of the client's active tokens, or nil.
func (w *worker) one(c *client, ok func(*held) bool) *held {
	some := c.those(func(t *held) bool { return isActive(t) && ok(t) })
	if len(some) == 0 {
		return nil
	}
	return some[w.random.IntN(len(some))]
}

// revokeOne ends one token, by itself, by its accessor or by its path.
func (w *worker) revokeOne(ctx context.Context, c *client) {
	t := w.one(c, func(*held) bool { return true })
	if t == nil {
		return
	}
	var err error
	switch w.random.IntN(3) {
	case 0:
		_, err = w.write(ctx, "revoke", map[string]any{"token": t.secret})
	case 1:
		_, err = w.write(ctx, "revoke-accessor", map[string]any{"accessor": t.accessor})
	case 2:
		err = w.remove(ctx, "clients/"+c.name+"/tokens/"+t.accessor)
	}
	done := w.done(c, "a revocation", err)
	w.tell([]*held{t}, done)
	become([]*held{t}, done)
}

func (w *worker) revokeClient(ctx context.Context, c *client) {
	_, err := w.write(ctx, "revoke-client/"+c.name, nil)
	done := w.done(c, "revoking it", err)
	become(c.tokens, done)
	if done {
		w.ledger.mustTell(c.id)
	}
}

func (w *worker) deleteClient(ctx context.Context, c *client) {
	err := w.remove(ctx, "clients/"+c.name)
	if !w.done(c, "deleting it", err) {
		become(c.tokens, false)
		c.exists = unknown
		return
	}
	w.ledger.mustTell(c.id)
	w.forget(c)
}

// endLease has Vault revoke a lease.
func (w *worker) endLease(ctx context.Context, c *client) {
	t := w.one(c, isLeased)
	if t == nil {
		return
	}
	asked := w.seen.Ask(w.number, "sys/leases/revoke", map[string]any{"lease_id": t.lease}, false)
	_, err := w.ask(ctx, asked, func(ctx context.Context, lease string, _ map[string]any) (*api.Secret, error) {
		return nil, w.vault.Sys().RevokeWithOptionsWithContext(ctx, &api.RevokeOptions{LeaseID: lease, Sync: true})
	}, t.lease, nil)
	// Vault blames the caller where the engine has died under it.
	w.tell([]*held{t}, err == nil)
	become([]*held{t}, err == nil)
}

func (w *worker) renewLease(ctx context.Context, c *client) {
	t := w.one(c, isLeased)
	if t == nil {
		return
	}
	// It lives on, whether that was answered or not.
	_, _ = w.ask(ctx, nil, func(ctx context.Context, lease string, _ map[string]any) (*api.Secret, error) {
		return w.vault.Sys().RenewWithContext(ctx, lease, int(longLease.Seconds()))
	}, t.lease, nil)
}
