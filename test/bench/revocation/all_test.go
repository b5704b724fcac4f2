package revocation

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"vault-plugin-secrets-mcp/test/bench/measure"
	"vault-plugin-secrets-mcp/test/bench/report/picture"
	"vault-plugin-secrets-mcp/test/harness"
)

// leasing is one gateway with clients that each have a stream open at a server with leased
// credentials.
type leasing struct {
	*harness.Harness
	rig     *measure.Rig
	gateway *harness.Gateway
	streams *measure.Streams
	log     *measure.VaultLog
	vault   *api.Client
	created int
}

// Kinds of credentials, which are the names of the servers that have them.
const (
	kindText        = "kv"
	kindCertificate = "pki"
	kindToken       = "plugin"
)

// kinds say what has the credentials in Vault.
var kinds = map[string]string{
	kindText:        "`kv`, which gives no lease",
	kindCertificate: "`pki`, with `generate_lease`",
	kindToken:       "an engine that is a plugin: a second mount of `mcp`",
}

// ending is what one revoke-all has ended.
type ending struct {
	Credentials string `json:"credentials"`
	Clients     int    `json:"clients"`

	// After Vault's answer.
	Refusals []time.Duration `json:"refusals_ns"` // of those that are asked for it, sorted
	Cuts     []time.Duration `json:"cuts_ns"`     // of each stream, sorted
	Tokens   []time.Duration `json:"tokens_ns"`   // Vault's answers that a child token has ended, in their order
	Leases   []left          `json:"leases"`
}

// left is how many leases Vault had at one time.
type left struct {
	At     time.Duration `json:"at_ns"`
	Leases int           `json:"leases"`
}

// BenchmarkRevokeAll ends all tokens of the mount while many clients have credentials.
func BenchmarkRevokeAll(b *testing.B) {
	machine := measure.ThisMachine(b)
	// Several nodes would share one disk here, and each writes everything.
	nodes := measure.Int(b, nodesVariable, 1)
	for range b.N {
		l := newLeasing(b, nodes)
		var all []*ending
		for _, of := range []ending{
			{Credentials: kindText, Clients: 300},
			{Credentials: kindCertificate, Clients: 300},
			{Credentials: kindToken, Clients: 100},
			{Credentials: kindToken, Clients: 300},
			{Credentials: kindToken, Clients: 1000},
		} {
			all = append(all, l.revokeAll(b, of))
		}
		measure.Publish(b, "revoke-all", machine, tableOfEndings(nodes, all), all, curveOfEndings(all))
	}
}

// TestRevokeAllEndsEveryLease is the benchmark's short form.
func TestRevokeAllEndsEveryLease(t *testing.T) {
	l := newLeasing(t, 1)
	var all []*ending
	for _, kind := range []string{kindText, kindCertificate, kindToken} {
		all = append(all, l.revokeAll(t, ending{Credentials: kind, Clients: 5}))
	}
	for _, e := range all {
		if len(e.Refusals) == 0 || len(e.Cuts) != 5 || len(e.Tokens) == 0 {
			t.Errorf("%s: %d refusals, %d streams cut, %d tokens", e.Credentials, len(e.Refusals), len(e.Cuts), len(e.Tokens))
		}
	}
	if text := tableOfEndings(1, all); strings.Count(text, "\n| ") != 4 {
		t.Error(text)
	}
}

func newLeasing(t testing.TB, nodes int) *leasing {
	t.Helper()
	h := harness.New(t, harness.WithCluster(nodes))
	l := &leasing{Harness: h, rig: measure.NewRig(t, h.Dir)}
	from := measure.Leasing{Tokens: 10 * time.Minute, Leases: time.Hour, Refresh: time.Hour}
	from.SetUp(t, h)
	url := "http://" + l.rig.Upstream().Address + "/json"
	h.Write("mcp/servers/"+kindText, from.Text(url))
	h.Write("mcp/servers/"+kindCertificate, from.Certificate(url))
	h.Write("mcp/servers/"+kindToken, from.Token(url))
	l.gateway = h.StartGateway(harness.GatewayOptions{Blocks: map[string]string{"grants": unlimited + "wait = \"10s\"\n", "upstream_credentials": from.Block()}})
	l.streams, l.log, l.vault = l.rig.Streams(), measure.NewVaultLog(t, h), h.Vault.Client()
	return l
}

