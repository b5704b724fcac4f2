package partition

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-mcp/test/history"
	"vault-plugin-secrets-mcp/test/network"
)

// cutTime is how long links stay cut that are chosen by chance.
const cutTime = 8 * time.Second

// cutByChance cuts a third of all links in one direction, whichever they are. There may be no
// leader at all then. So only the guarantees that always hold can be checked.
func (b *bed) cutByChance(t *testing.T, random *rand.Rand, of func(string) string) {
	t.Helper()
	leader, followers := b.leads(t)
	p := b.startPair(t, leader, followers[0], of)
	var links []network.Link
	var names []string
	machines := append([]string{"near", "far"}, vaults...)
	for _, from := range machines {
		for _, to := range machines {
			if from != to && random.IntN(3) == 0 {
				links = append(links, b.From(from, to)...)
				names = append(names, from+" to "+to)
			}
		}
	}
	t.Logf("%s leads; cut: %s", leader, strings.Join(names, ", "))
	cut := history.Span{From: time.Now()}
	mend := b.Cut(t, links)
	left := p.doomed()
	for tick := time.NewTicker(probePace); time.Since(cut.From) < cutTime; <-tick.C {
		if len(left) > 0 && left[0].tryRevoke(t, b.Vault.Nodes[random.IntN(len(vaults))]) == nil {
			left = left[1:]
		}
	}
	t.Logf("%d revocations were not answered before the links were mended", len(left))
	mend()
	cut.To = time.Now()
	for _, doomed := range left {
		doomed.revoke(t, b.node(leader))
	}
	p.heals(t, cut.From, cut)
}
