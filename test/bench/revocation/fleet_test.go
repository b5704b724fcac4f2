package revocation

import (
	"fmt"
	"sync"
	"testing"

	"github.com/hashicorp/vault/api"

	"vault-plugin-secrets-mcp/test/bench/measure"
	"vault-plugin-secrets-mcp/test/bench/rig/job"
	"vault-plugin-secrets-mcp/test/harness"
)

const server = "notes"

// size is how much there is of everything.
type size struct {
	nodes, gateways int
	clients         int // known to one gateway each
	victims         int // clients that are revoked, and of more gateways
	reach           int // at how many gateways each of them has a stream
}

// fleet is many gateways beside one Vault.
type fleet struct {
	*harness.Harness
	size
	rig      *measure.Rig
	gateways []*harness.Gateway
	streams  []*measure.Streams
	vault    *api.Client // for the leader, or for a standby that will outlive it
}

// unlimited lets all of a gateway's clients come at once, for the first time.
const unlimited = "cold_rate = 1000000\ncold_burst = 1000000\ncold_source_rate = 1000000\ncold_source_burst = 1000000\n"

func newFleet(t testing.TB, of size) *fleet {
	t.Helper()
	h := harness.New(t, harness.WithCluster(of.nodes))
	f := &fleet{Harness: h, size: of, rig: measure.NewRig(t, h.Dir)}
	f.vault = h.Vault.Nodes[of.nodes-1].Client()
	f.Write("mcp/config", harness.Map{"max_watchers": 2*of.gateways + 10})
	// One upstream cannot take more connections from one address than that has ports.
	upstreams := []measure.Server{f.rig.Upstream(), f.rig.Upstream()}
	for i, upstream := range upstreams {
		f.Write(fmt.Sprintf("mcp/servers/%s-%d", server, i), harness.Map{"transport": "http", "url": "http://" + upstream.Address + "/json"})
	}
	f.streams = []*measure.Streams{f.rig.Streams(), f.rig.Streams()}
	for i := range of.gateways {
		// Where the leader is killed, gateways that know it alone would show
		// nothing but that.
		node := h.Vault.Nodes[min(1+i%2, of.nodes-1)]
		f.gateways = append(f.gateways, h.StartGateway(harness.GatewayOptions{
			Vault: node.Address(), NotReady: true, Blocks: map[string]string{"grants": unlimited},
		}))
	}
	for _, g := range f.gateways {
		g.AwaitReady()
	}
	return f
}

// at is one of the servers behind one of the gateways.
func (f *fleet) at(gateway, i int) measure.Place {
	return measure.At(f.gateways[gateway], fmt.Sprintf("%s-%d", server, i%2))
}

// create writes so many clients, several at once, and returns their tokens.
func (f *fleet) create(t testing.TB, prefix string, count int) []string {
	t.Helper()
	tokens, failures := make([]string, count), make(chan error, count)
	var all sync.WaitGroup
	const writers = 16
	for w := range writers {
		all.Go(func() {
			for i := w; i < count; i += writers {
				answer, err := f.vault.Logical().WriteWithContext(t.Context(), fmt.Sprintf("mcp/clients/%s-%d", prefix, i),
					harness.Map{"allowed_servers": "*"})
				if err != nil {
					failures <- err
					return
				}
				tokens[i], _ = answer.Data["token"].(string)
				f.Secret(tokens[i])
			}
		})
	}
	all.Wait()
	select {
	case err := <-failures:
		t.Fatal(err)
	default:
	}
	return tokens
}

// warm has each of the clients call a tool once, at one gateway each.
func (f *fleet) warm(t testing.TB, tokens []string) {
	t.Helper()
	load := f.rig.Load()
	for g := range f.gateways {
		var calls [][]byte
		for i := g; i < len(tokens); i += len(f.gateways) {
			calls = append(calls, measure.Call(f.at(g, i), harness.StatelessEra, tokens[i], "", 1))
		}
		if len(calls) > 0 {
			load.Run("warming", &job.Load{
				Address: measure.Host(f.gateways[g]), Requests: calls, Count: len(calls), Connections: 8, Status: 200, Contains: `"result":`,
			})
		}
	}
}

// victim is a client that will be revoked.
type victim struct {
	name, token string
	gateways    []int
	streams     []*measure.Stream
}

// victims open their streams.
func (f *fleet) openVictims(t testing.TB) []*victim {
	t.Helper()
	var victims []*victim
	var open []*measure.Stream
	for i, token := range f.create(t, "victim", f.victims) {
		v := &victim{name: fmt.Sprintf("victim-%d", i), token: token}
		for r := range f.reach {
			g := (i*f.reach + r) % len(f.gateways)
			stream := f.streams[len(open)%len(f.streams)].Open(measure.Host(f.gateways[g]), measure.Listen(f.at(g, len(open)), token))
			v.gateways, v.streams, open = append(v.gateways, g), append(v.streams, stream), append(open, stream)
		}
		victims = append(victims, v)
		if i%4 == 3 { // each is a lookup, and Vault is given no more than it can answer
			measure.AwaitOpen(t, open[len(open)-4*f.reach:])
		}
	}
	measure.AwaitOpen(t, open)
	return victims
}
