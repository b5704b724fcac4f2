package partition

import (
	"net/http"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/history"
)

// gatewayIsCut: who hears nothing of Vault goes on from memory for max_stale, and answers 503
// then; who hears of it by another way notices nothing.
func (b *bed) gatewayIsCut(t *testing.T, row gatewayRow, of func(string) string) {
	t.Helper()
	leader, followers := b.leads(t)
	asks := followers[0]
	if row.asksLeader {
		asks = leader
	}
	g := b.startGateway(t, row.machine, b.node(asks))
	b.feedUp(g)
	good, doomed := b.probe(t, g, of(row.machine+"-good")), b.probe(t, g, of(row.machine+"-doomed"))
	stranger := b.stranger(t, g, of(row.machine+"-stranger"))

	around := history.Span{From: time.Now()}
	mend := b.Cut(t, row.links(b, row.machine, leader, followers))
	cut := history.Span{From: time.Now()}
	doomed.revoke(t, b.node(asks))
	if row.deaf {
		good.becomes(t, http.StatusServiceUnavailable, maxStale+patience)
		t.Logf("a good token is answered 503 %s after the cut", time.Since(cut.From).Round(time.Millisecond))
		stranger.becomes(t, http.StatusServiceUnavailable, patience)
	} else {
		doomed.becomes(t, http.StatusUnauthorized, bound+slack)
		stranger.becomes(t, http.StatusOK, patience)
	}
	<-time.After(time.Until(cut.From.Add(maxStale + 2*time.Second))) // nobody may pass in the last of it
	cut.To = time.Now()
	mend()
	around.To = time.Now()
	good.becomes(t, http.StatusOK, patience)
	doomed.becomes(t, http.StatusUnauthorized, patience)
	t.Logf("all is well %s after the cut has healed", time.Since(cut.To).Round(time.Millisecond))
	stranger.becomes(t, http.StatusOK, patience)
	b.feedUp(g)
	stranger.revoke(t, b.node(asks))
	stranger.becomes(t, http.StatusUnauthorized, bound+slack)

	promise := &history.Promise{Shaky: b.shaky(asks)}
	if row.deaf {
		promise.Deaf, promise.Shaky = []history.Span{cut}, append(promise.Shaky, around)
	}
	keeps(t, promise, good, doomed, stranger)
}

// shaky are the times in which a node of Vault did not answer its worker.
func (b *bed) shaky(machine string) []history.Span {
	return b.workers[slices.Index(vaults, machine)].shaky()
}

// wayIsSlow: requests that take less than a second only take longer; if an answer takes
// more than that, the link counts as cut.
func (b *bed) wayIsSlow(t *testing.T, of func(string) string) {
	t.Helper()
	const machine = "slow"
	leader, _ := b.leads(t)
	g := b.startGateway(t, machine, b.node(leader))
	b.feedUp(g)
	good, doomed := b.probe(t, g, of("slow-good")), b.probe(t, g, of("slow-doomed"))
	mend, err := b.Slow(t, machine, "64kbit", vaults...)
	if err != nil {
		require.NotEqual(t, "required", os.Getenv("TEST_FIELD"), "a link cannot be made slow here: %v", err)
		t.Skipf("not run: a link cannot be made slow on this machine: %v", err)
	}
	t.Logf("an unknown token is good after %s", b.stranger(t, g, of("slow-stranger")).becomes(t, http.StatusOK, patience).Round(time.Millisecond))
	doomed.revoke(t, b.node(leader))
	t.Logf("a revoked one is refused after %s", doomed.becomes(t, http.StatusUnauthorized, bound+time.Second).Round(time.Millisecond))
	mend()

	// It is so slow that no answer comes in time.
	cut := history.Span{From: time.Now()}
	mend, err = b.Slow(t, machine, "2kbit", vaults...)
	require.NoError(t, err)
	good.becomes(t, http.StatusServiceUnavailable, maxStale+patience)
	t.Logf("a good token is answered 503 after %s on a way that is too slow", time.Since(cut.From).Round(time.Millisecond))
	cut.To = time.Now()
	mend()
	t.Logf("it is good again after %s", good.becomes(t, http.StatusOK, patience).Round(time.Millisecond))
	keeps(t, &history.Promise{Shaky: append(b.shaky(leader), cut)}, good, doomed)
}
