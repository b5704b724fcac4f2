package bridge

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestASharedChannelTellsNoClientAboutAnother(t *testing.T) {
	s := newStage(t, func(o *Options) { o.Shared = true })
	open := make(chan *Session, 1)
	first := in(t, fmt.Sprintf(initializeOf, `{"sampling":{}}`))
	go func() {
		session, call, err := s.Initialize(context.Background(), alice, first)
		if err == nil {
			item, _ := call.Next(context.Background())
			if string(item.Message) == `{"jsonrpc":"2.0","id":0,"result":{"x":1}}` {
				open <- session
			}
			call.Close(false)
		}
	}()
	f := s.fake(0)
	initialize := s.got(f)
	require.Contains(t, initialize, `"capabilities":{}`, "no client's capabilities")
	require.Contains(t, initialize, `"protocolVersion":"2025-11-25"`)
	f.says(`{"jsonrpc":"2.0","id":` + idIn(t, initialize) + `,"result":{"x":1}}`)
	require.Equal(t, `{"jsonrpc":"2.0","method":"notifications/initialized"}`, s.got(f))
	a := <-open
	b, call, err := s.Initialize(context.Background(), bob, in(t, fmt.Sprintf(initializeOf, "{}")))
	require.NoError(t, err)
	s.next(call)
	call.Close(false)
	require.Len(t, s.fakes(), 1)

	c := s.call(a, `{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{"uri":"file:///a"}}`)
	s.got(f)
	s.call(b, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}}`)
	bID := idIn(t, s.got(f))
	stream := b.Stream()
	defer stream.Close()

	f.says(`{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"about alice"}}`)
	f.says(`{"jsonrpc":"2.0","method":"notifications/vendor","params":{"data":"about alice"}}`)
	f.says(`{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"file:///a"}}`)
	f.says(`{"jsonrpc":"2.0","id":"q","method":"sampling/createMessage"}`)
	require.Contains(t, s.got(f), `"id":"q","error"`)
	f.says(`{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`)
	require.Contains(t, string(s.next(stream).Message), "tools/list_changed", "the first that bob gets")
	require.Contains(t, string(s.next(c).Message), "resources/updated")

	// Nor does it let one act for another.
	require.NoError(t, a.Notify(context.Background(), in(t, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":`+bID+`}}`)))
	require.NoError(t, a.Notify(context.Background(), in(t, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"requestID":`+bID+`}}`)))
	cancelled := s.got(f)
	require.NotContains(t, cancelled, "requestID")
	require.NotContains(t, cancelled, bID+"}")
	for _, method := range []string{`"resources/unsubscribe","params":{"uri":"file:///a"}`, `"logging/setLevel","params":{"level":"debug"}`} {
		local := s.call(a, `{"jsonrpc":"2.0","id":7,"method":`+method+`}`)
		require.Equal(t, `{"jsonrpc":"2.0","id":7,"result":{}}`, string(s.next(local).Message))
	}
	require.NoError(t, a.Notify(context.Background(), in(t, `{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}`)))
	require.Empty(t, f.sent)
	s.EndPrincipal(alice.Principal)
	require.False(t, f.closed())
}
