package reliability

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-mcp/test/harness"
)

const (
	calculator = "calculator"

	// strictStale is the max_stale of the gateways that do not trust Vault's
	// answers for long, so that tests see what happens then.
	strictStale = 4 * time.Second

	// promised is how soon a revocation takes effect while the feed is up.
	promised = time.Second
)

// strict are the options of such a gateway.
func strict(vault string) harness.GatewayOptions {
	return harness.GatewayOptions{Vault: vault, Blocks: map[string]string{"grants": fmt.Sprintf("max_stale = %q", strictStale)}}
}

// stage is a Vault that can fail, with a server for its clients.
type stage struct {
	*harness.Harness
	upstream *harness.Upstream
}

func newStage(t *testing.T, opts ...harness.Option) *stage {
	t.Helper()
	h := harness.New(t, opts...)
	s := &stage{Harness: h, upstream: h.StartUpstream(nil)}
	h.Write("mcp/servers/"+calculator, harness.Map{"transport": "http", "url": s.upstream.URL})
	return s
}

// in returns the stage for a subtest.
func (s *stage) in(t *testing.T) *stage {
	t.Helper()
	view := *s
	view.Harness = s.Harness.In(t)
	return &view
}

// client makes a client that may reach the calculator, and returns its token.
func (s *stage) client(name string) string {
	return s.CreateClient(name, harness.Map{"allowed_servers": calculator})
}

// becomes waits until calls with a token are answered with a status, and returns
// how long that took.
func (s *stage) becomes(t *testing.T, c *caller, token string, status int, within time.Duration) time.Duration {
	t.Helper()
	started := time.Now()
	s.Within(within, fmt.Sprintf("the answer is %d", status), func() error {
		if a := c.call(t.Context(), token); a.status != status {
			return fmt.Errorf("it is %d: %w", a.status, errors.Join(a.err))
		}
		return nil
	})
	return time.Since(started)
}

// introduce makes gateways ask Vault about a token, whatever its rights, so that it is
// known to them, and the next request does not wait for a lookup.
func (s *stage) introduce(t *testing.T, token string, gateways ...*harness.Gateway) {
	t.Helper()
	for _, g := range gateways {
		s.Within(impatience, "the gateway knows the token", func() error {
			got := s.Post(g.ServerURL(calculator), token, `{"jsonrpc":"2.0","id":1,"method":"ping"}`)
			if got.Status == http.StatusUnauthorized || got.Status == http.StatusServiceUnavailable {
				return fmt.Errorf("it is answered %d %s", got.Status, got.Body)
			}
			return nil
		})
	}
}

// feedUp waits until a gateway follows the changes.
func (s *stage) feedUp(g *harness.Gateway) {
	s.Eventually("the change feed is up", func() error {
		if !strings.Contains(g.Metrics(), "\nmcp_gateway_feed_up 1\n") {
			return errors.New("it is down")
		}
		return nil
	})
}

// revocationWorks fails the test unless a revocation takes effect in the promised
// time at every gateway.
func (s *stage) revocationWorks(t *testing.T, gateways ...*harness.Gateway) {
	t.Helper()
	const name = "to-be-revoked"
	token := s.client(name)
	callers := make([]*caller, len(gateways))
	for i, g := range gateways {
		s.feedUp(g)
		callers[i] = newCaller(t, g)
		s.becomes(t, callers[i], token, http.StatusOK, impatience)
	}
	s.Write("mcp/revoke-client/"+name, nil)
	revoked := time.Now()
	for _, c := range callers {
		s.becomes(t, c, token, http.StatusUnauthorized, promised)
	}
	t.Logf("a revocation took effect at %d gateways within %s", len(gateways), time.Since(revoked).Round(time.Millisecond))
	s.Delete("mcp/clients/" + name)
}

// healthy fails the test unless a gateway is alive and wants requests.
func (s *stage) healthy(t *testing.T, gateways ...*harness.Gateway) {
	t.Helper()
	for _, g := range gateways {
		for _, path := range []string{"/healthz", "/readyz"} {
			if r := s.Do(http.MethodGet, g.Admin+path, "", nil, ""); r.Status != http.StatusOK {
				t.Errorf("%s is answered %d %s", path, r.Status, r.Body)
			}
		}
	}
}
