package upstream

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/stage"
	"vault-plugin-secrets-mcp/test/upstream/bed"
	"vault-plugin-secrets-mcp/test/upstream/servers"
)

// within is how soon after Vault's answer nothing may be left: the promised second, and
// another one for a machine that runs other packages' tests beside. The long form has the
// machine for itself.
func within() time.Duration {
	if os.Getenv("UPSTREAM_RUNS") != "" {
		return bed.Promised
	}
	return 2 * bed.Promised
}

// beside is within for tests that run beside each other.
const beside = 5 * bed.Promised

// holdings are everything that a client has at a time.
type holdings struct {
	w             *surroundings
	client, token string
	stream        *stream
	serials       []string // of its certificates
	pids          []int    // of its processes
	vault         string   // the Vault token that a server has got
	role          uint32   // in the database
	user, table   string
}

// holds lets a client use every server, and returns the credentials that it has then.
func (w *surroundings) holds(client, token string) *holdings {
	w.t.Helper()
	a := &holdings{w: w, client: client, token: token}
	a.stream = w.openStream(web, token)
	for _, server := range []string{web, old, child} {
		seen := w.look(w.connect(server, token))
		require.Equal(w.t, client, w.owner(&seen), server)
		a.serials = append(a.serials, seen.Header.Get("X-Serial")+seen.Env["LEASED_SERIAL"])
		if server == child {
			a.pids = append(a.pids, seen.PID)
		}
		if server == web {
			require.Equal(w.t, "Bearer github-token-of-"+client, seen.Header.Get("Authorization"))
		}
	}
	session := w.connect(notes, token)
	note := ask[servers.Reading](w.t, session, "read", servers.Place{Path: "kv/data/notes/mcp:" + client})
	require.Equal(w.t, http.StatusOK, note.Status)
	seen := w.look(session)
	a.vault = seen.Header.Get("X-Vault-Token")
	require.NotEmpty(w.t, a.vault)
	if w.pg != nil {
		a.usesDatabase(w.connect(orders, token))
	}
	return a
}

// usesDatabase makes a table, and waits until the server hammers at the database.
func (a *holdings) usesDatabase(session *mcp.ClientSession) {
	a.w.t.Helper()
	row := ask[servers.Row](a.w.t, session, "whoami", harness.Map{})
	a.user, a.table = row.User, fmt.Sprintf("of_%s_%d", a.client, row.PID)
	a.pids = append(a.pids, row.PID)
	a.role = a.w.pg.Role(a.user)
	require.NotZero(a.w.t, a.role)
	ask[servers.Row](a.w.t, session, "table", servers.Table{Name: a.table})
	a.w.look(session)
	require.Equal(a.w.t, a.user, a.w.pg.TableOwner(a.table))
	a.w.Eventually("the server holds a session", func() error {
		if a.w.pg.Sessions(a.role) == 0 {
			return errors.New("it does not")
		}
		return nil
	})
}

// read is the status of Vault's answer to a token.
func (w *surroundings) read(token, path string) int {
	w.t.Helper()
	_, err := w.Vault.ClientWithToken(token).Logical().ReadWithContext(w.t.Context(), path)
	if refused := (*api.ResponseError)(nil); errors.As(err, &refused) {
		return refused.StatusCode
	}
	require.NoError(w.t, err)
	return http.StatusOK
}

// end are the conditions under which nothing is left of the holdings.
func (a *holdings) end() map[string]condition {
	w := a.w
	conditions := map[string]condition{
		"token":  func() error { return w.refused(web, a.token) },
		"stream": a.stream.over,
		"Vault tokens": func() error {
			return none(w.tokens(a.client))
		},
		"KV": func() error {
			if status := w.read(a.vault, "kv/data/notes/mcp:"+a.client); status != http.StatusForbidden {
				return fmt.Errorf("Vault answers %d", status)
			}
			return nil
		},
		"leases": func() error { return none(bed.AllLeases(w.Harness)) },
	}
	for _, serial := range a.serials {
		conditions["certificate "+serial[:5]] = func() error {
			_, revoked, err := bed.Certificate(w.t.Context(), w.Harness, serial)
			if err == nil && !revoked {
				err = errors.New("it is good")
			}
			return err
		}
	}
	for _, pid := range a.pids {
		conditions[fmt.Sprint("process ", pid)] = func() error { return ended(pid) }
	}
	if a.role != 0 {
		conditions["database role"] = func() error {
			if w.pg.Role(a.user) != 0 {
				return errors.New("it exists")
			}
			return nil
		}
		conditions["database sessions"] = func() error {
			if n := w.pg.Sessions(a.role); n > 0 {
				return fmt.Errorf("there are %d", n)
			}
			return nil
		}
	}
	return conditions
}

