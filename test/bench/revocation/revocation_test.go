package revocation

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"vault-plugin-secrets-mcp/test/bench/measure"
	"vault-plugin-secrets-mcp/test/bench/report/picture"
	"vault-plugin-secrets-mcp/test/harness"
)

// What may be set in the environment.
const (
	gatewaysVariable = "BENCH_GATEWAYS" // default 50
	clientsVariable  = "BENCH_CLIENTS"  // default 10000
	rateVariable     = "BENCH_RATE"     // revocations a second, default 30
	timeVariable     = "BENCH_TIME"     // of each part, default 10s
	nodesVariable    = "BENCH_NODES"    // of Vault, default 3; 1: no leader is killed
)

const (
	// patience is how long a revocation may take before the benchmark fails: twice
	// the time for which a gateway that hears nothing uses a grant.
	patience = time.Minute

	// askedAt is at how many of its gateways a revoked token is asked with until it
	// is refused. To wait for a stream's end costs nothing, but asking again and again
	// is a load: at all of its gateways it took a third of two processors.
	askedAt = 2

	// election is how long Vault may be without a leader.
	election = time.Minute
)

// part is one of the benchmark's parts: revocations at an even pace.
type part struct {
	Name string

	mu             sync.Mutex
	refusals, cuts []time.Duration // of each gateway
	last           []time.Duration // of each revocation, the last stream's end
	unanswered     int             // writes that Vault did not answer, and that were repeated
}

// BenchmarkRevocation revokes clients whose streams are open at several gateways
// each, first while nothing else happens, and then while Vault's leader is killed.
func BenchmarkRevocation(b *testing.B) {
	machine := measure.ThisMachine(b)
	rate, during := measure.Int(b, rateVariable, 30), measure.Duration(b, timeVariable, 10*time.Second)
	each := int(during.Seconds() * float64(rate))
	of := size{
		nodes: measure.Int(b, nodesVariable, 3), gateways: measure.Int(b, gatewaysVariable, 50),
		clients: measure.Int(b, clientsVariable, 10_000), victims: 2 * each, reach: 10,
	}
	for range b.N {
		parts := run(b, of, rate)
		measure.Publish(b, "revocation", machine, table(of, rate, parts), parts, curve(parts))
	}
}

// run is the benchmark, and its short form.
func run(t testing.TB, of size, rate int) []*part {
	t.Helper()
	of.reach = min(of.reach, of.gateways)
	f := newFleet(t, of)
	f.warm(t, f.create(t, "client", of.clients))
	victims := f.openVictims(t)
	half := len(victims) / 2
	steady := f.revoke(t, "nothing else happens", victims[:half], rate, nil)
	if of.nodes == 1 {
		return []*part{steady, f.revoke(t, "again", victims[half:], rate, nil)}
	}
	leader := f.Vault.Leader()
	if leader != f.Vault.Nodes[0] {
		t.Fatal("another node leads than the one that the gateways do not use")
	}
	return []*part{steady, f.revoke(t, "Vault's leader is killed", victims[half:], rate, leader)}
}

// revoke ends one client after the other, and kills the leader after a third of
// them.
func (f *fleet) revoke(t testing.TB, name string, victims []*victim, rate int, leader *harness.Node) *part {
	t.Helper()
	p := &part{Name: name}
	failures := make(chan error, len(victims))
	pace := time.NewTicker(time.Second / time.Duration(rate))
	defer pace.Stop()
	var all sync.WaitGroup
	for i, v := range victims {
		if leader != nil && i == len(victims)/3 {
			leader.Kill()
		}
		all.Go(func() {
			if err := f.revokeOne(t.Context(), p, v); err != nil {
				failures <- fmt.Errorf("%s: %w", v.name, err)
			}
		})
		<-pace.C
	}
	all.Wait()
	select {
	case err := <-failures:
		t.Fatal(err)
	default:
	}
	return p
}

