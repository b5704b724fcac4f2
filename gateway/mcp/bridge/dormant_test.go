package bridge

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/credentials"
)

const pinged = `{"jsonrpc":"2.0","id":%q,"method":"ping"}`

// sleeping has a session of alice's whose credentials have ended, and the server that it had.
func (s *stage) sleeping() (*Session, *fake) {
	s.t.Helper()
	c := newLeased()
	session := s.session(with(alice, c), "{}")
	f := s.fake(len(s.fakes()) - 1)
	c.end(credentials.ErrEnded)
	eventually(s.t, "the server is told to end", f.closed)
	eventually(s.t, "it is gone", func() bool { return c.held() == 0 })
	return session, f
}

// asked is a request under way in a session.
type asked struct {
	call *Call
	err  error
}

// ask sends a request, which may have to wait for a server.
func (s *stage) ask(o Owner, id, message string) <-chan asked {
	s.t.Helper()
	session, err := s.Session(o, id)
	require.NoError(s.t, err)
	incoming := in(s.t, message)
	done := make(chan asked, 1)
	go func() {
		defer session.Release()
		c, err := session.Call(context.Background(), incoming)
		done <- asked{c, err}
	}()
	return done
}

func TestASessionOutlivesCredentialsThatEndWithoutOthers(t *testing.T) {
	s := newStage(t, nil)
	c := newLeased()
	session := s.session(with(alice, c), "{}")
	old := s.fake(0)
	require.NoError(t, session.Notify(context.Background(), in(t, initialized)))
	s.got(old)
	s.asks(session, old, fmt.Sprintf(setLevel, "debug"))
	s.asks(session, old, fmt.Sprintf(ofResource, "1", "subscribe", "a"))
	call, stream := s.call(session, fmt.Sprintf(slow, "1")), session.Stream()
	defer stream.Close()
	s.got(old)

	c.end(credentials.ErrEnded)
	_, err := call.Next(context.Background())
	require.ErrorIs(t, err, credentials.ErrEnded)
	require.NotErrorIs(t, err, ErrUnsent, "the server may have carried it out")
	_, err = stream.Next(context.Background())
	require.ErrorIs(t, err, ErrClosed, "it ends in good order, and is opened again")
	eventually(t, "the server is told to end", old.closed)
	require.False(t, old.wasKilled())
	eventually(t, "nothing is held", func() bool { return c.held() == 0 })

	refused := <-s.ask(with(alice, c), session.ID, fmt.Sprintf(pinged, "2"))
	require.ErrorIs(t, refused.err, ErrCredentials)
	require.ErrorIs(t, refused.err, ErrUnsent)
	require.Len(t, s.fakes(), 1, "no server is started with credentials that have ended")

	next := newLeased()
	var under []<-chan asked
	for n := range 5 {
		under = append(under, s.ask(with(alice, next), session.ID, fmt.Sprintf(pinged, fmt.Sprint("many-", n))))
	}
	f := s.fake(1)
	require.Same(t, next, f.with)
	s.answer(f, handshook)
	require.Equal(t, initialized, s.got(f))
	require.Contains(t, s.got(f), `"level":"debug"`)
	require.Contains(t, s.got(f), `"resources/subscribe","params":{"uri":"file:///a"}`)
	for range under {
		s.answer(f, `"result":{}`)
	}
	for _, u := range under {
		got := <-u
		require.NoError(t, got.err)
		require.True(t, s.next(got.call).Final)
		got.call.Close(false)
	}
	require.Len(t, s.fakes(), 2, "one server is started for all of them")
	require.Equal(t, 1, s.Pool.Size())

	next, f = s.succeeds(next)
	require.Same(t, next, f.with, "and it has successors as any other")
}

func TestWhatIsInFlightHasAMomentWhenCredentialsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, nil)
		c := newLeased()
		session := s.session(with(alice, c), "{}")
		f := s.fakes()[0]
		short, long := s.call(session, fmt.Sprintf(slow, "1")), s.call(session, fmt.Sprintf(slow, "2"))
		shortID, longID := idIn(t, s.got(f)), idIn(t, s.got(f))
		c.end(credentials.ErrEnded)
		synctest.Wait()
		_, err := session.Call(context.Background(), in(t, fmt.Sprintf(pinged, "x")))
		require.ErrorIs(t, err, ErrUnsent, "nothing new is sent with them")
		<-time.After(lastMoment - time.Millisecond)
		f.says(`{"jsonrpc":"2.0","id":` + shortID + `,"result":{}}`)
		require.True(t, s.next(short).Final)
		require.False(t, f.closed())
		<-time.After(time.Millisecond)
		synctest.Wait()
		require.True(t, f.closed())
		f.says(`{"jsonrpc":"2.0","id":` + longID + `,"result":{}}`)
		_, err = long.Next(context.Background())
		require.ErrorIs(t, err, ErrCredentials)
	})
}

func TestAServerEndsAfterTheLastCallOnExpiredCredentials(t *testing.T) {
	s := newStage(t, nil)
	c := newLeased()
	session := s.session(with(alice, c), "{}")
	f := s.fake(0)
	call := s.call(session, fmt.Sprintf(slow, "1"))
	id := idIn(t, s.got(f))
	c.end(credentials.ErrEnded)
	l := f.r.(*connection)
	eventually(t, "nothing new goes over it", func() bool { return !l.channel.goesOnWith(l) })
	f.says(`{"jsonrpc":"2.0","id":` + id + `,"result":{}}`)
	require.True(t, s.next(call).Final)
	eventually(t, "the server is told to end", f.closed)
	under := s.ask(with(alice, newLeased()), session.ID, fmt.Sprintf(pinged, "x"))
	f = s.fake(1)
	s.answer(f, handshook)
	s.answer(f, `"result":{}`)
	got := <-under
	require.NoError(t, got.err)
	got.call.Close(false)
}