// revokeAll has new clients open their streams, revokes everything, and waits until nothing
// is left in Vault.
func (l *leasing) revokeAll(t testing.TB, e ending) *ending {
	t.Helper()
	at := measure.At(l.gateway, e.Credentials)
	const batch = 10 // each is a lookup and a lease: Vault is given no more than it can answer
	var tokens []string
	var open []*measure.Stream
	for range e.Clients {
		l.created++
		token := l.create(fmt.Sprintf("mcp/clients/lessee-%d", l.created))
		tokens, open = append(tokens, token), append(open, l.streams.Open(measure.Host(l.gateway), measure.Listen(at, token)))
		if len(open)%batch == 0 {
			measure.AwaitOpen(t, open[len(open)-batch:])
		}
	}
	measure.AwaitOpen(t, open)
	if held := measure.Gauge(t, l.gateway, "mcp_gateway_credentials"); int(held) != e.Clients {
		t.Fatalf("the gateway has leased %.0f credentials for %d clients", held, e.Clients)
	}
	leases := e.Clients
	if e.Credentials == kindText {
		leases = 0
	}
	if had, err := measure.CountLeases(t.Context(), l.vault); err != nil || had != leases {
		t.Fatalf("Vault has %d leases, and not %d: %v", had, leases, err)
	}
	l.log.Next()

	l.Write("mcp/revoke-all", nil)
	answered := time.Now()
	var asked []*measure.Stream
	for i := 0; i < len(tokens); i += max(len(tokens)/10, 1) {
		asked = append(asked, l.streams.Ask(measure.Host(l.gateway), measure.Call(at, harness.StatelessEra, tokens[i], "", 1)))
	}
	e.await(t, l, answered)
	var err error
	if e.Refusals, err = ends(asked, answered); err != nil {
		t.Fatalf("a client is not refused: %v", err)
	}
	if e.Cuts, err = ends(open, answered); err != nil {
		t.Fatalf("a stream is not cut: %v", err)
	}
	slices.Sort(e.Refusals)
	slices.Sort(e.Cuts)
	return &e
}

// create writes a client, and returns its token. On a busy machine another node may lead
// meanwhile.
func (l *leasing) create(path string) (token string) {
	l.Eventually("the client is there", func() error {
		answer, err := l.TryWrite(path, harness.Map{"allowed_servers": "*"})
		if err == nil {
			token = l.Token(answer)
		}
		return err
	})
	return token
}

// await waits until Vault has neither a lease nor a child token.
func (e *ending) await(t testing.TB, l *leasing, answered time.Time) {
	t.Helper()
	const pause = 20 * time.Millisecond // a list of leases costs Vault little
	deadline := answered.Add(2 * time.Minute)
	for time.Now().Before(deadline) {
		given := measure.Gauge(t, l.gateway, "mcp_gateway_credentials")
		pending := measure.Gauge(t, l.gateway, "mcp_gateway_credential_revocations_pending")
		for _, a := range l.log.Next() {
			if a.Path == "auth/token/revoke-self" {
				e.Tokens = append(e.Tokens, max(0, a.At.Sub(answered)))
			}
		}
		leases, err := measure.CountLeases(t.Context(), l.vault)
		if err == nil {
			e.Leases = append(e.Leases, left{At: time.Since(answered), Leases: leases})
		}
		if err == nil && leases == 0 && given == 0 && pending == 0 && len(e.Tokens) > 0 {
			return
		}
		<-time.After(pause)
	}
	t.Fatalf("after two minutes there are leases left, or child tokens: Vault has ended %d of %d tokens; leases: %v",
		len(e.Tokens), e.Clients, e.Leases[max(0, len(e.Leases)-1):])
}

// done is when the last lease had ended, or the last token where there are no leases.
func (e *ending) done() time.Duration {
	last := e.Tokens[len(e.Tokens)-1]
	if e.Credentials == kindText {
		return last
	}
	return max(last, e.Leases[len(e.Leases)-1].At)
}

func tableOfEndings(nodes int, all []*ending) string {
	var t strings.Builder
	of := "one node"
	if nodes > 1 {
		of = fmt.Sprintf("%d nodes", nodes)
	}
	fmt.Fprintf(&t, "One gateway, Vault on integrated storage with %s. Each client has a stream open at a server with one leased credential.\n\n", of)
	t.WriteString("| credentials | clients | a token is refused after | the last stream is cut after | the last child token ends after | the last lease ends after | clients whose leases end, a second |\n" +
		"|---|---:|---:|---:|---:|---:|---:|\n")
	milliseconds := func(d time.Duration) string { return fmt.Sprintf("%.0f ms", float64(d)/float64(time.Millisecond)) }
	for _, e := range all {
		last := "–"
		if e.Credentials != kindText {
			last = milliseconds(e.Leases[len(e.Leases)-1].At)
		}
		fmt.Fprintf(&t, "| %s | %d | %s | %s | %s | %s | %.0f |\n", kinds[e.Credentials], e.Clients,
			milliseconds(e.Refusals[len(e.Refusals)-1]), milliseconds(e.Cuts[len(e.Cuts)-1]), milliseconds(e.Tokens[len(e.Tokens)-1]), last,
			float64(e.Clients)/e.done().Seconds())
	}
	return t.String()
}

// curveOfEndings draws the leases that are left against the time.
func curveOfEndings(all []*ending) picture.Lines {
	panel := picture.Panel{Title: "leases"}
	for _, e := range all {
		if e.Credentials == kindText {
			continue
		}
		line := picture.Line{Name: fmt.Sprintf("%d clients, %s", e.Clients, e.Credentials)}
		for _, left := range e.Leases {
			line.Points = append(line.Points, [2]float64{left.At.Seconds(), float64(left.Leases)})
		}
		panel.Lines = append(panel.Lines, line)
	}
	return picture.Lines{Name: "revoke-all", Title: "Leases in Vault after revoke-all", X: "seconds", Panels: []picture.Panel{panel}}
}
