package partition

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/network"
)

// TestPartition cuts every link there is, while tokens are made, used and revoked. First the
// links of gateways, each of which has a machine of its own; then those of Vault's nodes.
func TestPartition(t *testing.T) {
	var machines []string
	for _, row := range gatewayRows {
		machines = append(machines, row.machine)
	}
	seed := setting(t, "PARTITION_SEED", uint64(time.Now().UnixNano()))
	t.Logf("PARTITION_SEED=%d", seed)
	b := newBed(t, append(machines, "slow", "near", "far")...)
	random := rand.New(rand.NewPCG(seed, uint64(len(vaults))))
	stop := b.startWorkers(t, seed)
	rounds := setting(t, "PARTITION_ROUNDS", 1)
	for round := range rounds {
		of := func(name string) string { return fmt.Sprintf("%s-%d", name, round) }
		t.Run("gateways", func(t *testing.T) {
			for _, row := range gatewayRows {
				t.Run(row.name, func(t *testing.T) {
					t.Parallel()
					b.in(t).gatewayIsCut(t, row, of)
				})
			}
			t.Run("the way to Vault is slow", func(t *testing.T) {
				t.Parallel()
				b.in(t).wayIsSlow(t, of)
			})
		})
		for i, row := range vaultRows {
			if row.sleeps && rounds == 1 {
				continue // TestAnotherNodeLeads has a leader hang, too
			}
			t.Run(row.name, func(t *testing.T) {
				b.in(t).vaultIsCut(t, &row, func(name string) string { return of(fmt.Sprint("row-", i, "-", name)) })
			})
		}
		if rounds > 1 {
			t.Run("links are cut by chance", func(t *testing.T) {
				b.in(t).cutByChance(t, random, func(name string) string { return of("chance-" + name) })
			})
		}
	}
	stop()
	t.Run("every answer of the engine is right", func(t *testing.T) {
		t.Logf("%d requests at three nodes", b.book.Len())
		require.NoError(t, b.book.Check())
	})
}

// gatewayRow is a way to cut a gateway's links.
type gatewayRow struct {
	name    string
	machine string
	// asksLeader says which node the gateway asks: the leader, or another.
	asksLeader bool
	links      func(b *bed, machine, leader string, followers []string) []network.Link
	// deaf tells whether the gateway hears nothing of Vault then.
	deaf bool
}

var gatewayRows = []gatewayRow{
	{
		name: "a gateway is cut from the leader, and asks another node", machine: "passed",
		links: func(b *bed, machine, leader string, _ []string) []network.Link { return b.Between(machine, leader) },
	},
	{
		name: "a gateway is cut from the leader, which it asks", machine: "leaderless", asksLeader: true, deaf: true,
		links: func(b *bed, machine, leader string, _ []string) []network.Link { return b.Between(machine, leader) },
	},
	{
		name: "a gateway is cut from all of Vault", machine: "alone", deaf: true,
		links: func(b *bed, machine, _ string, _ []string) []network.Link { return b.Between(machine, vaults...) },
	},
	{
		name: "a gateway does not hear Vault, which hears it", machine: "deaf", deaf: true,
		links: func(b *bed, machine, _ string, _ []string) []network.Link { return b.To(machine, vaults...) },
	},
	{
		name: "Vault does not hear a gateway, which hears it", machine: "unheard", asksLeader: true, deaf: true,
		links: func(b *bed, machine, _ string, _ []string) []network.Link { return b.From(machine, vaults...) },
	},
}

// vaultRow is a way to have another node of Vault lead. The gateway "near" asks the leader
// that is deposed, and "far" another node.
type vaultRow struct {
	name  string
	links func(b *bed, leader string, followers []string) []network.Link
	// sleeps stops the leader's process instead.
	sleeps bool
	// alone tells whether the gateway "near" is as good as alone then.
	alone bool
}

var vaultRows = []vaultRow{
	{
		name: "the leader and a gateway are cut from the rest", alone: true,
		links: func(b *bed, leader string, followers []string) []network.Link {
			return append(b.Between(leader, append([]string{"far"}, followers...)...), b.Between("near", followers...)...)
		},
	},
	{
		name:  "the followers do not hear the leader, which hears them",
		links: func(b *bed, leader string, followers []string) []network.Link { return b.From(leader, followers...) },
	},
	{
		name:  "the leader does not hear the followers, which hear it",
		links: func(b *bed, leader string, followers []string) []network.Link { return b.To(leader, followers...) },
	},
	{name: "the leader sleeps, and wakes while another leads", sleeps: true, alone: true},
}
