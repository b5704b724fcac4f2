package mcp

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/credentials"
	"vault-plugin-secrets-mcp/gateway/gatewaytest"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/mcp/bridge"
	"vault-plugin-secrets-mcp/gateway/mcp/serverside"
)

// leasedFake are credentials under a test's control.
type leasedFake struct {
	next              *leasedFake
	cause             error
	superseded, ended chan struct{}
}

func newLeasedFake() *leasedFake {
	return &leasedFake{superseded: make(chan struct{}), ended: make(chan struct{})}
}

func (f *leasedFake) Superseded() <-chan struct{}   { return f.superseded }
func (f *leasedFake) Successor() bridge.Credentials { return f.next }
func (f *leasedFake) Ended() <-chan struct{}        { return f.ended }
func (f *leasedFake) Cause() error                  { return f.cause }

func (f *leasedFake) Hold() (func(), error) {
	select {
	case <-f.ended:
		return nil, f.cause
	default:
		return func() {}, nil
	}
}

func (f *leasedFake) supersede() *leasedFake {
	f.next = newLeasedFake()
	close(f.superseded)
	return f.next
}

func (f *leasedFake) end(cause error) {
	f.cause = cause
	close(f.ended)
}

// leasing is a link whose requests are sent with credentials under the test's control.
type leasing struct {
	*bridged
	with   atomic.Pointer[leasedFake]
	ending atomic.Int32 // so many times they end as they are taken; others come after them
}

func (l *leasing) call(ctx context.Context, a *Answer) error {
	return l.converse(ctx, a, func(context.Context) (bridge.Credentials, error) {
		taken := l.with.Load()
		if n := l.ending.Add(-1); n >= 0 {
			l.with.Store(newLeasedFake())
			if n > 0 {
				l.with.Load().end(credentials.ErrEnded)
			}
		}
		return taken, nil
	})
}

// newLeasing returns a gateway with a server that is started with credentials.
func newLeasing(t *testing.T) (*gateway, *leasing) {
	t.Helper()
	server := scriptedServer(t, "")
	g := newGateway(t, stdioConfig(t), server)
	made, err := g.link(server)
	require.NoError(t, err)
	l := &leasing{bridged: made.(*bridged)}
	l.with.Store(newLeasedFake())
	g.links.Store(server.Name, &linked{server: server, link: l})
	return g, l
}

// failedFor reports whether the audit log has an outcome with that reason.
func (s *sink) failedFor(reason string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.outcomes, func(o access.Outcome) bool {
		f := new(access.Refusal)
		return errors.As(o.Err, &f) && f.Reason == reason
	})
}

func TestRequestsInFlightAreToldThatTheCredentialsHaveEnded(t *testing.T) {
	for name, accepts := range map[string][]string{
		"as the answer": {"Accept", "", "Accept", "application/json"},
		"in a stream":   nil,
	} {
		t.Run(name, func(t *testing.T) {
			g, l := newLeasing(t)
			session := g.open(t, "alice")
			request, body := slices.Concat(session, accepts), tool("1", "hang")
			answered := make(chan gatewaytest.Answer, 1)
			if accepts == nil {
				r, err := g.Do(t.Context(), body, request...)
				require.NoError(t, err)
				defer r.Body.Close()
				require.Contains(t, events(t, r.Body, 1)[0], "hanging")
				l.with.Load().end(credentials.ErrEnded)
				rest, err := io.ReadAll(r.Body)
				require.NoError(t, err, "it is a whole stream")
				require.Contains(t, string(rest), `"id":1,"error":`)
				require.Contains(t, string(rest), messageCredentials)
				return
			}
			stream, err := g.Do(t.Context(), "", append(session, ":method", "GET")...)
			require.NoError(t, err)
			defer stream.Body.Close()
			go func() { answered <- g.Ask(t, body, request...) }()
			require.Contains(t, events(t, stream.Body, 1)[0], "hanging")
			l.with.Load().end(credentials.ErrEnded)
			got := <-answered
			require.Equal(t, http.StatusOK, got.Status, "clients read no other body")
			require.Contains(t, got.Body, `"id":1,"error":`)
			require.Contains(t, got.Body, messageCredentials)
			require.True(t, g.sink.failedFor(serverside.ReasonCredentials))
			rest, err := io.ReadAll(stream.Body)
			require.NoError(t, err, "a stream of the server's own ends in good order")
			require.NotContains(t, string(rest), "error")
		})
	}
}

