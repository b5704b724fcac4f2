package bridge

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEqualIDsOfTwoSessionsDoNotCollide(t *testing.T) {
	s := newStage(t, nil)
	first, second := s.session(alice, "{}"), s.session(alice, "{}")
	require.Len(t, s.fakes(), 1, "the same handshake shares the channel")
	require.NotEqual(t, first.ID, second.ID)
	f := s.fake(0)

	message := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"%s","big":12345678901234567890,"_meta":{"progressToken":1}}}`
	a := s.call(first, fmt.Sprintf(message, "a"))
	b := s.call(second, fmt.Sprintf(message, "b"))
	atServer := []string{s.got(f), s.got(f)}
	ids := []string{idIn(t, atServer[0]), idIn(t, atServer[1])}
	require.NotEqual(t, ids[0], ids[1])
	require.Equal(t, strings.Replace(strings.Replace(fmt.Sprintf(message, "a"), `"id":1`, `"id":`+ids[0], 1),
		`"progressToken":1`, `"progressToken":`+ids[0], 1), atServer[0], "all other bytes are kept")

	f.says(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":` + ids[1] + `,"progress":1.50}}`)
	f.says(`{"jsonrpc":"2.0","id":` + ids[1] + `,"result":{"for":"b","n":1e400}}`)
	f.says(`{"jsonrpc":"2.0","id":` + ids[0] + `,"result":{"for":"a"}}`)
	require.Equal(t, `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1.50}}`, string(s.next(b).Message))
	require.Equal(t, `{"jsonrpc":"2.0","id":1,"result":{"for":"b","n":1e400}}`, string(s.next(b).Message))
	require.Equal(t, `{"jsonrpc":"2.0","id":1,"result":{"for":"a"}}`, string(s.next(a).Message))
}

func TestAnIDInUseInTheSessionIsRefused(t *testing.T) {
	s := newStage(t, nil)
	session := s.session(alice, "{}")
	s.call(session, `{"jsonrpc":"2.0","id":"x","method":"ping"}`)
	_, err := session.Call(context.Background(), in(t, `{"jsonrpc":"2.0","id":"x","method":"ping"}`))
	require.ErrorIs(t, err, ErrDuplicate)
}

func TestASessionIsItsClientsAlone(t *testing.T) {
	s := newStage(t, nil)
	session := s.session(alice, "{}")
	for _, id := range []string{session.ID, "", "other"} {
		_, err := s.Session(bob, id)
		require.ErrorIs(t, err, ErrNoSession)
	}
	again, err := s.Session(alice, session.ID)
	require.NoError(t, err)
	again.Release()
}

func TestAServersQuestionGoesToWhoseRequestIsInFlight(t *testing.T) {
	s := newStage(t, nil)
	idle, busy := s.session(alice, "{}"), s.session(alice, "{}")
	f := s.fake(0)
	stream := idle.Stream()
	defer stream.Close()
	c := s.call(busy, `{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"x"}}`)
	s.got(f)
	f.says(`{"jsonrpc":"2.0","id":"q","method":"sampling/createMessage"}`)
	require.Equal(t, `{"jsonrpc":"2.0","id":"q","method":"sampling/createMessage"}`, string(s.next(c).Message))

	answer := `{"jsonrpc":"2.0","id":"q","result":{"n":1.10}}`
	require.NoError(t, idle.Respond(in(t, answer)), "not asked: dropped")
	require.NoError(t, busy.Respond(in(t, answer)))
	require.NoError(t, busy.Respond(in(t, answer)), "answered before: dropped")
	require.Equal(t, answer, s.got(f))
	require.Empty(t, f.sent)
}

func TestWhatTheServerSaysWaitsForAStream(t *testing.T) {
	s := newStage(t, nil)
	session := s.session(alice, "{}")
	f := s.fake(0)
	f.says(`{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`)
	f.says(`{"jsonrpc":"2.0","id":9,"method":"roots/list"}`)
	stream := session.Stream()
	require.Contains(t, string(s.next(stream).Message), "list_changed")
	stream.Close() // messages that it did not read wait
	stream = session.Stream()
	require.Contains(t, string(s.next(stream).Message), "roots/list")
	other := session.Stream()
	_, err := stream.Next(context.Background())
	require.ErrorIs(t, err, ErrClosed, "the newest stream counts")
	stream.Close()
	f.says(`{"jsonrpc":"2.0","method":"notifications/prompts/list_changed"}`)
	require.Contains(t, string(s.next(other).Message), "prompts")
	other.Close()
}

func TestPingsAreAnsweredByTheBridge(t *testing.T) {
	s := newStage(t, nil)
	s.session(alice, "{}")
	f := s.fake(0)
	f.says(`{"jsonrpc":"2.0","id":"p","method":"ping"}`)
	require.Equal(t, `{"jsonrpc":"2.0","id":"p","result":{}}`, s.got(f))
}

func TestACancellationNamesTheRequestOnTheChannel(t *testing.T) {
	s := newStage(t, nil)
	session, other := s.session(alice, "{}"), s.session(alice, "{}")
	f := s.fake(0)
	s.call(session, `{"jsonrpc":"2.0","id":"x","method":"tools/call","params":{"name":"a"}}`)
	id := idIn(t, s.got(f))
	cancel := `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"x","reason":"r"}}`
	require.NoError(t, other.Notify(context.Background(), in(t, cancel)), "not its request")
	require.NoError(t, session.Notify(context.Background(), in(t, cancel)))
	require.Equal(t, strings.Replace(cancel, `"x"`, id, 1), s.got(f))
	require.Empty(t, f.sent)
}
