package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/bootstrap/policies"
	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/upstream/bed"
	"vault-plugin-secrets-mcp/test/upstream/servers"
)

// meddle is the treatment of a gateway's request by a proxy before Vault.
type meddle = func(w http.ResponseWriter, r *http.Request, vault http.Handler)

// behindFront starts a gateway that reaches Vault through a proxy.
func (w *surroundings) behindFront(s settings) *harness.Front {
	w.t.Helper()
	return w.behindFrontOf(w.Vault.Address(), s)
}

// behindFrontOf is behindFront for one node of Vault.
func (w *surroundings) behindFrontOf(node string, s settings) *harness.Front {
	w.t.Helper()
	front := harness.NewFront(w.t, node)
	s.gateway.Vault = front.URL
	w.gateway = w.startGateway(s)
	return front
}

// hanging answers nothing until the test, or the gateway, gives up.
func hanging(t *testing.T) (how meddle, end func()) {
	t.Helper()
	ended := make(chan struct{})
	end = sync.OnceFunc(func() { close(ended) })
	t.Cleanup(end)
	return func(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
		select {
		case <-r.Context().Done():
		case <-ended:
		}
		panic(http.ErrAbortHandler)
	}, end
}

// cutOff ends each connection.
func cutOff(http.ResponseWriter, *http.Request, http.Handler) { panic(http.ErrAbortHandler) }

// slow answers everything but the feed late. A request whose client hangs up meanwhile is
// carried out all the same.
func slow(by time.Duration) meddle {
	return func(w http.ResponseWriter, r *http.Request, vault http.Handler) {
		if !strings.HasSuffix(r.URL.Path, "/changes") {
			pause(by)
		}
		vault.ServeHTTP(w, r)
	}
}

// gone waits until none of the leases is left in Vault.
func (w *surroundings) gone(bound time.Duration) {
	w.t.Helper()
	w.Within(bound, "nothing is left in Vault", func() error {
		return errors.Join(none(bed.AllLeases(w.Harness)), none(accessors(bed.Children(w.t, w.Harness))))
	})
}

// TestVaultCannotBeReachedWhileLeasesLive: a client that has credentials goes on with them;
// no client gets new ones. When Vault is back all is as before, and ends as always.
func TestVaultCannotBeReachedWhileLeasesLive(t *testing.T) {
	t.Parallel()
	w := newSurroundings(t, settings{noGateway: true})
	front := w.behindFront(settings{})
	token := w.client("c", nil)
	session := w.connect(web, token)
	serial := w.look(session).Header.Get("X-Serial")
	front.Set(cutOff)
	require.Equal(t, serial, w.look(session).Header.Get("X-Serial"))
	line := w.unavailable(notes, token)
	require.Equal(t, reason, line["reason"], line)
	require.Equal(t, serial, w.look(session).Header.Get("X-Serial"))
	front.Set(nil)
	w.works(notes, token)
	require.Equal(t, serial, w.look(session).Header.Get("X-Serial"))
	w.Write("mcp/revoke-client/c", nil)
	w.gone(10 * time.Second)
}

// TestVaultHangsWhileLeasesLive is the same with a Vault that accepts requests and answers
// none. It takes the gateway a while to give up, and then the client's token itself is to be
// confirmed.
func TestVaultHangsWhileLeasesLive(t *testing.T) {
	t.Parallel()
	w := newSurroundings(t, settings{noGateway: true})
	front := w.behindFront(settings{})
	token := w.client("c", nil)
	session := w.connect(web, token)
	serial := w.look(session).Header.Get("X-Serial")
	how, end := hanging(t)
	front.Set(how)
	require.Equal(t, serial, w.look(session).Header.Get("X-Serial"))
	line := w.unavailable(notes, token)
	require.Contains(t, []any{reason, "vault-unavailable"}, line["reason"], line)
	front.Set(nil)
	end()
	w.works(notes, token)
	w.Write("mcp/revoke-client/c", nil)
	w.gone(15 * time.Second)
}