func TestASessionGoesOnWithOtherCredentials(t *testing.T) {
	g, l := newLeasing(t)
	session := g.open(t, "alice")
	stream, err := g.Do(t.Context(), "", append(session, ":method", "GET")...)
	require.NoError(t, err)
	defer stream.Body.Close()
	pid := textOf(t, g.Ask(t, tool("1", "pid"), session...).Body)
	l.with.Load().end(credentials.ErrEnded)
	_, err = io.ReadAll(stream.Body)
	require.NoError(t, err, "a stream of the server's own ends in good order, to be opened again")
	got := g.Ask(t, ping, session...)
	require.Equal(t, http.StatusServiceUnavailable, got.Status, "nobody is served with what has ended")
	require.NotContains(t, got.Body, "may have been carried out")
	require.True(t, g.sink.failedFor(serverside.ReasonCredentials))

	l.with.Store(newLeasedFake())
	require.NotEqual(t, pid, textOf(t, g.Ask(t, tool("2", "pid"), session...).Body))
	require.Equal(t, http.StatusAccepted, g.Ask(t, `{"jsonrpc":"2.0","method":"notifications/vendor"}`, session...).Status)
}

func TestCredentialsThatEndBeforeTheRequestIsSentAreTakenAgain(t *testing.T) {
	body, header := modern("1", "tools/list", "")
	// Not that of the session that is there, whose answer would be repeated.
	otherInit := strings.Replace(initOnce, `"capabilities":{}`, `"capabilities":{"roots":{}}`, 1)
	require.NotEqual(t, initOnce, otherInit)
	for name, ask := range map[string]func(g *gateway, session []string) gatewaytest.Answer{
		"in a session":       func(g *gateway, session []string) gatewaytest.Answer { return g.Ask(t, ping, session...) },
		"to begin a session": func(g *gateway, _ []string) gatewaytest.Answer { return g.Ask(t, otherInit) },
		"without a session":  func(g *gateway, _ []string) gatewaytest.Answer { return g.Ask(t, body, header...) },
	} {
		t.Run(name, func(t *testing.T) {
			g, l := newLeasing(t)
			session := g.open(t, "alice")
			l.with.Load().end(credentials.ErrEnded)
			l.ending.Store(2)
			got := ask(g, session)
			require.Equal(t, http.StatusOK, got.Status, got.Body)
			require.Negative(t, l.ending.Load(), "the third were good")
		})
	}
}

func TestAfterTheEndOfCredentialsAnotherSessionBegins(t *testing.T) {
	g, l := newLeasing(t)
	session := g.open(t, "alice")
	l.with.Load().end(credentials.ErrUnused)
	gatewaytest.Eventually(t, "the session has ended", func() bool { return g.Ask(t, ping, session...).Status == http.StatusNotFound })
	got := g.Ask(t, initOnce)
	require.Equal(t, http.StatusServiceUnavailable, got.Status, "nobody is served with what has ended")
	require.True(t, g.sink.failedFor(serverside.ReasonCredentials))
	require.NotContains(t, got.Body, "may have been carried out")
	body, header := modern("1", "tools/list", "")
	require.Equal(t, http.StatusServiceUnavailable, g.Ask(t, body, header...).Status)
	l.with.Store(newLeasedFake())
	g.open(t, "alice")
	require.Equal(t, http.StatusOK, g.Ask(t, body, header...).Status)
}

func TestAClientDoesNotNoticeThatItsChildIsReplaced(t *testing.T) {
	g, l := newLeasing(t)
	session := g.open(t, "alice")
	stream, err := g.Do(t.Context(), "", append(session, ":method", "GET")...)
	require.NoError(t, err)
	defer stream.Body.Close()
	body, header := modern(`"l"`, "subscriptions/listen", "")
	listening, err := g.Do(t.Context(), body, header...)
	require.NoError(t, err)
	defer listening.Body.Close()
	require.Contains(t, events(t, listening.Body, 1)[0], "acknowledged")
	pid := func() string { return textOf(t, g.Ask(t, tool("1", "pid"), session...).Body) }
	before := pid()

	l.with.Store(l.with.Load().supersede())
	gatewaytest.Eventually(t, "another child answers", func() bool { return pid() != before })
	require.Equal(t, http.StatusAccepted, g.Ask(t, `{"jsonrpc":"2.0","method":"notifications/vendor"}`, session...).Status)
	require.Contains(t, events(t, stream.Body, 1)[0], "got notifications/vendor", "the stream goes on")
	_, err = io.ReadAll(listening.Body)
	require.NoError(t, err, "a subscription ends in good order, to be opened again")
}