// TestOneWriteEndsAllThatAClientHas takes a client's access away in every way there is.
// A second after Vault's answer nothing is left of it anywhere.
func TestOneWriteEndsAllThatAClientHas(t *testing.T) { endsAll(t, false) }

// TestOneWriteEndsAllThatAClientHasInADatabase is the same with a server that ignores
// SIGTERM, opens sessions at PostgreSQL all the time, and has made a table.
func TestOneWriteEndsAllThatAClientHasInADatabase(t *testing.T) { endsAll(t, true) }

func endsAll(t *testing.T, database bool) {
	t.Helper()
	w := newSurroundings(t, settings{database: database})
	for name, way := range map[string]func(w *surroundings, a *holdings){
		"its access is revoked":     func(w *surroundings, _ *holdings) { w.Write("mcp/revoke-client/c", nil) },
		"it is deleted":             func(w *surroundings, _ *holdings) { w.Delete("mcp/clients/c") },
		"it is disabled":            func(w *surroundings, _ *holdings) { w.Write("mcp/clients/c", harness.Map{"disabled": true}) },
		"its last token is revoked": func(w *surroundings, a *holdings) { w.Write("mcp/revoke", harness.Map{"token": a.token}) },
		"everything is revoked":     func(w *surroundings, _ *holdings) { w.Write("mcp/revoke-all", nil) },
	} {
		t.Run(name, func(t *testing.T) {
			w := w.in(t)
			repeated := 1
			if name == "its access is revoked" {
				repeated = runs(t, "UPSTREAM_RUNS", 3)
			}
			for range repeated {
				a := w.holds("c", w.client("c", nil))
				way(w, a)
				t.Log(w.all(within(), a.end()))
				if database {
					require.Equal(t, bed.Owner, w.pg.TableOwner(a.table))
				}
				w.Delete("mcp/clients/c")
			}
		})
	}
}

// TestTheEndOfAnIssuedTokenEndsWhatItHasLeased: nobody revokes anything here.
func TestTheEndOfAnIssuedTokenEndsWhatItHasLeased(t *testing.T) {
	t.Parallel()
	w := newSurroundings(t, settings{})
	const life = 8 * time.Second
	end := time.Now().Add(life)
	a := w.holds("c", w.client("c", harness.Map{"token_ttl": life.String()}))
	require.True(t, time.Now().Before(end), "the machine is too slow for this test")
	w.Within(life+beside, "the token expires", func() error { return w.refused(web, a.token) })
	t.Log(w.all(beside, a.end()))
}

// in returns the surroundings for a subtest.
func (w *surroundings) in(t *testing.T) *surroundings {
	t.Helper()
	view := *w
	view.Harness, view.t = w.Harness.In(t), t
	return &view
}

// TestWhatIsNoEndOfAccessEndsNothing: a rotation, and the revocation of one of several
// tokens. The client keeps its credentials and its processes.
func TestWhatIsNoEndOfAccessEndsNothing(t *testing.T) {
	t.Parallel()
	w := newSurroundings(t, settings{})
	first := w.client("c", nil)
	a := w.holds("c", first)
	before := bed.AllLeases(w.Harness)
	second := w.Token(w.Write("mcp/rotate-client/c", harness.Map{"grace_period": "1h"}))
	w.keeps(a, second, before)
	w.keeps(a, first, before)
	w.Write("mcp/revoke", harness.Map{"token": first})
	w.Eventually("the first token is refused", func() error { return w.refused(web, first) })
	w.keeps(a, second, before)
}

// keeps fails the test unless a token is served with the client's earlier credentials.
func (w *surroundings) keeps(a *holdings, token string, leases []string) {
	w.t.Helper()
	for i, server := range []string{web, old, child} {
		seen := w.look(w.connect(server, token))
		require.Equal(w.t, a.serials[i], seen.Header.Get("X-Serial")+seen.Env["LEASED_SERIAL"], server)
		if server == child {
			require.Equal(w.t, a.pids[0], seen.PID)
		}
	}
	require.Equal(w.t, leases, bed.AllLeases(w.Harness))
}

