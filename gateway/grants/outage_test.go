package grants

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

// startsOnDemand is an engine whose plugin has died. As Vault does, it starts the
// plugin within the time of a request, one request after the other, and to its end
// for those too that nobody waits for any more.
type startsOnDemand struct {
	*model
	turn   chan struct{} // holds a value while somebody starts it: a mutex would stop the test's clock
	runs   atomic.Bool
	life   context.Context // of the first one
	takes  time.Duration
	starts atomic.Int64
}

func (s *startsOnDemand) start(ctx context.Context) error {
	if s.runs.Load() {
		return nil
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.turn <- struct{}{}
		defer func() { <-s.turn }()
		if s.runs.Load() {
			return
		}
		s.starts.Add(1)
		<-time.After(s.takes)
		if ctx.Err() == nil {
			s.runs.Store(true)
		}
	}()
	select {
	case <-done:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *startsOnDemand) Lookup(ctx context.Context, token vaultclient.UnsealedToken) (*vaultclient.Lookup, error) {
	if err := s.start(ctx); err != nil {
		return nil, err
	}
	return s.model.Lookup(ctx, token)
}

func (s *startsOnDemand) Changes(ctx context.Context, epoch string, index uint64, wait time.Duration) (*vaultclient.Changes, error) {
	if err := s.start(ctx); err != nil {
		return nil, err
	}
	// The death of the plugin ends its requests.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if s.starts.Load() == 0 {
		defer context.AfterFunc(s.life, cancel)()
	}
	return s.model.Changes(ctx, epoch, index, wait)
}

func TestAPluginThatTakesLongToStartComesUpThoughManyAskForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		life, die := context.WithCancel(t.Context())
		s := &startsOnDemand{model: newModel(), life: life, takes: 1200 * time.Millisecond, turn: make(chan struct{}, 1)}
		s.runs.Store(true)
		b := runningBrokerWith(t, s.model, func(b *Broker) { b.engine = s })
		synctest.Wait()

		s.runs.Store(false)
		die()
		started := time.Now()
		var clients sync.WaitGroup
		for i := range 2 * vaultclient.LookupsInFlight {
			token := fmt.Sprint("t", i)
			s.addToken(token, "c")
			clients.Go(func() {
				for time.Since(started) < time.Minute && grantErr(t, b, token) != nil {
					<-time.After(time.Second)
				}
			})
		}
		clients.Wait()
		require.True(t, s.runs.Load(), "%d starts were given up", s.starts.Load())
		require.Less(t, time.Since(started), 40*time.Second, "after %d starts", s.starts.Load())
		for i := range 2 * vaultclient.LookupsInFlight {
			require.NoError(t, grantErr(t, b, fmt.Sprint("t", i)))
		}
	})
}

// hanging takes requests, and answers none.
type hanging struct {
	*model
	hangs atomic.Bool
	taken atomic.Int64 // lookups
}

func (h *hanging) Lookup(ctx context.Context, token vaultclient.UnsealedToken) (*vaultclient.Lookup, error) {
	h.taken.Add(1)
	if h.hangs.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return h.model.Lookup(ctx, token)
}

func (h *hanging) Changes(ctx context.Context, epoch string, index uint64, wait time.Duration) (*vaultclient.Changes, error) {
	if h.hangs.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return h.model.Changes(ctx, epoch, index, wait)
}

func (h *hanging) Servers(ctx context.Context) (*vaultclient.ServerList, error) {
	if h.hangs.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return h.model.Servers(ctx)
}

func TestRequestsPassAsSoonAsTheFeedIsBackThoughItHasAGap(t *testing.T) {
	for name, gone := range map[string]func(*hanging, bool){
		"Vault refused all requests": func(h *hanging, gone bool) { h.write(func() { h.down = gone }) },
		"Vault hung":                 func(h *hanging, gone bool) { h.hangs.Store(gone) },
	} {
		t.Run(name, func(t *testing.T) {
			// Whenever it comes back, and however long the registry of servers has not been
			// fetched then.
			for away := 50 * time.Second; away < 56*time.Second; away += 200 * time.Millisecond {
				synctest.Test(t, func(t *testing.T) {
					h := &hanging{model: newModel()}
					h.addToken("t", "c")
					b := runningBrokerWith(t, h.model, func(b *Broker) { b.engine = h })
					synctest.Wait()
					require.NoError(t, grantErr(t, b, "t"))
					gone(h, true)
					after(away)
					_, err := b.FindServer("files")
					require.ErrorIs(t, err, ErrUnavailable)
					h.write(func() { h.epoch = "e2" })
					gone(h, false)
					after(feedPatience)
					require.NoError(t, grantErr(t, b, "t"))
					_, err = b.FindServer("files")
					require.NoError(t, err, "after %s", away)
				})
			}
		})
	}
}

func TestWhileVaultHangsOneLookupAtATimeTries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hanging{model: newModel()}
		b := runningBrokerWith(t, h.model, func(b *Broker) { b.engine = h })
		synctest.Wait()
		h.hangs.Store(true)
		after(10 * time.Second) // the request that is held ends, and the next one hangs
		const tokens = 4
		for i := range tokens {
			h.addToken(fmt.Sprint("t", i), "c")
		}
		started := time.Now()
		require.ErrorIs(t, grantErr(t, b, "t0"), ErrUnavailable)
		require.Equal(t, vaultclient.LookupTimeout, time.Since(started), "nobody has known that it hangs")

		before := h.taken.Load()
		var clients sync.WaitGroup
		for i := range tokens {
			clients.Go(func() {
				started := time.Now()
				err := grantErr(t, b, fmt.Sprint("t", i))
				if waited := time.Since(started); !errors.Is(err, ErrUnavailable) || waited > vaultclient.LookupTimeout {
					t.Errorf("after %s: %v", waited, err)
				}
			})
		}
		clients.Wait()
		require.Equal(t, before+1, h.taken.Load())

		// It comes back by itself, for all of them.
		h.hangs.Store(false)
		after(feedBackoff.Max + feedPatience)
		known := 0
		for i := range tokens {
			if grantErr(t, b, fmt.Sprint("t", i)) == nil {
				known++
			}
		}
		require.Equal(t, tokens, known)
	})
}
