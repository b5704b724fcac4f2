package backend

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// crowd is a mount with many tokens: of each client a current one, a predecessor,
// and leased ones.
type crowd struct {
	*env
	shelf   *shelf
	clients int
	tokens  []string
}

// sizes are how many clients and tokens the tests below work with: a small crowd,
// unless SCALE_CLIENTS and SCALE_TOKENS say otherwise (make test-scale).
func sizes(t testing.TB) (clients, tokens int) {
	t.Helper()
	read := func(name string, otherwise int) int {
		text, ok := os.LookupEnv(name)
		if !ok {
			return otherwise
		}
		n, err := strconv.Atoi(text)
		require.NoError(t, err, name)
		return n
	}
	return read("SCALE_CLIENTS", 100), read("SCALE_TOKENS", 10_000)
}

func newCrowd(t testing.TB, clients, tokens int) *crowd {
	t.Helper()
	s := newShelf()
	c := &crowd{env: newEnvOn(quiet{t}, s, newClock()), shelf: s, clients: clients}
	for i := range clients {
		name := clientName(i)
		c.tokens = append(c.tokens, c.client(name, data{"allowed_servers": "a,b"}), c.rotate(name, nil))
	}
	for i := 0; len(c.tokens) < tokens; i++ {
		c.tokens = append(c.tokens, c.lease(clientName(i%clients), nil).token)
	}
	return c
}

func clientName(i int) string { return fmt.Sprintf("client-%05d", i) }

// some are n different tokens of the crowd, from all over it. Another start gives
// others.
func (c *crowd) some(n, start int) []string {
	const stride = 7919 // a prime that divides no number of tokens
	tokens := make([]string, n)
	for i := range tokens {
		tokens[i] = c.tokens[(start+i*stride)%len(c.tokens)]
	}
	return tokens
}

func TestAmongManyTokens(t *testing.T) {
	clients, tokens := sizes(t)
	started := time.Now()
	c := newCrowd(t, clients, tokens)
	t.Logf("%d tokens of %d clients issued in %s", tokens, clients, time.Since(started).Round(time.Millisecond))

	t.Run("a lookup reads one entry", c.lookupsReadOneEntry)
	t.Run("listing a client's tokens reads nothing of another client's", c.listingReadsItsOwn)
	t.Run("tidy works in slices, and lookups go on", c.tidyWorksInSlices)
}

func (c *crowd) lookupsReadOneEntry(t *testing.T) {
	for i := range c.clients {
		c.read("clients/" + clientName(i)) // now in memory, as they are after a while
	}
	c.b.pointers.cache.Purge()
	for _, token := range c.some(1000, 1) {
		calls := c.shelf.recorded(func() { require.True(t, c.active(token)) })
		require.Len(t, calls, 1)
		require.True(t, strings.HasPrefix(calls[0], "get "+tokenPrefix), calls[0])
	}
}

func (c *crowd) listingReadsItsOwn(t *testing.T) {
	name := clientName(c.clients / 2)
	id := c.read("clients/" + name)["client_id"].(string)
	c.b.clients.cache.Purge()
	var listed []string
	calls := c.shelf.recorded(func() { listed = c.list("clients/" + name + "/tokens/") })
	require.Equal(t, []string{"get " + clientPrefix + name, "list " + leasePrefix + id + "/"}, calls)
	require.InDelta(t, len(c.tokens)/c.clients, len(listed), 1)

	calls = c.shelf.recorded(func() { require.NotNil(t, c.read("clients/"+name+"/tokens/"+listed[len(listed)-1])) })
	require.LessOrEqual(t, len(calls), 3, "one token of many is read without its siblings: %v", calls)
}

// Half of the clients are revoked, and each predecessor has ended: tidy removes
// them in slices of a bounded time, in which lookups are answered.
func (c *crowd) tidyWorksInSlices(t *testing.T) {
	for i := range c.clients / 2 {
		c.write("revoke-client/"+clientName(2*i), nil)
	}
	c.clock.Advance(2 * tidyMinAge)
	living := c.client("probe", nil)

	budget := 20 * time.Millisecond
	if len(c.tokens) > 100_000 {
		budget = 2 * time.Second
	}
	var slowest, longest time.Duration
	slices, lookups := 0, 0
	for c.b.tidying.read().State != "finished" {
		require.Less(t, slices, 10_000, "tidy does not get on")
		slices++
		started := time.Now()
		require.True(t, c.b.startTidy(c.storage, budget))
		for c.b.tidying.read().State == "running" {
			asked := time.Now()
			require.True(t, c.active(living))
			slowest = max(slowest, time.Since(asked))
			lookups++
		}
		longest = max(longest, time.Since(started))
		require.NotEqual(t, "failed", c.b.tidying.read().State, c.b.tidying.read().Error)
	}
	status := c.b.tidying.read()
	t.Logf("tidy looked at %d tokens and removed %d in %d slices of %s (longest %s); slowest of %d lookups meanwhile: %s",
		status.TokensChecked, status.TokensRemoved, slices, budget, longest.Round(time.Millisecond), lookups, slowest.Round(time.Microsecond))
	require.Greater(t, slices, 1)
	require.Less(t, longest, budget+2*time.Second, "a slice went far beyond its time")
	require.Less(t, slowest, budget+time.Second, "a lookup was held up")
	require.Positive(t, status.TokensRemoved)
	for i := range c.clients / 2 {
		require.Empty(t, c.list("clients/"+clientName(2*i)+"/tokens/"))
	}
}

// BenchmarkLookup compares lookups among many tokens with lookups among 1,000:
// of tokens whose entry is in memory, and of tokens whose entry is read.
func BenchmarkLookup(b *testing.B) {
	clients, tokens := sizes(b)
	few, many := newCrowd(b, 10, 1000), newCrowd(b, clients, tokens)
	for _, from := range []string{"memory", "storage"} {
		var base float64
		for _, c := range []*crowd{few, many} {
			b.Run(fmt.Sprintf("from %s/%d tokens", from, len(c.tokens)), func(b *testing.B) {
				asked := c.some(500, 0)
				c.lookupAll(asked)
				for i := 0; b.Loop(); i++ {
					if from == "storage" && i%len(asked) == 0 {
						c.b.pointers.cache.Purge()
						asked = c.some(500, i)
					}
					c.lookupOne(b, asked[i%len(asked)])
				}
				perLookup := float64(b.Elapsed()) / float64(b.N)
				if base == 0 {
					base = perLookup
				}
				b.ReportMetric(perLookup/base, "times-1000-tokens")
			})
		}
	}
}

func (c *crowd) lookupAll(tokens []string) {
	for _, token := range tokens {
		c.lookup(token)
	}
}

func (c *crowd) lookupOne(b *testing.B, token string) {
	b.Helper()
	resp, err := c.b.HandleRequest(context.Background(), &logical.Request{
		Operation: logical.UpdateOperation, Path: "lookup", Data: data{"token": token}, Storage: c.storage,
	})
	if err != nil || resp.Data["active"] != true {
		b.Fatal(resp, err)
	}
}
