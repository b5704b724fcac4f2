package bridge

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// noDial has channels fail to start from now on; nil: they start again.
func (s *stage) noDial(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dialErr = err
}

func TestASuccessorThatDoesNotStartLeavesTheOldOne(t *testing.T) {
	for name, test := range map[string]struct {
		fails func(s *stage, f *fake) // nil: it cannot be started
		mends func(s *stage, f *fake) // nil: time does
	}{
		"it cannot be started":      {nil, func(s *stage, _ *fake) { s.noDial(nil) }},
		"it ends at once":           {func(_ *stage, f *fake) { f.r.Gone(errors.New("exit status 1")) }, nil},
		"it refuses the handshake":  {func(s *stage, f *fake) { s.answer(f, `"error":{"code":-32603,"message":"no database"}`) }, nil},
		"it does not answer it":     {func(*stage, *fake) { <-time.After(time.Minute) }, nil},
		"it speaks another version": {func(s *stage, f *fake) { s.answer(f, accepted) }, nil},
		"its own credentials have ended": {
			func(_ *stage, f *fake) { f.with.(*leased).end(errors.New("revoked")) },
			func(_ *stage, f *fake) { f.with.(*leased).supersede() },
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStage(t, func(o *Options) { o.HandshakeTimeout = time.Minute })
				c := newLeased()
				session := s.session(with(alice, c), "{}")
				old := s.fakes()[0]
				if test.fails == nil {
					s.noDial(errors.New("no such file"))
				}
				c.supersede()
				synctest.Wait()
				var f *fake
				if test.fails != nil {
					f = s.fakes()[1]
					test.fails(s, f)
					synctest.Wait()
					require.True(t, f.closed() || f.with.(*leased).held() == 0, "nothing of it is left")
				}
				require.False(t, old.closed())
				s.asks(session, old, `{"jsonrpc":"2.0","id":"x","method":"ping"}`)

				before := len(s.fakes())
				if test.mends != nil {
					test.mends(s, f)
				}
				<-time.After(2 * succession.Min)
				require.Len(t, s.fakes(), before+1, "it is tried again")
				f = s.fakes()[before]
				s.answer(f, handshook)
				synctest.Wait()
				require.True(t, old.closed())
				s.asks(session, f, `{"jsonrpc":"2.0","id":"x","method":"ping"}`)
			})
		})
	}
}

func TestASuccessorIsTriedUntilTheOldCredentialsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, nil)
		c := newLeased()
		owner := with(alice, c)
		session := s.session(owner, "{}")
		s.noDial(errors.New("no such file"))
		next := c.supersede()
		<-time.After(10 * time.Minute)
		s.asks(session, s.fakes()[0], `{"jsonrpc":"2.0","id":"x","method":"ping"}`)
		cause := errors.New("at their end")
		c.end(cause)
		synctest.Wait()
		require.True(t, s.fakes()[0].closed())
		_, err := s.Session(owner, session.ID)
		require.ErrorIs(t, err, ErrNoSession)
		require.Zero(t, s.Pool.Size())
		s.noDial(nil)
		s.session(with(alice, next), "{}")
		require.Same(t, next, s.fakes()[1].with)
	})
}
