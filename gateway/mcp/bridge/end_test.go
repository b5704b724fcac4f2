package bridge

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/grants"
)

func TestTheEndOfTheServerEndsAllThatIsOnIt(t *testing.T) {
	s := newStage(t, nil)
	session := s.session(alice, "{}")
	f := s.fake(0)
	c := s.call(session, `{"jsonrpc":"2.0","id":1,"method":"ping"}`)
	stream := session.Stream()
	f.r.Gone(errors.New("exit status 1"))
	_, err := c.Next(context.Background())
	require.ErrorIs(t, err, ErrGone)
	_, err = stream.Next(context.Background())
	require.Error(t, err)
	stream.Close()
	_, err = s.Session(alice, session.ID)
	require.ErrorIs(t, err, ErrNoSession)

	_, _, err = s.Initialize(context.Background(), alice, in(t, fmt.Sprintf(initializeOf, "{}")))
	var wait *BackoffError
	require.ErrorAs(t, err, &wait)
	require.Positive(t, wait.Wait)
	require.Zero(t, s.Pool.Size())
}

func TestARevokedTokenTakesItsSessionsWithIt(t *testing.T) {
	s := newStage(t, nil)
	session := s.session(alice, "{}")
	f := s.fake(0)
	rotated := Owner{Principal: grants.PrincipalOf("alice"), Accessor: "a2"}
	same, err := s.Session(rotated, session.ID)
	require.NoError(t, err)
	same.Release()

	s.EndToken(bob)
	s.EndToken(alice)
	require.False(t, f.closed(), "the new token goes on")
	s.EndToken(rotated)
	require.True(t, f.closed())
	_, err = s.Session(rotated, session.ID)
	require.ErrorIs(t, err, ErrNoSession)

	session = s.session(alice, "{}")
	stream := session.Stream()
	s.EndPrincipal(alice.Principal)
	require.True(t, s.fake(1).closed())
	_, err = stream.Next(context.Background())
	require.Error(t, err)
	stream.Close()
}

func TestTheLastSessionTakesTheChannelWithIt(t *testing.T) {
	s := newStage(t, nil)
	first, second := s.session(alice, "{}"), s.session(alice, "{}")
	first.End()
	require.False(t, s.fake(0).closed())
	second.End()
	require.True(t, s.fake(0).closed())
}

func TestAnUnusedChannelEnds(t *testing.T) {
	s := newStage(t, func(o *Options) { o.IdleTimeout = 10 * time.Millisecond })
	// From the first moment on it is in use, by the call or by the stream.
	session, call, err := s.Initialize(context.Background(), alice, in(t, fmt.Sprintf(initializeOf, "{}")))
	require.NoError(t, err)
	stream := session.Stream()
	f := s.fake(0)
	s.answer(f, `"result":{}`)
	require.True(t, s.next(call).Final)
	call.Close(false)
	require.Never(t, s.fake(0).closed, 50*time.Millisecond, time.Millisecond, "it is in use")
	stream.Close()
	require.Eventually(t, s.fake(0).closed, 10*time.Second, time.Millisecond)
	_, err = s.Session(alice, session.ID)
	require.ErrorIs(t, err, ErrNoSession)
}

func TestThePoolIsBoundedAndReusesWhatIsIdle(t *testing.T) {
	pool := NewPool(2, 1)
	s := newStage(t, func(o *Options) { o.Pool = pool })
	first := s.session(alice, "{}")
	stream := first.Stream()
	_, _, err := s.Initialize(context.Background(), alice, in(t, fmt.Sprintf(initializeOf, `{"roots":{}}`)))
	require.ErrorIs(t, err, ErrFull, "one for a client, and it is in use")
	stream.Close()
	s.session(alice, `{"roots":{}}`)
	require.True(t, s.fake(0).closed(), "the unused one made room")
	s.session(bob, "{}")
	s.session(Owner{Principal: grants.PrincipalOf("carol"), Accessor: "c"}, "{}")
	require.True(t, s.fake(1).closed(), "the one unused for longest made room")
	require.Equal(t, 2, pool.Size())
}

// slowSender is a connection whose server answers a message before it is sent.
type slowSender struct {
	*fake
	mu   sync.Mutex
	slow func() // called within Send; nil: nothing is
}

func (c *slowSender) Send(m []byte) error {
	err := c.fake.Send(m)
	c.mu.Lock()
	slow := c.slow
	c.mu.Unlock()
	if slow != nil {
		slow()
	}
	if err == nil && c.closed() {
		return errors.New("the connection was closed while the message was sent")
	}
	return err
}

func TestAMessageIsSentBeforeItsConnectionIsOver(t *testing.T) {
	s := newStage(t, nil)
	dial := s.Dial
	var first *slowSender
	s.Dial = func(ctx context.Context, c Credentials, r Receiver) (Conn, error) {
		conn, err := dial(ctx, c, r)
		if err != nil || first != nil {
			return conn, err
		}
		first = &slowSender{fake: conn.(*fake)}
		return first, nil
	}
	c := newLeased()
	session := s.session(with(alice, c), "{}")
	first.mu.Lock()
	first.slow = func() {
		id := idIn(t, s.got(first.fake))
		s.succeeds(c)
		first.says(`{"jsonrpc":"2.0","id":` + id + `,"result":{}}`)
	}
	first.mu.Unlock()
	call := s.call(session, fmt.Sprintf(pinged, "x"))
	require.True(t, s.next(call).Final)
	eventually(t, "it has nothing left to do", first.closed)
}