// TestTheEndOfALeasedTokenWaitsForTheNext: a client whose token comes from creds/ fetches
// another when the first ends, and still has its sessions and credentials. If it does not
// come back, its credentials end at idle_timeout.
func TestTheEndOfALeasedTokenWaitsForTheNext(t *testing.T) {
	t.Parallel()
	const idle = 10 * time.Second
	w := newSurroundings(t, settings{block: fmt.Sprintf("idle_timeout = %q\n", idle)})
	issued := w.client("c", nil)
	lease := func() string { return w.Token(w.Write("mcp/creds/c", harness.Map{"ttl": "5s"})) }
	token := lease()
	w.Write("mcp/revoke", harness.Map{"token": issued})
	seen := w.look(w.connect(web, token))
	serial := seen.Header.Get("X-Serial")
	w.Eventually("the token ends", func() error { return w.refused(web, token) })

	next := lease()
	seen = w.look(w.connect(web, next))
	require.Equal(t, serial, seen.Header.Get("X-Serial"), "the client does not find what it had")
	w.Eventually("the next token ends", func() error { return w.refused(web, next) })
	require.NotEmpty(t, bed.AllLeases(w.Harness), "nothing waits for the client")
	w.Within(idle+beside, "its credentials end", func() error { return none(bed.AllLeases(w.Harness)) })
	require.Empty(t, w.tokens("c"))
}

// TestRevokingAllEndsEveryLeaseAtARate: the clients lose access at once, and Vault ends
// their leases one after the other.
func TestRevokingAllEndsEveryLeaseAtARate(t *testing.T) {
	w := newSurroundings(t, settings{})
	clients := runs(t, "UPSTREAM_CLIENTS", 20)
	tokens := make([]string, clients)
	for i := range tokens {
		tokens[i] = w.client(fmt.Sprint("c", i), nil)
		w.look(w.connect(web, tokens[i]))
		w.look(w.connect(old, tokens[i]))
	}
	leases := len(bed.AllLeases(w.Harness))
	require.GreaterOrEqual(t, leases, 3*clients)
	began := time.Now()
	w.Write("mcp/revoke-all", nil)
	answered := time.Now()
	for _, token := range tokens {
		w.Within(within(), "a client is refused", func() error { return w.refused(web, token) })
	}
	refused := time.Since(answered)
	w.Eventually("every lease ends", func() error { return none(bed.AllLeases(w.Harness)) })
	took := time.Since(answered)
	require.Empty(t, bed.Children(t, w.Harness))
	t.Logf("answered after %s; %d clients refused after %s; %d leases ended after %s, %.0f a second",
		answered.Sub(began).Round(time.Millisecond), clients, refused.Round(time.Millisecond), leases,
		took.Round(time.Millisecond), float64(leases)/took.Seconds())
}

// stream is a stream on which a server may speak of its own accord.
type stream struct{ ended chan struct{} }

// over is nil once the stream has ended.
func (s *stream) over() error {
	select {
	case <-s.ended:
		return nil
	default:
		return errors.New("it is open")
	}
}

// openStream opens a session and its stream.
func (w *surroundings) openStream(server, token string) *stream {
	w.t.Helper()
	return w.openStreamIn(server, token, stage.OpenSession(w.t, w.Harness, w.gateway.ServerURL(server), token))
}

// openStreamIn opens the stream of a session.
func (w *surroundings) openStreamIn(server, token, session string) *stream {
	w.t.Helper()
	url := w.gateway.ServerURL(server)
	header := stage.InSession(session)
	header.Set("Accept", "text/event-stream")
	header.Del("Content-Type")
	header.Set("Authorization", "Bearer "+token)
	request, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, url, http.NoBody)
	require.NoError(w.t, err)
	request.Header = header
	transport := &http.Transport{}
	w.t.Cleanup(transport.CloseIdleConnections)
	response, err := transport.RoundTrip(request)
	require.NoError(w.t, err)
	w.t.Cleanup(func() { _ = response.Body.Close() })
	require.Equal(w.t, http.StatusOK, response.StatusCode)
	s := &stream{ended: make(chan struct{})}
	go func() {
		defer close(s.ended)
		_, _ = io.Copy(io.Discard, response.Body)
	}()
	return s
}
