package bridge

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	initialized = `{"jsonrpc":"2.0","method":"notifications/initialized"}`
	handshook   = `"result":{"serverInfo":{"n":1.10}}`
	setLevel    = `{"jsonrpc":"2.0","id":"level","method":"logging/setLevel","params":{"level":%q,"_meta":{"progressToken":"p"}}}`
	ofResource  = `{"jsonrpc":"2.0","id":%q,"method":"resources/%s","params":{"uri":"file:///%s"}}`
	slow        = `{"jsonrpc":"2.0","id":%q,"method":"tools/call","params":{"name":"slow","_meta":{"progressToken":"mine"}}}`
)

// says sends a client's request, and has the server answer it.
func (s *stage) asks(session *Session, f *fake, message string) {
	s.t.Helper()
	c := s.call(session, message)
	s.answer(f, `"result":{}`)
	require.True(s.t, s.next(c).Final)
}

// succeeds has the channel's next server take its place, and returns it.
func (s *stage) succeeds(c *leased) (*leased, *fake) {
	s.t.Helper()
	before := len(s.fakes())
	next := c.supersede()
	f := s.fake(before)
	s.answer(f, handshook)
	s.carries(f)
	return next, f
}

// carries waits until everything new goes over the server's connection.
func (s *stage) carries(f *fake) {
	s.t.Helper()
	l := f.r.(*connection)
	eventually(s.t, "it takes the other's place", func() bool { return l.channel.goesOnWith(l) })
}

func TestASuccessorIsGivenWhatItsPredecessorWas(t *testing.T) {
	for name, test := range map[string]struct {
		before func(s *stage, first, second *Session, f *fake)
		wanted []string // with the ids cut out
	}{
		"a session that has only begun": {func(*stage, *Session, *Session, *fake) {}, nil},
		"a session that is ready": {func(s *stage, first, _ *Session, f *fake) {
			require.NoError(s.t, first.Notify(context.Background(), in(s.t, initialized)))
			s.got(f)
		}, []string{initialized}},
		"two sessions that are ready": {func(s *stage, first, second *Session, f *fake) {
			require.NoError(s.t, first.Notify(context.Background(), in(s.t, initialized)))
			require.NoError(s.t, second.Notify(context.Background(), in(s.t, initialized)))
			s.got(f)
		}, []string{initialized}},
		"the last level of its log": {func(s *stage, first, second *Session, f *fake) {
			s.asks(first, f, fmt.Sprintf(setLevel, "debug"))
			s.asks(second, f, fmt.Sprintf(setLevel, "error"))
		}, []string{`{"jsonrpc":"2.0","id":#,"method":"logging/setLevel","params":{"level":"error","_meta":{"progressToken":#}}}`}},
		"the resources that any session subscribes to, once": {func(s *stage, first, second *Session, f *fake) {
			s.asks(first, f, fmt.Sprintf(ofResource, "1", "subscribe", "a"))
			s.asks(second, f, fmt.Sprintf(ofResource, "2", "subscribe", "a"))
			s.asks(second, f, fmt.Sprintf(ofResource, "3", "subscribe", "b"))
			s.asks(second, f, fmt.Sprintf(ofResource, "4", "unsubscribe", "b"))
		}, []string{`{"jsonrpc":"2.0","id":#,"method":"resources/subscribe","params":{"uri":"file:///a"}}`}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, nil)
			owner := with(alice, newLeased())
			first, second := s.session(owner, `{"roots":{}}`), s.session(owner, `{"roots":{}}`)
			stream := first.Stream()
			defer stream.Close()
			old := s.fake(0)
			test.before(s, first, second, old)

			owner.Credentials.(*leased).supersede()
			f := s.fake(1)
			handshake := s.got(f)
			id := idIn(t, handshake)
			require.Equal(t, strings.Replace(fmt.Sprintf(initializeOf, `{"roots":{}}`), `"id":0`, `"id":`+id, 1), handshake, "the client's own, byte by byte")
			require.False(t, old.closed(), "it goes on until the other one is ready")
			f.says(`{"jsonrpc":"2.0","id":` + id + `,` + handshook + `}`)
			for _, wanted := range test.wanted {
				got := s.got(f)
				if strings.Contains(got, `"id"`) {
					id := idIn(t, got)
					wanted = strings.ReplaceAll(wanted, "#", id)
					f.says(`{"jsonrpc":"2.0","id":` + id + `,"result":{"for":"nobody"}}`)
				}
				require.Equal(t, wanted, got)
			}
			s.carries(f)
			require.Empty(t, f.sent, "nothing is given twice")
			eventually(t, "the old one has ended", old.closed)

			// The sessions' ids are good, and the first thing that they hear is for them.
			again, err := s.Session(owner, first.ID)
			require.NoError(t, err)
			again.Release()
			s.asks(second, f, `{"jsonrpc":"2.0","id":"new","method":"ping"}`)
			f.says(`{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`)
			require.Contains(t, string(s.next(stream).Message), "list_changed")
			require.Len(t, s.fakes(), 2)
		})
	}
}

