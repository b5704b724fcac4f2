package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/bootstrap/policies"
	"vault-plugin-secrets-mcp/bootstrap/provision"
	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/stage"
	"vault-plugin-secrets-mcp/test/upstream/bed"
	"vault-plugin-secrets-mcp/test/upstream/servers"
)

// callers call servers all the time. None of their calls may fail.
type callers struct {
	w     *surroundings
	group sync.WaitGroup
	stop  context.CancelFunc

	sessions int
	calls    atomic.Int64

	mu    sync.Mutex
	seen  map[string]bool // credentials
	fault error
}

// call has so many clients call these servers, each in one session, until done.
func (w *surroundings) call(clients int, where ...string) *callers {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	c := &callers{w: w, stop: cancel, seen: map[string]bool{}}
	for i := range clients {
		token := w.client(fmt.Sprint("caller-", i), nil)
		for _, server := range where {
			session := w.connect(server, token)
			c.sessions++
			c.group.Go(func() { c.loop(ctx, server, session) })
		}
	}
	w.t.Cleanup(c.done)
	return c
}

func (c *callers) loop(ctx context.Context, server string, session *mcp.ClientSession) {
	for ctx.Err() == nil {
		credential, err := c.one(server, session)
		c.calls.Add(1)
		c.mu.Lock()
		if err != nil && c.fault == nil {
			c.fault = fmt.Errorf("%s: %w", server, err)
		}
		c.seen[credential] = true
		c.mu.Unlock()
		pause(5 * time.Millisecond)
	}
}

func (c *callers) one(server string, session *mcp.ClientSession) (credential string, err error) {
	if server == orders {
		row, err := tryAsk[servers.Row](c.w.t, session, "whoami", harness.Map{})
		return row.User, err
	}
	seen, err := tryAsk[servers.Sight](c.w.t, session, "look", harness.Map{})
	c.w.declare(&seen)
	return seen.Header.Get("X-Serial") + seen.Env["LEASED_SERIAL"] + seen.Header.Get("X-Vault-Token"), err
}

// credentials is how many different ones the calls were answered with.
func (c *callers) credentials() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.seen)
}

// until waits until there were so many credentials.
func (c *callers) until(credentials int) {
	c.w.t.Helper()
	c.w.Within(10*time.Minute, "credentials are replaced", func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.fault != nil {
			c.w.t.Fatalf("after %d credentials: %v", len(c.seen), c.fault)
		}
		if len(c.seen) < credentials {
			return fmt.Errorf("there were %d", len(c.seen))
		}
		return nil
	})
}

// done ends the calls, and fails the test if one has failed.
func (c *callers) done() {
	c.stop()
	c.group.Wait()
	if c.fault != nil {
		c.w.t.Error(c.fault)
	}
}

// TestNoRequestFailsWhileLeasesAreReplaced: certificates cannot be renewed, so each of them
// is replaced before its end.
func TestNoRequestFailsWhileLeasesAreReplaced(t *testing.T) {
	t.Parallel()
	w := newSurroundings(t, settings{certificate: "30s"})
	replacements := runs(t, "UPSTREAM_REPLACEMENTS", 12)
	c := w.call(4+min(replacements/100, 12), web, old, child)
	c.until(c.sessions + replacements)
	c.done()
	t.Logf("%d calls, %d certificates, %d leases alive at the end", c.calls.Load(), c.credentials(), len(bed.AllLeases(w.Harness)))
}

// TestNoRequestFailsWhileRolesAreReplaced is the same with a database: a role is renewed to
// its max_ttl, and then replaced.
func TestNoRequestFailsWhileRolesAreReplaced(t *testing.T) {
	t.Parallel()
	w := newSurroundings(t, settings{database: true, roleTTL: "15s", roleMaxTTL: "30s"})
	c := w.call(4, orders)
	c.until(c.sessions + runs(t, "UPSTREAM_REPLACEMENTS", 4))
	c.done()
	t.Logf("%d calls, %d roles", c.calls.Load(), c.credentials())
}

// TestNoRequestFailsWhileChildTokensAreReplaced: Vault gives child tokens less than was
// asked for, and never renews them beyond.
func TestNoRequestFailsWhileChildTokensAreReplaced(t *testing.T) {
	t.Parallel()
	w := newSurroundings(t, settings{noGateway: true})
	bed.WriteTokenRole(w.Harness, harness.Map{"token_explicit_max_ttl": "24s"})
	w.gateway = w.startGateway(settings{})
	c := w.call(3, web, child, notes)
	c.until(c.sessions + runs(t, "UPSTREAM_REPLACEMENTS", 9))
	c.done()
}

