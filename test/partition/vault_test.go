package partition

import (
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"
)

// depose begins the failure of the row, until mend is called.
func (r *vaultRow) depose(t *testing.T, b *bed, leader string, followers []string) (mend func()) {
	t.Helper()
	if !r.sleeps {
		return b.Cut(t, r.links(b, leader, followers))
	}
	b.node(leader).Signal(syscall.SIGSTOP)
	mend = sync.OnceFunc(func() { b.node(leader).Signal(syscall.SIGCONT) })
	t.Cleanup(mend)
	return mend
}

// vaultIsCut: another node leads, and answers revocations. Gateways that can reach it hear of
// them; one that reaches only the deposed leader lets no token pass for longer than
// max_stale, and refuses no good one.
func (b *bed) vaultIsCut(t *testing.T, row *vaultRow, of func(string) string) {
	t.Helper()
	leader, followers := b.leads(t)
	p := b.startPair(t, leader, followers[0], of)
	cut := time.Now()
	mend := row.depose(t, b, leader, followers)
	for i, doomed := range p.doomed() {
		doomed.revoke(t, b.node(followers[1]))
		if i == 0 {
			t.Logf("another node has answered a revocation %s after the cut", time.Since(cut).Round(time.Millisecond))
		}
	}
	for _, doomed := range p.far.doomed {
		doomed.becomes(t, http.StatusUnauthorized, patience)
	}
	if row.alone {
		p.near.good.becomes(t, http.StatusServiceUnavailable, maxStale+patience)
		t.Logf("who asks the deposed leader gets 503 %s after the cut", time.Since(cut).Round(time.Millisecond))
	}
	mend()
	p.heals(t, cut)
}