func TestWhatChangesWhileASuccessorStartsIsNotLost(t *testing.T) {
	s := newStage(t, nil)
	owner := with(alice, newLeased())
	session := s.session(owner, "{}")
	old := s.fake(0)
	s.asks(session, old, fmt.Sprintf(ofResource, "1", "subscribe", "gone"))
	owner.Credentials.(*leased).supersede()
	f := s.fake(1)
	id := idIn(t, s.got(f))
	require.NoError(t, session.Notify(context.Background(), in(t, initialized)))
	require.Equal(t, initialized, s.got(old))
	s.asks(session, old, fmt.Sprintf(setLevel, "debug"))
	s.asks(session, old, fmt.Sprintf(ofResource, "1", "subscribe", "late"))
	s.asks(session, old, fmt.Sprintf(ofResource, "1", "unsubscribe", "gone"))
	f.says(`{"jsonrpc":"2.0","id":` + id + `,` + handshook + `}`)
	require.Equal(t, initialized, s.got(f))
	require.Contains(t, s.got(f), `"level":"debug"`)
	require.Contains(t, s.got(f), `"resources/subscribe","params":{"uri":"file:///late"}`)
	s.carries(f)
	require.Empty(t, f.sent)
}

func TestCallsInFlightStayWhereTheyAre(t *testing.T) {
	s := newStage(t, nil)
	owner := with(alice, newLeased())
	session := s.session(owner, "{}")
	old := s.fake(0)
	first, second := s.call(session, fmt.Sprintf(slow, "1")), s.call(session, fmt.Sprintf(slow, "2"))
	firstID, secondID := idIn(t, s.got(old)), idIn(t, s.got(old))
	_, f := s.succeeds(owner.Credentials.(*leased))
	third := s.call(session, fmt.Sprintf(slow, "3"))
	thirdID := idIn(t, s.got(f))

	t.Run("their progress comes from the old server alone", func(t *testing.T) {
		const progress = `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":%d}}`
		f.says(fmt.Sprintf(progress, firstID, 1))
		old.says(fmt.Sprintf(progress, firstID, 2))
		require.Equal(t, fmt.Sprintf(progress, `"mine"`, 2), string(s.next(first).Message))
	})
	t.Run("neither server answers for the other", func(t *testing.T) {
		f.says(`{"jsonrpc":"2.0","id":` + firstID + `,"result":{"from":"the new one"}}`)
		old.says(`{"jsonrpc":"2.0","id":` + thirdID + `,"result":{"from":"the old one"}}`)
		old.says(`{"jsonrpc":"2.0","id":` + firstID + `,"result":{"from":"the old one"}}`)
		f.says(`{"jsonrpc":"2.0","id":` + thirdID + `,"result":{"from":"the new one"}}`)
		require.Equal(t, `{"jsonrpc":"2.0","id":"1","result":{"from":"the old one"}}`, string(s.next(first).Message))
		require.Equal(t, `{"jsonrpc":"2.0","id":"3","result":{"from":"the new one"}}`, string(s.next(third).Message))
	})
	t.Run("each server gets the answers to its own questions, though their ids are equal", func(t *testing.T) {
		fourth := s.call(session, fmt.Sprintf(slow, "4"))
		s.got(f)
		const asked = `{"jsonrpc":"2.0","id":%s,"method":"sampling/createMessage","params":{"_meta":{"progressToken":%q}}}`
		old.says(fmt.Sprintf(asked, "7", "old"))
		f.says(fmt.Sprintf(asked, "7", "new"))
		ofOld, ofNew := string(s.next(second).Message), string(s.next(fourth).Message)
		require.Equal(t, fmt.Sprintf(asked, "7", "old"), ofOld)
		require.Equal(t, fmt.Sprintf(asked, `"gateway-1-1"`, "new"), ofNew)

		for token, wanted := range map[string]*fake{"old": old, "new": f} {
			told := fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%q,"progress":1}}`, token)
			require.NoError(t, session.Notify(context.Background(), in(t, told)))
			require.Equal(t, told, s.got(wanted))
		}
		require.NoError(t, session.Respond(in(t, `{"jsonrpc":"2.0","id":"gateway-1-1","result":{"to":"new"}}`)))
		require.NoError(t, session.Respond(in(t, `{"jsonrpc":"2.0","id":7,"result":{"to":"old"}}`)))
		require.Equal(t, `{"jsonrpc":"2.0","id":7,"result":{"to":"new"}}`, s.got(f))
		require.Equal(t, `{"jsonrpc":"2.0","id":7,"result":{"to":"old"}}`, s.got(old))

		f.says(fmt.Sprintf(asked, `"x"`, "new"))
		require.Contains(t, string(s.next(fourth).Message), `"id":"gateway-1-2"`)
		f.says(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"x"}}`)
		stream := session.Stream()
		defer stream.Close()
		require.Contains(t, string(s.next(fourth).Message), `"requestId":"gateway-1-2"`)
		fourth.Close(true)
		require.Contains(t, s.got(f), "notifications/cancelled")
	})
	t.Run("their cancellations go to the old server, which ends after the last", func(t *testing.T) {
		require.False(t, old.closed(), "a call is in flight")
		require.NoError(t, session.Notify(context.Background(), in(t, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"2"}}`)))
		require.Equal(t, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":`+secondID+`}}`, s.got(old))
		second.Close(true)
		require.Contains(t, s.got(old), "notifications/cancelled")
		eventually(t, "it has nothing left to do", old.closed)
		require.Empty(t, f.sent)
		require.False(t, old.wasKilled())
	})
}