// TestVaultIsSealedWhileLeasesLive is the same with a Vault that really is.
func TestVaultIsSealedWhileLeasesLive(t *testing.T) {
	t.Parallel()
	w := newSurroundings(t, settings{vault: []harness.Option{harness.WithCluster(1)}})
	token := w.client("c", nil)
	session := w.connect(web, token)
	serial := w.look(session).Header.Get("X-Serial")
	w.Write("sys/seal", nil)
	require.Equal(t, serial, w.look(session).Header.Get("X-Serial"))
	line := w.unavailable(notes, token)
	require.Equal(t, reason, line["reason"], line)
	w.Vault.Nodes[0].Start() // which unseals it
	w.works(notes, token)
	w.look(w.connect(old, token))
	require.Equal(t, serial, w.look(session).Header.Get("X-Serial"))
	w.Write("mcp/revoke-client/c", nil)
	w.gone(10 * time.Second)
}

// TestVaultIsSlowWhileAccessEnds: each answer takes two seconds. A mint is under way when
// access ends; its result is never used, and ends.
func TestVaultIsSlowWhileAccessEnds(t *testing.T) {
	t.Parallel()
	w := newSurroundings(t, settings{noGateway: true})
	front := w.behindFront(settings{})
	token := w.client("c", nil)
	w.look(w.connect(old, token))
	front.Set(slow(2 * time.Second))
	before := w.upstreams[web].Count()
	var group sync.WaitGroup
	group.Go(func() { _, _ = w.post(web, token) })
	w.Eventually("a mint is under way", func() error {
		if !asked(front, "auth/token/create/") {
			return errors.New("it is not")
		}
		return nil
	})
	w.Write("mcp/revoke-client/c", nil)
	answered := time.Now()
	w.Within(beside, "the token is refused", func() error { return w.refused(web, token) })
	group.Wait()
	w.gone(20 * time.Second)
	t.Logf("nothing is left after %s", time.Since(answered).Round(time.Millisecond))
	require.Equal(t, before, w.upstreams[web].Count(), "the server was asked after access had ended")
}

// post calls a tool in one request. Its connection may be cut.
func (w *surroundings) post(server, token string) (int, error) {
	request, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.gateway.ServerURL(server), strings.NewReader(harness.CallBody("look", "{}")))
	if err != nil {
		return 0, err
	}
	request.Header = callHeader.Clone()
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return response.StatusCode, err
}

// asked reports whether the gateway has asked for a path since the last Set.
func asked(front *harness.Front, path string) bool { return count(front, path) > 0 }

func count(front *harness.Front, path string) int {
	n := 0
	for _, r := range front.Seen() {
		if strings.Contains(r.URL.Path, path) {
			n++
		}
	}
	return n
}

// TestAnotherNodeLeadsWhileLeasesLive: no call fails that has its credentials, and who has
// none gets some from the next leader.
func TestAnotherNodeLeadsWhileLeasesLive(t *testing.T) {
	t.Parallel()
	w := newSurroundings(t, settings{vault: []harness.Option{harness.WithCluster(3)}})
	c := w.call(2, web, child)
	leader := w.Vault.Leader()
	_, err := leader.Client().Logical().WriteWithContext(t.Context(), "sys/step-down", nil)
	require.NoError(t, err)
	w.Vault.AwaitLeader()
	w.works(web, w.client("late", nil))
	c.done()
	require.Equal(t, 4, c.credentials())
	for _, client := range []string{"caller-0", "caller-1", "late"} {
		w.Write("mcp/revoke-client/"+client, nil)
	}
	w.gone(10 * time.Second)
}

// TestTheGatewaysOwnTokenIsRevoked: the credentials that were leased under it have ended,
// and are leased again under the next. A call with the old credentials gets an error.
func TestTheGatewaysOwnTokenIsRevoked(t *testing.T) {
	t.Parallel()
	w := newSurroundings(t, settings{})
	token := w.client("c", nil)
	session, waiting := w.connect(web, token), w.connect(child, token)
	serial, first := w.look(session).Header.Get("X-Serial"), w.look(waiting)
	failed := make(chan error, 1)
	go func() {
		_, err := tryAsk[servers.Sight](t, waiting, "wait", servers.Pause{Milliseconds: 60_000})
		failed <- err
	}()
	w.Eventually("the call is under way", func() error { return w.busy(child) })
	w.revokeLogin()
	require.Error(t, <-failed)
	line := w.line(0, func(line harness.Map) bool { return line["tool"] == "wait" && line["type"] == "outcome" })
	require.Equal(t, reason, line["reason"], line)
	w.Within(20*time.Second, "there are others", func() error {
		seen, err := tryAsk[servers.Sight](t, session, "look", harness.Map{})
		if err != nil || seen.Header.Get("X-Serial") == serial {
			return errors.Join(err, errors.New("it is the old one"))
		}
		w.declare(&seen)
		return nil
	})
	require.NotEqual(t, first.PID, w.look(waiting).PID, "the session goes on")
	w.Write("mcp/revoke-client/c", nil)
	w.gone(10 * time.Second)
}

