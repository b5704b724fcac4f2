package reliability

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-mcp/bootstrap/policies"
	"vault-plugin-secrets-mcp/bootstrap/provision"
	"vault-plugin-secrets-mcp/test/harness"
)

// TestTheGatewaysOwnTokenEnds: the gateway logs in again, and nobody notices; and
// if it cannot, known tokens go on for max_stale, until it can.
func TestTheGatewaysOwnTokenEnds(t *testing.T) {
	s := newStage(t)
	t.Run("it is revoked", func(t *testing.T) { s.in(t).revokeTheGatewaysToken(t) })
	t.Run("it expires", func(t *testing.T) { s.in(t).letTheGatewaysTokenExpire(t) })
	t.Run("and the login is refused", func(t *testing.T) { s.in(t).refuseTheGatewaysLogin(t) })
}

// revokeGateways revokes the token of every gateway, and returns how many there
// were.
func (s *stage) revokeGateways(t *testing.T) int {
	t.Helper()
	revoked := 0
	for _, accessor := range s.List("auth/token/accessors") {
		found, err := s.TryWrite("auth/token/lookup-accessor", harness.Map{"accessor": accessor})
		if err != nil {
			continue // it has ended since
		}
		held, _ := found["policies"].([]any)
		if slices.Contains(held, any(policies.GatewayName)) {
			s.Write("auth/token/revoke-accessor", harness.Map{"accessor": accessor})
			revoked++
		}
	}
	return revoked
}

func (s *stage) revokeTheGatewaysToken(t *testing.T) {
	t.Helper()
	g := s.StartGateway(harness.GatewayOptions{})
	c := newCaller(t, g)
	known := s.client("revoked-known")
	s.becomes(t, c, known, http.StatusOK, impatience)
	s.feedUp(g)
	p := c.probe(t, "a known token while the gateway's is revoked", known)
	for i := range 3 {
		unknown := s.client(fmt.Sprint("revoked-unknown-", i))
		if s.revokeGateways(t) == 0 {
			t.Fatal("no token of a gateway was there to be revoked")
		}
		if a := c.decided(t.Context(), unknown); a.status != http.StatusOK {
			t.Errorf("an unknown token is answered %d after %s: %v", a.status, a.took, a.err)
		}
	}
	s.revocationWorks(t, g)
	p.stop()
	p.neverFailed(t)
	g.Stop() // its token is not to be found by the next subtest
}

func (s *stage) letTheGatewaysTokenExpire(t *testing.T) {
	t.Helper()
	settings := provision.GatewayRoleSettings(policies.GatewayName)
	g := s.StartGateway(harness.GatewayOptions{NotReady: true}) // which makes the role
	g.Kill()
	settings["token_period"], settings["token_ttl"], settings["token_max_ttl"] = 0, 2, 3
	role := "auth/approle/role/" + provision.GatewayRole
	s.Write(role, settings)
	g.Restart()
	c := newCaller(t, g)
	known := s.client("expiring-known")
	s.becomes(t, c, known, http.StatusOK, impatience)
	p := c.probe(t, "a known token while the gateway's expires", known)
	ended := time.After(8 * time.Second)
	for i := 0; ; i++ {
		if a := c.decided(t.Context(), s.client(fmt.Sprint("expiring-unknown-", i))); a.status != http.StatusOK {
			t.Errorf("an unknown token is answered %d after %s: %v", a.status, a.took, a.err)
		}
		select {
		case <-ended:
		case <-time.After(4 * pace):
			continue
		}
		break
	}
	s.revocationWorks(t, g)
	p.stop()
	p.neverFailed(t)
	log, err := os.ReadFile(g.Process.Log())
	if err != nil {
		t.Fatal(err)
	}
	if logins := strings.Count(string(log), "logged in to Vault"); logins < 3 {
		t.Errorf("the gateway logged in %d times: its token did not expire", logins)
	}
	s.Write(role, provision.GatewayRoleSettings(policies.GatewayName))
	g.Stop()
}

func (s *stage) refuseTheGatewaysLogin(t *testing.T) {
	t.Helper()
	g := s.StartGateway(strict(""))
	c := newCaller(t, g)
	known := s.client("refused-known")
	s.becomes(t, c, known, http.StatusOK, impatience)
	s.feedUp(g)
	file := filepath.Join(s.Dir, "secret_id")
	secretID, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	p := c.probe(t, "a known token while the gateway cannot log in", known)
	s.Write("auth/approle/role/"+provision.GatewayRole+"/secret-id/destroy", harness.Map{"secret_id": strings.TrimSpace(string(secretID))})
	began := time.Now()
	s.revokeGateways(t)
	if a := c.call(t.Context(), s.client("refused-unknown")); a.status != http.StatusServiceUnavailable || a.took > 3*time.Second {
		t.Errorf("an unknown token is answered %d after %s", a.status, a.took)
	}
	s.becomes(t, c, known, http.StatusServiceUnavailable, strictStale+3*time.Second)
	s.healthy(t, g)

	login, err := provision.Login(t.Context(), s.Vault.Client(), provision.GatewayRole)
	if err != nil {
		t.Fatal(err)
	}
	s.Secret(login.SecretID)
	if err := os.WriteFile(file, []byte(login.SecretID), 0o600); err != nil {
		t.Fatal(err)
	}
	mended := time.Now()
	s.becomes(t, c, known, http.StatusOK, 20*time.Second)
	s.revocationWorks(t, g)
	p.stop()
	seen := p.outcome(t)
	t.Logf("a known token went on for %s; good again %s after there was a login", since(seen.lastGood, began), since(seen.recovered, mended))
	if seen.lastGood.Sub(began) > strictStale+time.Second && seen.firstBad.IsZero() {
		t.Errorf("a known token went on for %s", since(seen.lastGood, began))
	}
}
