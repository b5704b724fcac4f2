package reliability

import (
	"net/http"
	"syscall"
	"testing"
	"time"

	"vault-plugin-secrets-mcp/test/harness"
)

// outage is one way in which Vault fails for everybody, and how it is mended.
type outage struct {
	name       string
	fail, mend func(t *testing.T, node *harness.Node)
}

var outages = []outage{
	{
		name: "Vault is sealed",
		fail: func(t *testing.T, node *harness.Node) {
			t.Helper()
			if err := node.Client().Sys().SealWithContext(t.Context()); err != nil {
				t.Fatal(err)
			}
		},
		mend: func(_ *testing.T, node *harness.Node) { node.Start() },
	},
	{
		name: "Vault is stopped",
		fail: func(_ *testing.T, node *harness.Node) { node.Stop() },
		mend: func(_ *testing.T, node *harness.Node) { node.Start() },
	},
	{
		name: "Vault is killed",
		fail: func(_ *testing.T, node *harness.Node) { node.Kill() },
		mend: func(_ *testing.T, node *harness.Node) { node.Start() },
	},
	{
		name: "Vault hangs",
		fail: func(_ *testing.T, node *harness.Node) { node.Signal(syscall.SIGSTOP) },
		mend: func(_ *testing.T, node *harness.Node) { node.Signal(syscall.SIGCONT) },
	},
	{
		name: "the plugin hangs",
		fail: func(_ *testing.T, node *harness.Node) { node.SignalPlugin(syscall.SIGSTOP) },
		mend: func(_ *testing.T, node *harness.Node) { node.SignalPlugin(syscall.SIGCONT) },
	},
}

// TestNobodyCanAskVault has Vault fail in every way in which it answers nobody.
// Known tokens go on for max_stale; after that, and for unknown ones at once, the
// answer is 503; and all is well again soon after Vault is.
func TestNobodyCanAskVault(t *testing.T) {
	s := newStage(t, harness.WithCluster(1))
	patient := s.StartGateway(harness.GatewayOptions{})
	short := s.StartGateway(strict(""))
	for _, o := range outages {
		t.Run(o.name, func(t *testing.T) { s.in(t).outlive(t, o, patient, short) })
	}
}

func (s *stage) outlive(t *testing.T, o outage, patient, short *harness.Gateway) {
	t.Helper()
	node := s.Vault.Nodes[0]
	s.feedUp(short)
	created := time.Now()
	known, unknown := s.client("known"), s.client("unknown")
	defer s.Delete("mcp/clients/known")
	defer s.Delete("mcp/clients/unknown")
	atPatient, atShort := newCaller(t, patient), newCaller(t, short)
	s.becomes(t, atPatient, known, http.StatusOK, impatience)
	s.becomes(t, atShort, known, http.StatusOK, impatience)
	s.feedUp(patient)
	s.feedUp(short)

	goesOn := atPatient.probe(t, "a known token within max_stale", known)
	ends := atShort.probe(t, "a known token beyond max_stale", known)
	began := time.Now()
	o.fail(t, node)
	failed := time.Now()
	for _, token := range []string{unknown, harness.UnissuedToken(t)} {
		a := atShort.call(t.Context(), token)
		if a.status != http.StatusServiceUnavailable || a.retryAfter == "" || a.took > 3*time.Second {
			t.Errorf("an unknown token is answered %d, Retry-After %q, after %s", a.status, a.retryAfter, a.took)
		}
	}
	s.becomes(t, atShort, known, http.StatusServiceUnavailable, strictStale+2*time.Second)
	<-time.After(time.Until(failed.Add(strictStale + time.Second))) // so that some fail
	s.healthy(t, patient, short)

	mending := time.Now()
	o.mend(t, node)
	mended := time.Now()
	s.becomes(t, atShort, unknown, http.StatusOK, 5*time.Second)
	s.becomes(t, atShort, known, http.StatusOK, 5*time.Second)
	s.revocationWorks(t, patient, short)
	goesOn.stop()
	ends.stop()

	goesOn.neverFailed(t)
	seen := ends.outcome(t)
	t.Logf("known tokens went on for %s; then there were %d times 503, the slowest after %s; good again %s after Vault was",
		since(seen.lastGood, began), seen.bad, seen.slowest.Round(time.Millisecond), since(seen.recovered, mended))
	for _, a := range ends.all() {
		// The feed has told of the client: with an answer to a request that was sent
		// no longer before than one is held, and may take beyond that, a second each.
		early := created.Add(strictStale - 2*time.Second)
		if answered := a.sent.Add(a.took); a.status == http.StatusServiceUnavailable && answered.Before(early) {
			t.Errorf("there was a 503 %s after the client was made", since(answered, created))
		}
		if a.status == http.StatusOK && a.sent.After(failed.Add(strictStale)) && a.sent.Add(a.took).Before(mending) {
			t.Errorf("a request passed %s after Vault failed", since(a.sent, failed))
		}
	}
	if seen.bad == 0 {
		t.Error("no request failed: Vault did not")
	}
	if seen.slowest > 4*time.Second {
		t.Errorf("an answer took %s", seen.slowest)
	}
	if seen.recovered.After(mended.Add(5 * time.Second)) {
		t.Errorf("requests failed for %s after Vault was back", since(seen.recovered, mended))
	}
}