// TestNoRequestFailsWhileTheGatewayLogsInAgain: the child tokens end with the login under
// which they were minted, so they are minted again under the next.
func TestNoRequestFailsWhileTheGatewayLogsInAgain(t *testing.T) {
	t.Parallel()
	w := newSurroundings(t, settings{noGateway: true})
	_, err := provision.GatewayLogin(t.Context(), w.Vault.Client(), policies.GatewayName)
	require.NoError(t, err)
	role := "auth/approle/role/" + provision.GatewayRole
	// The harness would write the role again at its first gateway.
	first := w.startGateway(settings{})
	first.Stop()
	w.Write(role, harness.Map{
		"token_policies": policies.GatewayName, "token_no_default_policy": true, "token_ttl": "15s", "token_max_ttl": "15s", "token_period": 0,
	})
	w.gateway = w.startGateway(settings{})
	c := w.call(3, web, child)
	c.until(c.sessions + runs(t, "UPSTREAM_REPLACEMENTS", 6))
	c.done()
}

// TestASessionOutlivesItsChild: an idle client finds its session at a server on stdio,
// after the server was replaced three times.
func TestASessionOutlivesItsChild(t *testing.T) {
	t.Parallel()
	w := newSurroundings(t, settings{certificate: "9s"})
	session := w.connect(child, w.client("c", nil))
	first := w.look(session)
	serials := map[string]bool{}
	w.Eventually("three certificates were issued after the first", func() error {
		for _, serial := range w.List("pki/certs") {
			serials[serial] = true
		}
		if len(serials) < 5 { // with the authority's own
			return fmt.Errorf("there are %d", len(serials))
		}
		return nil
	})
	last := w.look(session)
	require.NotEqual(t, first.PID, last.PID)
	require.NotEqual(t, first.Env["LEASED_SERIAL"], last.Env["LEASED_SERIAL"])
	w.Eventually("the first process has ended", func() error { return ended(first.PID) })
}

// TestACallThatOutlivesItsCredentialsIsTold: a call at a server on stdio takes longer than
// the lease of the server can. It fails before the end of that, with the reason; the
// session goes on.
func TestACallThatOutlivesItsCredentialsIsTold(t *testing.T) {
	t.Parallel()
	w := newSurroundings(t, settings{certificate: "20s"})
	session := w.connect(child, w.client("c", nil))
	first := w.look(session)
	began := time.Now()
	_, err := tryAsk[servers.Sight](t, session, "wait", servers.Pause{Milliseconds: 120_000})
	require.ErrorContains(t, err, "credentials")
	took := time.Since(began)
	require.Less(t, took, 20*time.Second)
	require.Greater(t, took, 10*time.Second)
	require.NotEqual(t, first.PID, w.look(session).PID)
}

// TestACallGoesOnWhileItsServerIsReplaced: it began before, and ends in time.
func TestACallGoesOnWhileItsServerIsReplaced(t *testing.T) {
	t.Parallel()
	w := newSurroundings(t, settings{certificate: "36s"})
	var group sync.WaitGroup
	for _, server := range []string{web, old, child} {
		session := w.connect(server, w.client("c-"+server, nil))
		w.look(session)
		group.Go(func() {
			_, err := tryAsk[servers.Sight](t, session, "wait", servers.Pause{Milliseconds: 27_000})
			if err != nil {
				t.Errorf("%s: %v", server, err)
			}
		})
	}
	group.Wait()
}

// TestAStreamGoesOnWhileItsCredentialsAreReplaced: the gateway opens a session's own stream
// again with the next credentials, and the client notices nothing. It still ends with the
// client's access.
func TestAStreamGoesOnWhileItsCredentialsAreReplaced(t *testing.T) {
	t.Parallel()
	w := newSurroundings(t, settings{certificate: "12s"})
	token := w.client("c", nil)
	session := stage.OpenSession(t, w.Harness, w.gateway.ServerURL(web), token)
	s := w.openStreamIn(web, token, session)
	w.Eventually("the stream was opened with three certificates", func() error {
		serials := map[string]bool{}
		for _, request := range w.upstreams[web].Requests() {
			if request.Method == http.MethodGet {
				serials[request.Header.Get("X-Serial")] = true
			}
		}
		if s.over() == nil {
			t.Fatal("the stream has ended")
		}
		if len(serials) < 3 {
			return fmt.Errorf("there are %d", len(serials))
		}
		return nil
	})
	answer := w.Do(http.MethodPost, w.gateway.ServerURL(web), token, stage.InSession(session),
		`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"look","arguments":{}}}`)
	if answer.Status != http.StatusOK || !strings.Contains(answer.Body, "X-Serial") {
		t.Error(errors.New("the session is gone: " + answer.Body))
	}
	w.Write("mcp/revoke-client/c", nil)
	w.Within(beside, "the stream ends with the client's access", s.over)
}
