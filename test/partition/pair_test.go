package partition

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"vault-plugin-secrets-mcp/test/history"
)

// side is a gateway that asks one node of Vault, with tokens that are used there all the time.
type side struct {
	name   string
	asks   string // the node's machine
	good   *probe
	doomed []*probe // to be revoked
}

// pair are two of them: near asks the leader, and far another node.
type pair struct {
	bed       *bed
	near, far *side
}

func (b *bed) startPair(t *testing.T, leader, another string, of func(string) string) *pair {
	t.Helper()
	start := func(name, asks string) *side {
		g := b.startGateway(t, name, b.node(asks))
		b.feedUp(g)
		s := &side{name: name, asks: asks, good: b.probe(t, g, of(name+"-good"))}
		for i := range 3 {
			s.doomed = append(s.doomed, b.probe(t, g, of(fmt.Sprint(name, "-doomed-", i))))
		}
		return s
	}
	return &pair{bed: b, near: start("near", leader), far: start("far", another)}
}

// doomed are those of both sides, in turns.
func (p *pair) doomed() []*probe {
	var all []*probe
	for i := range p.near.doomed {
		all = append(all, p.near.doomed[i], p.far.doomed[i])
	}
	return all
}

// heals waits until both gateways treat all tokens correctly, and fails the test if one has
// broken its guarantee since the cut.
func (p *pair) heals(t *testing.T, cut time.Time, shaky ...history.Span) {
	t.Helper()
	mended := time.Now()
	p.bed.Vault.AwaitLeader()
	for _, s := range []*side{p.near, p.far} {
		s.good.becomes(t, http.StatusOK, patience)
		for _, doomed := range s.doomed {
			doomed.becomes(t, http.StatusUnauthorized, patience)
		}
	}
	t.Logf("all is well %s after the cut has healed", time.Since(mended).Round(time.Millisecond))
	for _, s := range []*side{p.near, p.far} {
		away := append(p.bed.shaky(s.asks), shaky...)
		t.Logf("%s: Vault did not answer it in %s", s.name, spans(away, cut))
		keeps(t, &history.Promise{Shaky: away}, append(s.doomed, s.good)...)
	}
}

// spans lists times, from a moment on.
func spans(all []history.Span, from time.Time) []string {
	var texts []string
	for _, s := range all {
		if s.To.After(from) {
			texts = append(texts, fmt.Sprintf("%s to %s", s.From.Sub(from).Round(10*time.Millisecond), s.To.Sub(from).Round(10*time.Millisecond)))
		}
	}
	return texts
}
