package reliability

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"vault-plugin-secrets-mcp/test/harness"
)

// TestVaultIsHardToReach breaks the connection between a gateway and Vault.
func TestVaultIsHardToReach(t *testing.T) {
	s := newStage(t)
	t.Run("the way is slow", func(t *testing.T) { s.in(t).behindASlowLine(t) })
	t.Run("the change feed is cut", func(t *testing.T) { s.in(t).withoutTheFeed(t) })
	t.Run("the plugin is killed", func(t *testing.T) { s.in(t).killThePlugin(t) })
}

// behindASlowLine: requests that take less than a second only take longer; those that
// take more count as unanswered.
func (s *stage) behindASlowLine(t *testing.T) {
	t.Helper()
	way := newLine(t, s.Vault.Address())
	g := s.StartGateway(strict(way.url))
	c := newCaller(t, g)
	known := s.client("slow-known")
	s.becomes(t, c, known, http.StatusOK, impatience)
	s.feedUp(g)

	way.delay.Store(int64(200 * time.Millisecond))
	p := c.probe(t, "a known token over a slow line", known)
	for i := range 3 {
		took := s.becomes(t, c, s.client(fmt.Sprint("slow-cold-", i)), http.StatusOK, impatience)
		t.Logf("an unknown token is good after %s", took.Round(time.Millisecond))
	}
	revoked := s.client("slow-revoked")
	s.becomes(t, c, revoked, http.StatusOK, impatience)
	s.Write("mcp/revoke-client/slow-revoked", nil)
	s.becomes(t, c, revoked, http.StatusUnauthorized, promised+time.Second) // the feed's answer, and a lookup
	p.stop()
	p.neverFailed(t)
	if took := percentile(p, 50); took > 150*time.Millisecond {
		t.Errorf("a known token waited %s", took)
	}

	way.delay.Store(int64(1500 * time.Millisecond))
	started := time.Now()
	a := c.call(t.Context(), s.client("slow-late"))
	if a.status != http.StatusServiceUnavailable || a.took > 3*time.Second {
		t.Errorf("where Vault takes three seconds, an unknown token is answered %d after %s", a.status, a.took)
	}
	s.becomes(t, c, known, http.StatusServiceUnavailable, strictStale+4*time.Second)
	t.Logf("a known token went on for %s behind a line of three seconds", since(time.Now(), started))
	s.healthy(t, g)

	way.delay.Store(0)
	t.Logf("good again after %s", s.becomes(t, c, known, http.StatusOK, 8*time.Second))
	s.revocationWorks(t, g)
}

// withoutTheFeed: lookups confirm grants in the place of the feed, so no valid token is
// refused; a revoked one passes for max_stale at most.
func (s *stage) withoutTheFeed(t *testing.T) {
	t.Helper()
	between := newFeedCutter(t, s.Vault.Address())
	g := s.StartGateway(strict(between.url))
	c := newCaller(t, g)
	stays, goes := s.client("feed-stays"), s.client("feed-goes")
	s.becomes(t, c, stays, http.StatusOK, impatience)
	s.becomes(t, c, goes, http.StatusOK, impatience)
	s.feedUp(g)
	stream := openStream(t, s, g, goes)

	between.cut()
	p := c.probe(t, "a token that stays, without the feed", stays)
	s.Write("mcp/revoke-client/feed-goes", nil)
	revoked := time.Now()
	// From max_stale on it passes no more: Vault is asked, which may take a second.
	s.Within(strictStale+2*time.Second, "it is refused", func() error {
		a := c.call(t.Context(), goes)
		if late := a.sent.Sub(revoked); a.status == http.StatusOK && late > strictStale {
			t.Errorf("a token passed %s after it was revoked", late)
		}
		if a.status != http.StatusUnauthorized {
			return fmt.Errorf("it is answered %d: %w", a.status, errors.Join(a.err))
		}
		return nil
	})
	t.Logf("without the feed a revoked token was refused after %s", since(time.Now(), revoked))
	late := time.After(promised)
	for open := true; open; {
		select {
		case _, open = <-stream:
		case <-late:
			t.Fatal("its stream is still open")
		}
	}
	<-time.After(time.Until(revoked.Add(strictStale + time.Second)))
	between.mend()
	s.revocationWorks(t, g)
	p.stop()
	p.neverFailed(t)
}

// openStream opens a stream of the server's messages. The channel is closed when it
// ends.
func openStream(t *testing.T, s *stage, g *harness.Gateway, token string) <-chan string {
	t.Helper()
	url := g.ServerURL(calculator)
	return listen(t, url, token, s.newSession(t, url, token))
}

// killThePlugin: Vault starts another one. Known tokens do not notice, and
// lookups fail for a moment at most.
func (s *stage) killThePlugin(t *testing.T) {
	t.Helper()
	g := s.StartGateway(strict(""))
	c := newCaller(t, g)
	known := s.client("plugin-known")
	s.becomes(t, c, known, http.StatusOK, impatience)
	s.feedUp(g)
	p := c.probe(t, "a known token while the plugin is killed", known)
	cold := make([]string, 5)
	for i := range cold {
		cold[i] = s.client(fmt.Sprint("plugin-cold-", i))
	}
	var waited []time.Duration
	for _, cold := range cold {
		// Vault may be at replacing the last one, and for a moment have none, or two.
		s.Eventually("a plugin is killed", func() error {
			if s.Vault.Nodes[0].KillPlugin() == 0 {
				return errors.New("there is none")
			}
			return nil
		})
		started := time.Now()
		for {
			a := c.call(t.Context(), cold)
			if a.status == http.StatusOK {
				break
			}
			if a.status != http.StatusServiceUnavailable || time.Since(started) > 3*impatience {
				t.Fatalf("an unknown token is answered %d, %s after the plugin was killed: %v", a.status, time.Since(started), a.err)
			}
			// Vault has every request that it holds start the plugin, be it that
			// who sent it waits no more. On a machine on which that takes as long
			// as a lookup may, clients have to do as Retry-After says.
			if harness.Undecided(a.status, a.retryAfter, a.took) {
				pause, err := time.ParseDuration(a.retryAfter + "s")
				if err != nil {
					t.Fatal(err)
				}
				<-time.After(pause)
			}
		}
		waited = append(waited, time.Since(started))
	}
	t.Logf("an unknown token was good after %s at most", slices.Max(waited).Round(time.Millisecond))
	s.revocationWorks(t, g)
	p.stop()
	p.neverFailed(t)
}
