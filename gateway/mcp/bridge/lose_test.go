package bridge

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/credentials"
)

func TestTheEndOfCredentialsEndsWhatWasStartedWithThem(t *testing.T) {
	for name, test := range map[string]struct {
		cause  error
		killed bool
	}{
		"nobody has used them":           {credentials.ErrUnused, false},
		"the registration has changed":   {credentials.ErrClosed, false},
		"the client has lost its access": {credentials.ErrLost, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, nil)
			s.lingers = true
			c := newLeased()
			owner := with(alice, c)
			session := s.session(owner, "{}")
			f := s.fake(0)
			call := s.call(session, fmt.Sprintf(slow, "1"))
			stream := session.Stream()
			defer stream.Close()

			c.end(test.cause)
			for _, source := range []source{call, stream} {
				_, err := source.Next(context.Background())
				if source == call {
					require.ErrorIs(t, err, ErrCredentials)
					require.ErrorIs(t, err, test.cause)
					require.NotErrorIs(t, err, ErrUnsent, "the server may have carried it out")
				}
				require.Error(t, err)
			}
			eventually(t, "the server is told to end", f.closed)
			eventually(t, "it is given time only where it may have it", func() bool { return f.wasKilled() == test.killed })
			require.Equal(t, 1, c.held(), "until it is gone")
			f.leave()
			require.Zero(t, c.held())
			_, err := s.Session(owner, session.ID)
			require.ErrorIs(t, err, ErrNoSession)
			require.Zero(t, s.Pool.Size())

			// Nobody is served with them any more; with others at once.
			_, _, err = s.Initialize(context.Background(), owner, in(t, fmt.Sprintf(initializeOf, "{}")))
			require.ErrorIs(t, err, ErrCredentials)
			require.ErrorIs(t, err, ErrUnsent)
			_, err = s.Call(context.Background(), owner, in(t, listed))
			require.ErrorIs(t, err, ErrUnsent)
			s.lingers = false
			s.session(with(alice, newLeased()), "{}")
		})
	}
}

func TestTheEndOfReplacedCredentialsEndsTheCallsOnThemAlone(t *testing.T) {
	s := newStage(t, nil)
	c := newLeased()
	session := s.session(with(alice, c), "{}")
	old := s.fake(0)
	before := s.call(session, fmt.Sprintf(slow, "1"))
	old.says(`{"jsonrpc":"2.0","id":7,"method":"roots/list"}`)
	require.Contains(t, string(s.next(before).Message), "roots/list")
	s.got(old)
	_, f := s.succeeds(c)
	after := s.call(session, fmt.Sprintf(slow, "2"))
	id := idIn(t, s.got(f))
	c.end(credentials.ErrEnded)
	_, err := before.Next(context.Background())
	require.ErrorIs(t, err, credentials.ErrEnded)
	eventually(t, "it ends", old.closed)
	require.NoError(t, session.Respond(in(t, `{"jsonrpc":"2.0","id":7,"result":{}}`)), "nobody waits for it")
	f.says(`{"jsonrpc":"2.0","id":` + id + `,"result":{}}`)
	require.True(t, s.next(after).Final)
	require.Empty(t, f.sent)
}

func TestAServerThatEndsIsKilledOnceItsCredentialsAreLost(t *testing.T) {
	for name, ends := range map[string]func(s *stage, session *Session){
		"its token has ended":   func(s *stage, _ *Session) { s.EndToken(alice) },
		"its client has ended":  func(s *stage, _ *Session) { s.EndPrincipal(alice.Principal) },
		"its session has ended": func(_ *stage, session *Session) { session.End() },
		"it is replaced": func(s *stage, session *Session) {
			s.lingers = false
			s.succeeds(session.channel.current.credentials.(*leased))
		},
		"nothing has ended yet": func(*stage, *Session) {},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, nil)
			s.lingers = true
			c := newLeased()
			session := s.session(with(alice, c), "{}")
			f := s.fake(0)
			ends(s, session)
			require.False(t, f.wasKilled())
			c.end(credentials.ErrLost)
			eventually(t, "it is killed", f.wasKilled)
			f.leave()
			require.Zero(t, c.held())
		})
	}
}