func TestACallThatNobodyWaitsForKeepsItsServer(t *testing.T) {
	s := newStage(t, nil)
	c := newLeased()
	session := s.session(with(alice, c), "{}")
	old := s.fake(0)
	call := s.call(session, fmt.Sprintf(slow, "1"))
	id := idIn(t, s.got(old))
	call.Close(false)
	_, f := s.succeeds(c)
	require.False(t, old.closed())
	require.Equal(t, 1, c.held())
	old.says(`{"jsonrpc":"2.0","id":` + id + `,"result":{}}`)
	eventually(t, "it has answered", old.closed)
	eventually(t, "its credentials are given back", func() bool { return c.held() == 0 })
	require.False(t, f.closed())
}

func TestASuccessorCountsInNoBound(t *testing.T) {
	s := newStage(t, func(o *Options) { o.Pool = NewPool(1, 1) })
	c := newLeased()
	owner := with(alice, c)
	session := s.session(owner, "{}")
	stream := session.Stream()
	defer stream.Close()
	for range 2 * startBurst {
		c, _ = s.succeeds(c)
		require.Equal(t, 1, s.Pool.Size())
	}
	_, _, err := s.Initialize(context.Background(), with(alice, c), in(t, fmt.Sprintf(initializeOf, `{"other":{}}`)))
	require.ErrorIs(t, err, ErrFull)
	s.Close()
	eventually(t, "the place is free", func() bool { return s.Pool.Size() == 0 })
	require.Zero(t, c.held())
}

