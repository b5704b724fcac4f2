package bridge

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTheEraOfTheServerIsAskedForOnce(t *testing.T) {
	for answer, knows := range map[string]bool{
		`"result":{}`: true,
		`"error":{"code":-32022,"message":"version"}`: true,
		`"error":{"code":-32601,"message":"what?"}`:   false,
		`"error":{"code":-32602,"message":"not yet"}`: false,
	} {
		t.Run(answer, func(t *testing.T) {
			s := newStage(t, nil)
			c, err := s.stateless(alice, listed, answer)
			if !knows {
				require.ErrorIs(t, err, ErrNeedsSession)
				require.Eventually(t, s.fake(0).closed, 10*time.Second, time.Millisecond)
				_, err = s.stateless(bob, listed, "")
				require.ErrorIs(t, err, ErrNeedsSession, "it is not asked again")
				require.Len(t, s.fakes(), 1)
				return
			}
			require.NoError(t, err)
			f := s.fake(0)
			id := idIn(t, s.got(f))
			again, err := s.stateless(alice, listed, "")
			require.NoError(t, err)
			s.answer(f, `"result":{"second":true}`)
			f.says(`{"jsonrpc":"2.0","id":` + id + `,"result":{}}`)
			require.Equal(t, `{"jsonrpc":"2.0","id":1,"result":{"second":true}}`, string(s.next(again).Message))
			require.Equal(t, `{"jsonrpc":"2.0","id":1,"result":{}}`, string(s.next(c).Message))
		})
	}
}

func TestAClosedStreamCancelsWithoutSessions(t *testing.T) {
	s := newStage(t, nil)
	c, err := s.stateless(alice, listed, `"result":{}`)
	require.NoError(t, err)
	f := s.fake(0)
	id := idIn(t, s.got(f))
	c.Close(true)
	require.Equal(t, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":`+id+`}}`, s.got(f))
}

func TestSubscriptionsAreToldApart(t *testing.T) {
	s := newStage(t, nil)
	first, err := s.stateless(alice, listenTo, `"result":{}`)
	require.NoError(t, err)
	f := s.fake(0)
	firstID := idIn(t, s.got(f))
	second, err := s.stateless(alice, listenTo, "")
	require.NoError(t, err)
	secondID := idIn(t, s.got(f))
	note := `{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":%s}}}`
	f.says(fmt.Sprintf(note, secondID))
	f.says(fmt.Sprintf(note, firstID))
	require.Equal(t, fmt.Sprintf(note, `"l"`), string(s.next(first).Message))
	require.Equal(t, fmt.Sprintf(note, `"l"`), string(s.next(second).Message))
	f.says(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":` + firstID + `}}`)
	_, err = first.Next(context.Background())
	require.ErrorIs(t, err, ErrClosed, "the server ends a subscription")
	f.says(`{"jsonrpc":"2.0","id":` + secondID + `,"result":{"_meta":{"io.modelcontextprotocol/subscriptionId":` + secondID + `}}}`)
	require.Equal(t, `{"jsonrpc":"2.0","id":"l","result":{"_meta":{"io.modelcontextprotocol/subscriptionId":"l"}}}`, string(s.next(second).Message))
}