func TestAServerThatStartsWhileItsCredentialsAreLostIsKilled(t *testing.T) {
	c := newLeased()
	dialling, lost := make(chan struct{}), make(chan struct{})
	f := &fake{sent: make(chan string, 1)}
	s := newStage(t, func(o *Options) {
		o.Dial = func(ctx context.Context, _ Credentials, r Receiver) (Conn, error) {
			f.r = r
			close(dialling)
			<-ctx.Done() // the dial hears of it, and comes too late
			<-lost
			return f, nil
		}
	})
	go func() {
		<-dialling
		c.end(credentials.ErrLost)
		close(lost)
	}()
	_, _, err := s.Initialize(context.Background(), with(alice, c), in(t, fmt.Sprintf(initializeOf, "{}")))
	require.ErrorIs(t, err, credentials.ErrLost)
	require.ErrorIs(t, err, ErrUnsent)
	eventually(t, "it is killed", f.wasKilled)
	eventually(t, "nothing is held", func() bool { return c.held() == 0 && s.Pool.Size() == 0 })
}

func TestAClientThatSharesAServerHasNoCredentialsOfItsOwn(t *testing.T) {
	s := newStage(t, func(o *Options) { o.Shared = true })
	_, _, err := s.Initialize(context.Background(), with(alice, newLeased()), in(t, fmt.Sprintf(initializeOf, "{}")))
	require.ErrorIs(t, err, ErrStart)
	_, err = s.Call(context.Background(), with(alice, newLeased()), in(t, listed))
	require.ErrorIs(t, err, ErrStart)
	require.Empty(t, s.fakes())
}

func TestAServerThatCrashesIsNotReplacedOnceMore(t *testing.T) {
	s := newStage(t, nil)
	c := newLeased()
	session := s.session(with(alice, c), "{}")
	call := s.call(session, fmt.Sprintf(slow, "1"))
	c.supersede()
	f := s.fake(1)
	s.fake(0).r.Gone(errors.New("exit status 1"))
	_, err := call.Next(context.Background())
	require.ErrorIs(t, err, ErrGone)
	eventually(t, "the successor that was about to start has ended", f.closed)
	eventually(t, "nothing is left", func() bool { return s.Pool.Size() == 0 })
}

func TestAServerThatRefusesItsCredentialsIsStartedWithOthers(t *testing.T) {
	for name, test := range map[string]struct {
		refuses int // so many credentials
		starts  bool
	}{
		"the first are refused":          {1, true},
		"the second are refused as well": {2, false},
	} {
		t.Run(name, func(t *testing.T) {
			var dials []*leased
			c := newLeased()
			s := newStage(t, nil)
			dial := s.Dial
			s.Dial = func(ctx context.Context, c Credentials, r Receiver) (Conn, error) {
				dials = append(dials, c.(*leased))
				if len(dials) <= test.refuses {
					c.(*leased).supersede() // as they were read again because of the refusal
					return nil, errors.New("status 401")
				}
				return dial(ctx, c, r)
			}
			if !test.starts {
				_, _, err := s.Initialize(context.Background(), with(alice, c), in(t, fmt.Sprintf(initializeOf, "{}")))
				require.ErrorIs(t, err, ErrStart)
				require.Len(t, dials, 2)
				require.Zero(t, s.Pool.Size())
				return
			}
			session := s.session(with(alice, c), "{}")
			require.Equal(t, 1, s.Pool.Size())
			require.Equal(t, []*leased{c, c.successor}, dials)
			f := s.fake(0)
			s.asks(session, f, `{"jsonrpc":"2.0","id":"x","method":"ping"}`)
			require.Zero(t, c.held())
			require.Equal(t, 1, c.successor.held())
			call := s.call(session, fmt.Sprintf(slow, "1"))
			s.got(f)
			f.says(`{"jsonrpc":"2.0","id":7,"method":"roots/list"}`)
			require.Contains(t, string(s.next(call).Message), `"id":7`, "clients see its ids as they are")
		})
	}
}