// revokeOne revokes a client, and waits until each of its gateways has cut its
// stream, and those that are asked refuse it.
func (f *fleet) revokeOne(ctx context.Context, p *part, v *victim) error {
	deadline := time.Now().Add(election)
	unanswered := 0
	for {
		_, err := f.vault.Logical().WriteWithContext(ctx, "mcp/revoke-client/"+v.name, nil)
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			return err
		}
		unanswered++
		<-time.After(20 * time.Millisecond)
	}
	answered := time.Now()
	asked := make([]*measure.Stream, 0, askedAt)
	for i, g := range v.gateways[:min(askedAt, len(v.gateways))] {
		asked = append(asked, f.streams[i%len(f.streams)].Ask(measure.Host(f.gateways[g]),
			measure.Call(f.at(g, 0), harness.StatelessEra, v.token, "", 1)))
	}
	refusals, err := ends(asked, answered)
	if err != nil {
		return fmt.Errorf("it is not refused: %w", err)
	}
	cuts, err := ends(v.streams, answered)
	if err != nil {
		return fmt.Errorf("its stream is not cut: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unanswered += unanswered
	p.refusals, p.cuts = append(p.refusals, refusals...), append(p.cuts, cuts...)
	p.last = append(p.last, slices.Max(cuts))
	return nil
}

// ends waits until all have ended, and returns how long after the answer each did:
// nothing, where it was before.
func ends(streams []*measure.Stream, answered time.Time) ([]time.Duration, error) {
	took := make([]time.Duration, 0, len(streams))
	deadline := time.After(patience)
	for _, s := range streams {
		select {
		case at := <-s.Ended:
			took = append(took, max(0, at.Sub(answered)))
		case why := <-s.Failed:
			return nil, fmt.Errorf("%s", why)
		case <-deadline:
			return nil, fmt.Errorf("not within %s", patience)
		}
	}
	return took, nil
}

// shares of a distribution.
var shares = []float64{0.5, 0.9, 0.99, 1}

func quantile(all []time.Duration, share float64) time.Duration {
	return all[int(share*float64(len(all)-1))]
}

func (p *part) distributions() map[string][]time.Duration {
	all := map[string][]time.Duration{
		"refusal": p.refusals, "cut": p.cuts, "last_cut": p.last,
	}
	for _, times := range all {
		slices.Sort(times)
	}
	return all
}

func table(of size, rate int, parts []*part) string {
	var t strings.Builder
	fmt.Fprintf(&t, "%d gateways, %d clients, %d nodes of Vault on integrated storage; %d revocations a second, of clients that have a stream open at %d gateways each.\n\n",
		of.gateways, of.clients+of.victims, of.nodes, rate, of.reach)
	t.WriteString("| from Vault's answer to | while | p50 | p90 | p99 | longest |\n|---|---|---:|---:|---:|---:|\n")
	for _, what := range []struct{ key, text string }{
		{"refusal", "a gateway's refusal"},
		{"cut", "the end of a stream"},
		{"last_cut", "the end of the last stream"},
	} {
		for _, p := range parts {
			times := p.distributions()[what.key]
			fmt.Fprintf(&t, "| %s | %s |", what.text, p.Name)
			for _, share := range shares {
				fmt.Fprintf(&t, " %.1f ms |", float64(quantile(times, share))/float64(time.Millisecond))
			}
			t.WriteString("\n")
		}
	}
	if p := parts[len(parts)-1]; p.unanswered > 0 {
		fmt.Fprintf(&t, "\nWhile there was no leader, %d revocations were not answered and repeated: their time counts from the answer.\n", p.unanswered)
	}
	return t.String()
}

// curve draws the share of streams and refusals against the time.
func curve(parts []*part) picture.Lines {
	panel := picture.Panel{Title: "% of revocations", High: 100}
	for _, share := range shares[:len(shares)-1] {
		panel.Marks = append(panel.Marks, picture.Mark{Name: fmt.Sprintf("p%.0f", 100*share), Value: 100 * share, Unit: "ms"})
	}
	for _, p := range parts {
		line := picture.Line{Name: p.Name}
		times := p.distributions()["last_cut"]
		for i := range 101 {
			line.Points = append(line.Points, [2]float64{float64(quantile(times, float64(i)/100)) / float64(time.Millisecond), float64(i)})
		}
		panel.Lines = append(panel.Lines, line)
	}
	return picture.Lines{
		Name: "revocation", Title: "From Vault's answer to the end of the last stream",
		X: "milliseconds", LogX: true, From: 0.1, Panels: []picture.Panel{panel},
	}
}

// MarshalJSON gives each distribution in hundredths, in milliseconds.
func (p *part) MarshalJSON() ([]byte, error) {
	of := map[string]any{"while": p.Name, "revocations": len(p.last), "unanswered": p.unanswered}
	for name, times := range p.distributions() {
		hundredths := make([]float64, 0, 101)
		for i := range 101 {
			hundredths = append(hundredths, float64(quantile(times, float64(i)/100))/float64(time.Millisecond))
		}
		of[name+"_ms"] = hundredths
	}
	return json.Marshal(of)
}

// TestRevocationsReachEveryGateway is the benchmark's short form. How long they take
// is not looked at, other than that they arrive.
func TestRevocationsReachEveryGateway(t *testing.T) {
	for _, p := range run(t, size{nodes: 1, gateways: 3, clients: 6, victims: 6, reach: 2}, 30) {
		if len(p.last) != 3 || len(p.cuts) != 6 || len(p.refusals) != 6 {
			t.Errorf("%s: %d revocations, %d streams cut, %d refusals", p.Name, len(p.last), len(p.cuts), len(p.refusals))
		}
		if text := table(size{}, 30, []*part{p}); !strings.Contains(text, "ms") {
			t.Error(text)
		}
	}
}
