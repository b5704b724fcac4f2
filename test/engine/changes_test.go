package engine

import (
	"context"
	"encoding/json"
	"net/url"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"vault-plugin-secrets-mcp/bootstrap/provision"
	"vault-plugin-secrets-mcp/test/harness"
)

const (
	// heldFor is how long the watchers below ask to be held.
	heldFor = 3 * time.Second

	// heldWatchers is how many there are, as many as gateways may be.
	heldWatchers = 50

	// longestWait is shorter than the wait of a request that two holds delay, one after
	// the other. The time beyond one hold is for another plugin process, or another
	// leader, on a slow machine.
	longestWait = 2*heldFor - 100*time.Millisecond
)

// watchers read the change feed of one Vault server without end, as gateways do.
type watchers struct {
	t      *testing.T
	cancel context.CancelFunc
	all    sync.WaitGroup
	asked  atomic.Int64 // requests sent
	resets atomic.Int64
}

func watch(t *testing.T, vault func() *api.Client, count int) *watchers {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	w := &watchers{t: t, cancel: cancel}
	for range count {
		client := vault()
		w.all.Go(func() { w.follow(ctx, client) })
	}
	t.Cleanup(w.stop)
	return w
}

func (w *watchers) stop() {
	w.cancel()
	w.all.Wait()
}

func (w *watchers) follow(ctx context.Context, vault *api.Client) {
	at := url.Values{"wait": {heldFor.String()}}
	for ctx.Err() == nil {
		w.asked.Add(1)
		answer, err := vault.Logical().ReadWithDataWithContext(ctx, harness.Mount+"/changes", at)
		if err != nil || answer == nil {
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond):
			}
			continue
		}
		if answer.Data["reset"] == true {
			w.resets.Add(1)
		}
		at.Set("epoch", answer.Data["epoch"].(string))
		at.Set("index", string(answer.Data["index"].(json.Number)))
	}
}

// awaitHeld waits until every watcher is held: each has been answered once, with
// where the feed is, and has asked again.
func (w *watchers) awaitHeld(h *harness.Harness, count int) {
	w.t.Helper()
	h.Eventually("all watchers are held", func() error {
		if asked := w.asked.Load(); asked < 2*int64(count) {
			return context.DeadlineExceeded
		}
		return nil
	})
}

// probe sends one request after the other, and keeps the longest time that one
// took to be answered, whatever the answer.
type probe struct {
	name    string
	cancel  context.CancelFunc
	done    sync.WaitGroup
	longest time.Duration
	count   int
}

func startProbe(t *testing.T, name string, send func(ctx context.Context) error) *probe {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	p := &probe{name: name, cancel: cancel}
	p.done.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			started := time.Now()
			_ = send(ctx)
			if ctx.Err() == nil {
				p.longest = max(p.longest, time.Since(started))
				p.count++
			}
			<-tick.C
		}
	})
	return p
}

// held holds watchers at a server, does what needs all requests to end, and fails
// the test where another request waited for more than one hold.
func held(t *testing.T, h *harness.Harness, node *harness.Node, what string, do func()) *watchers {
	t.Helper()
	w := watch(t, node.Client, heldWatchers)
	w.awaitHeld(h, heldWatchers)
	var probes []*probe
	for _, server := range h.Vault.Nodes {
		client := server.Client()
		client.SetClientTimeout(time.Minute)
		probes = append(probes,
			startProbe(t, "an unrelated request", func(ctx context.Context) error {
				_, err := client.Auth().Token().LookupSelfWithContext(ctx)
				return err
			}),
			startProbe(t, "a lookup", func(ctx context.Context) error {
				_, err := client.Logical().WriteWithContext(ctx, harness.Mount+"/lookup", harness.Map{"token": "never_was_a_token"})
				return err
			}))
	}
	started := time.Now()
	do()
	took := time.Since(started)
	// Those that the watchers send again are held next.
	next := time.NewTimer(heldFor + time.Second)
	defer next.Stop()
	<-next.C
	for _, p := range probes {
		p.cancel()
		p.done.Wait()
		t.Logf("%s took %s; %s waited %s at most, of %d", what, took.Round(time.Millisecond), p.name, p.longest.Round(time.Millisecond), p.count)
		if p.longest > longestWait {
			t.Errorf("%s: %s waited %s for an answer", what, p.name, p.longest)
		}
	}
	return w
}

func TestHeldWatchersKeepNobodyWaiting(t *testing.T) {
	h := harness.New(t)
	node := h.Vault.Nodes[0]
	client := h.Vault.Client()
	client.SetClientTimeout(time.Minute)

	t.Run("while the plugin is reloaded", func(t *testing.T) {
		w := held(t, h.In(t), node, "a reload", func() {
			if _, err := client.Sys().ReloadPluginWithContext(t.Context(), &api.ReloadPluginInput{Plugin: provision.PluginName}); err != nil {
				t.Fatal(err)
			}
		})
		w.stop()
		if resets := w.resets.Load(); resets != heldWatchers {
			t.Errorf("%d watchers had to start again", resets-heldWatchers)
		}
	})
	t.Run("while the mount is disabled", func(t *testing.T) {
		held(t, h.In(t), node, "disabling the mount", func() {
			if err := client.Sys().UnmountWithContext(t.Context(), harness.Mount); err != nil {
				t.Fatal(err)
			}
		}).stop()
		if err := provision.Mount(t.Context(), client, harness.Mount); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("while Vault is sealed", func(t *testing.T) {
		held(t, h.In(t), node, "sealing", func() {
			if err := client.Sys().SealWithContext(t.Context()); err != nil {
				t.Fatal(err)
			}
		}).stop()
	})
}

func TestHeldWatchersKeepNobodyWaitingForAnotherLeader(t *testing.T) {
	h := harness.New(t, harness.WithCluster(3))
	t.Run("while the leader steps down", func(t *testing.T) {
		leader := h.Vault.Leader()
		client := leader.Client()
		client.SetClientTimeout(time.Minute)
		w := held(t, h.In(t), leader, "stepping down", func() {
			if err := client.Sys().StepDownWithContext(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
		h.Vault.Leader()
		h.In(t).Eventually("the engine answers", func() error {
			_, err := client.Logical().ReadWithContext(t.Context(), harness.Mount+"/config")
			return err
		})
		w.stop()
		if resets := w.resets.Load(); resets != heldWatchers {
			t.Errorf("%d watchers had to start again", resets-heldWatchers)
		}
	})
	t.Run("while the leader is told to end", func(t *testing.T) {
		leader := h.Vault.Leader()
		held(t, h.In(t), leader, "ending", func() {
			leader.Signal(syscall.SIGTERM)
			h.In(t).Within(heldFor+20*time.Second, "the leader has ended", func() error {
				if leader.Running() {
					return context.DeadlineExceeded
				}
				return nil
			})
		}).stop()
	})
}
