package backend

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// Tidy is stopped before and after each of its storage calls, and every token is
// looked up meanwhile. Only those wait whose client's entry is being written just
// then; between two entries no lock is held.
func TestLookupsGoOnWhereverTidyIs(t *testing.T) {
	w := newWorld(t)
	for at := 1; w.tidyPausedAt(t, at); at++ {
		require.Less(t, at, 2000)
	}
}

// tidyPausedAt stops tidy at a step and looks every token up. It reports whether
// there was such a step.
func (w *world) tidyPausedAt(t *testing.T, at int) bool {
	t.Helper()
	e := w.start(t, w.contents.storage(t), 1)
	e.clock.Advance(2 * time.Hour) // predecessors have ended, and dangling entries are old enough
	want := map[string]data{}
	for name, token := range w.tokens {
		want[name] = withoutFeed(e.lookup(token))
	}
	gate := &gate{at: at, reached: make(chan string, 1), goOn: make(chan struct{})}
	require.True(t, e.b.startTidy(&hookedStorage{Storage: e.storage, before: gate.before, after: gate.after}, 0))
	waiting := *e
	finished := inBackground(func() error { waiting.await(); return nil })
	var where string
	select {
	case where = <-gate.reached:
	case err := <-finished:
		require.NoError(t, err)
		require.Equal(t, "finished", e.b.tidying.read().State)
		return false
	}
	e.t = quiet{labelled{t, "tidy pauses " + where}}
	locks := e.b.heldLocks()
	if strings.Contains(where, " list ") {
		require.Empty(e.t, locks, "locks are held between two entries")
	}
	require.LessOrEqual(e.t, len(locks), 2, "%v", locks)

	written, _ := strings.CutPrefix(where, "before put "+clientPrefix)
	written, _ = strings.CutPrefix(written, "after put "+clientPrefix)
	for name, token := range w.tokens {
		if want[name]["active"] != true || want[name]["client"] == written {
			continue
		}
		found := make(chan *logical.Response, 1)
		go func() {
			resp, err := e.request(context.Background(), logical.UpdateOperation, "lookup", data{"token": token})
			if err == nil {
				found <- resp
			}
		}()
		select {
		case resp := <-found:
			require.True(e.t, sameGrant(want[name], withoutFeed(resp.Data)), name)
		case <-time.After(10 * time.Second):
			require.Fail(e.t, "a lookup waits for tidy", name)
		}
	}
	close(gate.goOn)
	require.NoError(e.t, <-finished)
	return true
}