func TestTheEndOfAccessIsToldAsSuch(t *testing.T) {
	g, l := newLeasing(t)
	session := g.open(t, "alice")
	r, err := g.Do(t.Context(), tool("1", "hang"), session...)
	require.NoError(t, err)
	defer r.Body.Close()
	require.Contains(t, events(t, r.Body, 1)[0], "hanging")
	g.cut("alice")
	l.with.Load().end(credentials.ErrLost)
	rest, err := io.ReadAll(r.Body)
	require.Error(t, err, "it is cut")
	require.NotContains(t, string(rest), "credentials")
}

func TestAChannelIsOpenedWithTheCredentialsHeaders(t *testing.T) {
	for name, test := range map[string]struct {
		connect, message int // statuses
		rejected         int // times
	}{
		"both are accepted":                    {200, 202, 0},
		"the stream is unauthorized":           {401, 202, 1},
		"the stream is forbidden":              {403, 202, 0},
		"a message is unauthorized":            {200, 401, 1},
		"a message is refused for its content": {200, 400, 0},
	} {
		t.Run(name, func(t *testing.T) {
			f := newOldFake(t, "event: endpoint\ndata: messages\n\n")
			f.setStatus(test.message)
			serve := f.serve
			up := gatewaytest.NewUpstream(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodGet && test.connect != http.StatusOK {
					w.WriteHeader(test.connect)
					return
				}
				serve(w, r)
			})
			server := sseRegistration(up)
			server.Headers = map[string]string{"X-Api-Key": "{{gh.data.token}}"}
			u, err := newUpstream(server, config.Upstream{}, &config.UpstreamAllow{}, hclog.NewNullLogger())
			require.NoError(t, err)
			var rejected atomic.Int32
			gone := &goneReceiver{gone: make(chan error, 1)}
			c := &channel{
				upstream: u, header: http.Header{"X-Api-Key": {"of-alice"}}, receiver: gone,
				rejected: func(context.Context) { rejected.Add(1) },
			}
			conn, err := c.open(t.Context())
			if test.connect == http.StatusOK {
				require.NoError(t, err)
				_ = conn.Send([]byte(ping))
				conn.Close()
				require.Error(t, <-gone.gone)
			} else {
				require.ErrorAs(t, err, new(*unauthorizedError))
			}
			gatewaytest.Eventually(t, "it is known that they are rejected", func() bool { return rejected.Load() == int32(test.rejected) })
			require.NotEmpty(t, up.Requests())
			for _, request := range up.Requests() {
				require.Equal(t, []string{"of-alice"}, request.Header["X-Api-Key"])
			}
		})
	}
}

func TestAServerOfTheOldTransportThatRefusesCredentialsIsToldApart(t *testing.T) {
	for name, serve := range map[string]func(w http.ResponseWriter, r *http.Request){
		"its stream":               func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) },
		"its stream, as forbidden": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) },
		"a message": func(w http.ResponseWriter, r *http.Request) {
			f := &oldFake{first: "event: endpoint\ndata: messages\n\n", status: http.StatusUnauthorized, stream: make(chan string)}
			f.serve(w, r)
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGateway(t, testConfig(), sseRegistration(gatewaytest.NewUpstream(t, serve)))
			got := g.Ask(t, initOnce)
			require.Equal(t, http.StatusBadGateway, got.Status)
			require.Contains(t, got.Body, "refuses the gateway's credentials")
			require.True(t, g.sink.failedFor(serverside.ReasonUnauthorized))
		})
	}
}

// goneReceiver waits for the end of a channel.
type goneReceiver struct{ gone chan error }

func (*goneReceiver) Message([]byte)   {}
func (r *goneReceiver) Gone(err error) { r.gone <- err }

func TestWithoutCredentialsAChildGetsTheRegistrationsOwnValues(t *testing.T) {
	server := &grants.Server{Env: map[string]string{"A": "b"}, Files: map[string]string{"KEY": "c"}}
	require.Nil(t, setOf(nil))
	require.Nil(t, setOf(newLeasedFake()))
	values := valuesFor(server, setOf(nil))
	require.Equal(t, server.Env, values.Env)
	require.Equal(t, server.Files, values.Files)
}