// busy is nil once the gateway has decided about a call of "wait" at a server.
func (w *surroundings) busy(server string) error {
	for _, line := range w.gateway.Audit() {
		if line["server"] == server && line["tool"] == "wait" {
			return nil
		}
	}
	return errors.New("no decision yet")
}

// revokeLogin revokes every token of a gateway.
func (w *surroundings) revokeLogin() {
	w.t.Helper()
	revoked := 0
	for _, accessor := range w.List("auth/token/accessors") {
		found, err := w.TryWrite("auth/token/lookup-accessor", harness.Map{"accessor": accessor})
		if err != nil {
			continue // it has ended since
		}
		if held, _ := found["policies"].([]any); slices.Contains(held, any(policies.GatewayName)) {
			w.Write("auth/token/revoke-accessor", harness.Map{"accessor": accessor})
			revoked++
		}
	}
	require.Positive(w.t, revoked)
}

// TestAGatewayThatIsKilledHoldsNothingForLong: nobody renews its child tokens, and all that
// they have leased ends with them.
func TestAGatewayThatIsKilledHoldsNothingForLong(t *testing.T) {
	t.Parallel()
	const life = 15 * time.Second
	w := newSurroundings(t, settings{noGateway: true})
	bed.WriteTokenRole(w.Harness, harness.Map{"token_explicit_max_ttl": life.String()})
	w.gateway = w.startGateway(settings{})
	a := w.holds("c", w.client("c", nil))
	w.gateway.Kill()
	for _, pid := range a.pids {
		w.Within(beside, "its children end with it", func() error { return ended(pid) })
	}
	w.gone(life + 5*time.Second)
}

// TestADrainedGatewayLeavesNothing: SIGTERM, as for an update.
func TestADrainedGatewayLeavesNothing(t *testing.T) {
	t.Parallel()
	w := newSurroundings(t, settings{gateway: harness.GatewayOptions{Blocks: map[string]string{"listener": "drain_timeout = \"1s\"\n"}}})
	a := w.holds("c", w.client("c", nil))
	w.gateway.Stop()
	for _, pid := range a.pids {
		require.NoError(t, ended(pid))
	}
	w.gone(beside)
}

// TestManyFirstCallsLeaseOnce: fifty calls come at one time to a server that the client has
// not used yet.
func TestManyFirstCallsLeaseOnce(t *testing.T) {
	t.Parallel()
	w := newSurroundings(t, settings{noGateway: true})
	front := w.behindFront(settings{})
	token := w.client("c", nil)
	w.works(old, token) // the token is known from here on
	front.Set(slow(200 * time.Millisecond))
	var group sync.WaitGroup
	var good atomic.Int64
	for range 50 {
		group.Go(func() {
			if status, err := w.post(web, token); err == nil && status == http.StatusOK {
				good.Add(1)
			}
		})
	}
	group.Wait()
	require.EqualValues(t, 50, good.Load())
	require.Equal(t, 1, count(front, "auth/token/create/"))
	require.Equal(t, 1, count(front, "pki/issue/"))
	require.Len(t, bed.Leases(w.Harness, "ssh/creds/otp"), 1)
}

// TestAClientThatHangsUpCancelsNoLease: its credentials are ready when it comes back.
func TestAClientThatHangsUpCancelsNoLease(t *testing.T) {
	t.Parallel()
	w := newSurroundings(t, settings{noGateway: true})
	front := w.behindFront(settings{})
	token := w.client("c", nil)
	w.works(old, token)
	front.Set(slow(time.Second))
	ctx, cancel := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, w.gateway.ServerURL(web), strings.NewReader(harness.CallBody("look", "{}")))
	require.NoError(t, err)
	request.Header = callHeader.Clone()
	request.Header.Set("Authorization", "Bearer "+token)
	var group sync.WaitGroup
	group.Go(func() {
		response, err := http.DefaultClient.Do(request)
		if err == nil {
			_ = response.Body.Close()
		}
	})
	w.Eventually("a mint is under way", func() error {
		if !asked(front, "auth/token/create/") {
			return errors.New("it is not")
		}
		return nil
	})
	cancel()
	group.Wait()
	w.works(web, token)
	require.Equal(t, 1, count(front, "auth/token/create/"))
	require.Equal(t, 1, count(front, "pki/issue/"))
}

