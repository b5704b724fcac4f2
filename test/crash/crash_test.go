package crash

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/history"
)

const workers = 4

// setting is a number from the environment: CRASH_KILLS says how many kills there
// are, CRASH_SEED which random choices are made.
func setting(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text, ok := os.LookupEnv(name)
	if !ok {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// Workers create, rotate, lease, revoke and look up, while the engine and Vault
// are killed with SIGKILL at random moments. Every answer holds: a token that was answered as
// ended is never active again; one that was answered as issued is active until it is ended;
// every reader of the change feed gets each end; and tidy removes the remains of the crashes.
// There is an order of all requests in which every answer is right.
func TestWhatWasAnsweredOutlivesEveryCrash(t *testing.T) {
	kills, seed := setting(t, "CRASH_KILLS", 6), setting(t, "CRASH_SEED", uint64(time.Now().UnixNano()))
	t.Logf("CRASH_SEED=%d CRASH_KILLS=%d", seed, kills)
	h := harness.New(t, harness.WithCluster(1))
	node := h.Vault.Nodes[0]
	random := rand.New(rand.NewPCG(seed, 0))

	var answered, lost atomic.Int64
	book, seen := newLedger(), &history.Book{}
	var team []*worker
	for i := range workers {
		vault := node.Client()
		vault.SetClientTimeout(15 * time.Second)
		team = append(team, &worker{
			t: t, h: h, vault: vault, random: rand.New(rand.NewPCG(seed, uint64(i)+1)), ledger: book,
			seen: seen, number: i, name: fmt.Sprintf("w%d", i), answered: &answered, lost: &lost,
		})
	}

	stop := make(chan struct{})
	var working, following sync.WaitGroup
	for _, w := range team {
		working.Go(func() { w.work(t.Context(), stop) })
	}
	unfollow, cancel := context.WithCancel(t.Context())
	defer cancel()
	following.Go(func() { follow(unfollow, node.Client(), book) })

	plugins := killAgainAndAgain(t, h, random, int(kills), &answered)
	close(stop)
	working.Wait()
	t.Logf("%d kills, %d of them of the engine alone; %d requests answered, %d answers lost", kills, plugins, answered.Load(), lost.Load())

	checkTokens(t, h, team)
	h.Eventually("the change feed has told of every end", book.untold)
	cancel()
	following.Wait()
	// The first is the start. A kill between the telling of a change and the write of its
	// index costs one too, since storage does not know where the follower is. That time is
	// short: a kill at any other moment costs none.
	if most := 3 + int(kills)/10; book.resets < 1 || book.resets > most {
		t.Errorf("the change feed has had its follower start again %d times with %d kills, and not between 1 and %d times", book.resets, kills, most)
	}
	node.Kill()
	node.Start()
	checkTokens(t, h, team)
	checkHistory(t, seen)
	checkSpent(t, team)
	checkLeftovers(t, h, team)
}

// killAgainAndAgain kills the engine, or Vault with it, at a random moment while
// requests are being answered. It returns how often the engine was killed alone.
func killAgainAndAgain(t *testing.T, h *harness.Harness, random *rand.Rand, kills int, answered *atomic.Int64) (plugins int) {
	t.Helper()
	node := h.Vault.Nodes[0]
	for range kills {
		before := answered.Load()
		h.Eventually("requests are answered again", func() error {
			if answered.Load() < before+20 {
				return errors.New("too few were")
			}
			return nil
		})
		<-time.After(time.Duration(random.IntN(300)) * time.Millisecond)
		if random.IntN(10) < 7 {
			plugins += min(1, node.KillPlugin())
			continue
		}
		node.Kill()
		node.Start()
	}
	return plugins
}

// follow reads the change feed as a gateway does, over all crashes.
func follow(ctx context.Context, vault *api.Client, book *ledger) {
	at := url.Values{"wait": {"2s"}}
	for ctx.Err() == nil {
		answer, err := vault.Logical().ReadWithDataWithContext(ctx, harness.Mount+"/changes", at)
		if err != nil || answer == nil {
			select {
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond):
			}
			continue
		}
		if answer.Data["reset"] == true {
			book.reset()
		}
		changes, _ := answer.Data["changes"].([]any)
		for _, change := range changes {
			c, _ := change.(map[string]any)
			switch {
			case c["operation"] != "revoke" && c["operation"] != "delete":
			case c["type"] == "client":
				book.tell(c["client_id"].(string))
			case c["type"] == "token":
				book.tell(c["accessor"].(string))
			}
		}
		at.Set("epoch", answer.Data["epoch"].(string))
		at.Set("index", string(answer.Data["index"].(json.Number)))
	}
}

// checkTokens looks up every token that was ever known.
func checkTokens(t *testing.T, h *harness.Harness, team []*worker) {
	t.Helper()
	tokens := 0
	for _, w := range team {
		h.Eventually("every token can be looked up", func() error {
			n, err := w.checkAll(t.Context(), w.lookupAt)
			if err == nil {
				tokens += n
			}
			return err
		})
	}
	states := map[state]int{}
	for _, w := range team {
		for _, c := range append(append([]*client{}, w.clients...), w.gone...) {
			for _, token := range c.tokens {
				states[token.state]++
			}
		}
	}
	t.Logf("%d tokens looked up: %d active, %d ended, %d that may be either", tokens, states[active], states[ended], states[unknown])
}

// checkHistory fails the test if there is no order of the requests in which all answers
// are right. It does not rely on the workers' own records of their tokens.
func checkHistory(t *testing.T, seen *history.Book) {
	t.Helper()
	if err := seen.Check(); err != nil {
		t.Error(err)
	}
	t.Logf("%d requests compared with a token's life", seen.Len())
}

// checkSpent fails the test where a custom token comes back that was ended.
func checkSpent(t *testing.T, team []*worker) {
	t.Helper()
	for _, w := range team {
		for _, c := range append(append([]*client{}, w.clients...), w.gone...) {
			for _, token := range c.those(func(t *held) bool { return t.custom && t.state == ended && t.accessor != "" }) {
				_, err := w.write(t.Context(), "clients/"+w.name+"-thief", map[string]any{"access_token": token.secret})
				if err == nil || errors.Is(err, errLost) {
					t.Errorf("%s: a custom token that has ended was taken again: %v", c.name, err)
				}
			}
		}
	}
}