func TestARequestWaitsForASuccessorThatIsAboutToStart(t *testing.T) {
	s := newStage(t, nil)
	c := newLeased()
	owner := with(alice, c)
	session := s.session(owner, "{}")
	c.supersede()
	f := s.fake(1)
	handshake := s.got(f)
	c.end(credentials.ErrEnded)
	eventually(t, "the server is told to end", s.fake(0).closed)
	under := s.ask(owner, session.ID, fmt.Sprintf(pinged, "x"))
	f.says(`{"jsonrpc":"2.0","id":` + idIn(t, handshake) + `,` + handshook + `}`)
	s.answer(f, `"result":{}`)
	got := <-under
	require.NoError(t, got.err)
	require.True(t, s.next(got.call).Final)
	got.call.Close(false)
	require.Len(t, s.fakes(), 2)
}

func TestADormantSessionIsWoken(t *testing.T) {
	for name, wakes := range map[string]func(s *stage, session *Session) (told string){
		"by a notification": func(s *stage, session *Session) string {
			incoming := in(s.t, `{"jsonrpc":"2.0","method":"notifications/vendor"}`)
			go func() { _ = session.Notify(context.Background(), incoming) }()
			return "notifications/vendor"
		},
		"by a stream of its own": func(s *stage, session *Session) string {
			s.t.Cleanup(session.Stream().Close)
			return ""
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, nil)
			session, _ := s.sleeping()
			again, err := s.Session(with(alice, newLeased()), session.ID)
			require.NoError(t, err)
			defer again.Release()
			told := wakes(s, again)
			f := s.fake(1)
			s.answer(f, handshook)
			s.carries(f)
			if told != "" {
				require.Contains(t, s.got(f), told)
			}
		})
	}
}

func TestADormantSessionTakesWithoutAServer(t *testing.T) {
	s := newStage(t, nil)
	session, _ := s.sleeping()
	require.NoError(t, session.Notify(context.Background(), in(t, initialized)), "the next server is told")
	require.NoError(t, session.Respond(in(t, `{"jsonrpc":"2.0","id":7,"result":{}}`)), "nobody waits for it")
	require.Len(t, s.fakes(), 1)
	under := s.ask(with(alice, newLeased()), session.ID, fmt.Sprintf(pinged, "x"))
	f := s.fake(1)
	s.answer(f, handshook)
	require.Equal(t, initialized, s.got(f))
	s.answer(f, `"result":{}`)
	got := <-under
	require.NoError(t, got.err)
	got.call.Close(false)
}

func TestADormantSessionEndsWithItsClient(t *testing.T) {
	for name, ends := range map[string]func(s *stage, session *Session){
		"its token has ended":   func(s *stage, _ *Session) { s.EndToken(alice) },
		"its client has ended":  func(s *stage, _ *Session) { s.EndPrincipal(alice.Principal) },
		"its client ends it":    func(_ *stage, session *Session) { session.End() },
		"its server is no more": func(s *stage, _ *Session) { s.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, nil)
			session, _ := s.sleeping()
			ends(s, session)
			_, err := s.Session(with(alice, newLeased()), session.ID)
			require.ErrorIs(t, err, ErrNoSession)
			require.Zero(t, s.Pool.Size())
			require.Len(t, s.fakes(), 1)
		})
	}
}

func TestADormantSessionIsForItsClientAlone(t *testing.T) {
	s := newStage(t, nil)
	session, _ := s.sleeping()
	_, err := s.Session(with(bob, newLeased()), session.ID)
	require.ErrorIs(t, err, ErrNoSession)
	s.session(with(bob, newLeased()), "{}")
	under := s.ask(with(alice, newLeased()), session.ID, fmt.Sprintf(pinged, "x"))
	f := s.fake(2)
	s.answer(f, handshook)
	s.answer(f, `"result":{}`)
	got := <-under
	require.NoError(t, got.err)
	got.call.Close(false)
}

func TestADormantSessionWhoseServerDoesNotStartEnds(t *testing.T) {
	s := newStage(t, nil)
	session, _ := s.sleeping()
	s.noDial(errors.New("no such file"))
	owner := with(alice, newLeased())
	got := <-s.ask(owner, session.ID, fmt.Sprintf(pinged, "x"))
	require.ErrorIs(t, got.err, ErrStart)
	_, err := s.Session(owner, session.ID)
	require.ErrorIs(t, err, ErrNoSession)
	require.Zero(t, s.Pool.Size())
}

func TestADormantSessionEndsUnused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, func(o *Options) { o.IdleTimeout = time.Minute })
		c := newLeased()
		session := s.session(with(alice, c), "{}")
		c.end(credentials.ErrEnded)
		<-time.After(59 * time.Second)
		_, err := s.Session(with(bob, newLeased()), session.ID)
		require.ErrorIs(t, err, ErrNoSession)
		require.Equal(t, 1, s.Pool.Size())
		<-time.After(2 * time.Second)
		_, err = s.Session(with(alice, newLeased()), session.ID)
		require.ErrorIs(t, err, ErrNoSession)
		require.Zero(t, s.Pool.Size())
	})
}