// TestAStandbyThatLagsCostsNoCall: a fresh child token is answered with 412, and then with
// 403, before the node that answers knows it.
func TestAStandbyThatLagsCostsNoCall(t *testing.T) {
	t.Parallel()
	w := newSurroundings(t, settings{noGateway: true, vault: []harness.Option{harness.WithCluster(3)}})
	front := w.behindFrontOf(w.Vault.Standby().Address(), settings{})
	token := w.client("c", nil)
	var answers atomic.Int64
	front.Set(func(rw http.ResponseWriter, r *http.Request, vault http.Handler) {
		if strings.Contains(r.URL.Path, "pki/issue/") {
			switch answers.Add(1) {
			case 1:
				rw.WriteHeader(http.StatusPreconditionFailed)
				return
			case 2:
				rw.WriteHeader(http.StatusForbidden)
				_, _ = io.WriteString(rw, `{"errors":["permission denied"]}`)
				return
			}
		}
		vault.ServeHTTP(rw, r)
	})
	require.NoError(t, w.try(old, token))
	require.Len(t, bed.Leases(w.Harness, "pki/issue/mcp"), 1)
}

// TestATokenForAnotherIdentityIsDestroyed: the child token that Vault mints has no entity,
// or the entity of another client. No secret is read with it.
func TestATokenForAnotherIdentityIsDestroyed(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(body map[string]any){
		"of nobody":         func(body map[string]any) { delete(body, "entity_alias") },
		"of another client": func(body map[string]any) { body["entity_alias"] = "mcp:other" },
	} {
		t.Run(name, func(t *testing.T) {
			w := newSurroundings(t, settings{noGateway: true})
			front := w.behindFront(settings{})
			w.works(old, w.client("other", nil))
			children := len(bed.Children(t, w.Harness))
			token := w.client("c", nil)
			front.Set(func(rw http.ResponseWriter, r *http.Request, vault http.Handler) {
				if strings.Contains(r.URL.Path, "auth/token/create/") {
					var body map[string]any
					if err := json.NewDecoder(r.Body).Decode(&body); err == nil {
						change(body)
					}
					changed, _ := json.Marshal(body)
					r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(changed)), int64(len(changed))
				}
				vault.ServeHTTP(rw, r)
			})
			line := w.unavailable(web, token)
			require.Equal(t, reason, line["reason"], line)
			require.Zero(t, count(front, "pki/issue/"))
			w.Within(beside, "the token is destroyed", func() error {
				if n := len(bed.Children(t, w.Harness)); n > children {
					return fmt.Errorf("there are %d", n)
				}
				return nil
			})
		})
	}
}

// TestASecretWithoutALeaseIsReadAgain: KV has no leases. A new value reaches the server
// within refresh.
func TestASecretWithoutALeaseIsReadAgain(t *testing.T) {
	t.Parallel()
	w := newSurroundings(t, settings{})
	w.Write("mcp/servers/kv", harness.Map{
		"transport": "http", "url": w.upstreams[web].URL,
		"credentials": harness.Map{"gh": harness.Map{"path": "kv/data/mcp/{{client.alias}}/github", "refresh": "5s"}},
		"headers":     harness.Map{"Authorization": "Bearer {{gh.data.token}}"},
	})
	token := w.client("c", nil)
	w.works("kv", token)
	session := w.connect("kv", token)
	require.Equal(t, "Bearer github-token-of-c", w.look(session).Header.Get("Authorization"))
	w.Leased("the-next-token-of-c")
	w.Write("kv/data/mcp/mcp:c/github", harness.Map{"data": harness.Map{"token": "the-next-token-of-c"}})
	w.Within(15*time.Second, "the server gets the next one", func() error {
		if got := w.look(session).Header.Get("Authorization"); got != "Bearer the-next-token-of-c" {
			return errors.New("it gets the first")
		}
		return nil
	})
	require.Len(t, w.tokens("c"), 1)
}