func TestTheNewestCredentialsAreTaken(t *testing.T) {
	s := newStage(t, nil)
	c := newLeased()
	session := s.session(with(alice, c), "{}")
	second := newLeased()
	third := second.supersede()
	c.successor = second
	close(c.superseded)
	f := s.fake(1)
	require.Same(t, third, f.with)
	s.answer(f, handshook)
	s.carries(f)
	third, f = s.succeeds(third)
	require.Same(t, third, f.with)
	s.asks(session, f, `{"jsonrpc":"2.0","id":"x","method":"ping"}`)
	require.Len(t, s.fakes(), 3)
}

func TestARequestWithNewerCredentialsWaitsForNothing(t *testing.T) {
	s := newStage(t, nil)
	c := newLeased()
	session := s.session(with(alice, c), "{}")
	next := c.supersede()
	f := s.fake(1)
	same, err := s.Session(with(alice, next), session.ID)
	require.NoError(t, err)
	defer same.Release()
	s.asks(same, s.fake(0), `{"jsonrpc":"2.0","id":"x","method":"ping"}`)
	require.Contains(t, s.got(f), `"method":"initialize"`, "which it has not answered")
	require.Len(t, s.fakes(), 2)
}

func TestAServersOldNewsAndItsSuccessorsAreTold(t *testing.T) {
	s := newStage(t, nil)
	c := newLeased()
	session := s.session(with(alice, c), "{}")
	old := s.fake(0)
	stream := session.Stream()
	defer stream.Close()
	call := s.call(session, fmt.Sprintf(slow, "1"))
	s.got(old)
	c.supersede()
	f := s.fake(1)
	f.says(`{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`) // as it starts
	s.answer(f, handshook)
	s.carries(f)
	f.says(`{"jsonrpc":"2.0","method":"notifications/prompts/list_changed"}`)
	require.Contains(t, string(s.next(stream).Message), "prompts/list_changed")
	old.says(`{"jsonrpc":"2.0","method":"notifications/resources/list_changed"}`)
	require.Contains(t, string(s.next(stream).Message), "resources/list_changed")
	old.says(`{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"of the call"}}`)
	require.Contains(t, string(s.next(call).Message), "of the call")
}

func TestWithoutSessionsTheSuccessorIsAskedForItsEra(t *testing.T) {
	s := newStage(t, nil)
	c := newLeased()
	owner := with(alice, c)
	call, err := s.stateless(owner, listed, `"result":{}`)
	require.NoError(t, err)
	old := s.fake(0)
	id := idIn(t, s.got(old))
	listening, err := s.stateless(owner, listenTo, "")
	require.NoError(t, err)
	listenID := idIn(t, s.got(old))

	c.supersede()
	f := s.fake(1)
	require.Contains(t, s.got(f), `"method":"server/discover"`)
	require.False(t, old.closed())
	f.says(`{"jsonrpc":"2.0","id":` + fmt.Sprint(f.r.(*connection).channel.lastOf()) + `,"result":{}}`)
	s.carries(f)
	_, err = listening.Next(context.Background())
	require.ErrorIs(t, err, ErrClosed, "it ends in good order, and is opened again")
	listening.Close(true)
	require.Contains(t, s.got(old), `"requestId":`+listenID)
	again, err := s.stateless(owner, listenTo, "")
	require.NoError(t, err)
	require.Contains(t, s.got(f), "subscriptions/listen")
	again.Close(true)

	old.says(`{"jsonrpc":"2.0","id":` + id + `,"result":{"from":"the old one"}}`)
	require.Equal(t, `{"jsonrpc":"2.0","id":1,"result":{"from":"the old one"}}`, string(s.next(call).Message))
	call.Close(false)
	eventually(t, "it has nothing left to do", old.closed)
}

// lastOf is the last id on the channel.
func (ch *channel) lastOf() int64 {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	return ch.lastID
}
