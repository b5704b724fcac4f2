package bridge

import (
	"context"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// TestAServerNeedNotBeStrict: an answer is known by its id, in whichever type and
// behind whichever mark it is written.
func TestAServerNeedNotBeStrict(t *testing.T) {
	s := newStage(t, nil)
	initialize := in(t, `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}`)
	session, call, err := s.Initialize(context.Background(), alice, initialize)
	require.NoError(t, err)
	f := s.fake(0)
	id := idIn(t, s.got(f))
	f.says("\ufeff" + `{"jsonrpc":"2.0","id":"` + id + `","result":{}}`)
	require.Equal(t, `{"jsonrpc":"2.0","id":0,"result":{}}`, string(s.next(call).Message))
	call.Close(false)
	for _, form := range []string{`"%"`, `%.0`, `%`} {
		call, err := session.Call(context.Background(), in(t, `{"jsonrpc":"2.0","id":"mine","method":"ping"}`))
		require.NoError(t, err)
		id := idIn(t, s.got(f))
		said := strings.ReplaceAll(form, "%", id)
		f.says(`{"jsonrpc":"2.0","id":` + said + `,"result":{}}`)
		require.Equal(t, `{"jsonrpc":"2.0","id":"mine","result":{}}`, string(s.next(call).Message), form)
		call.Close(false)
	}
}

// TestAHandshakeHasABound: whether one client waits for it or all do.
func TestAHandshakeHasABound(t *testing.T) {
	for _, shared := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := newStage(t, func(o *Options) { o.Shared, o.HandshakeTimeout = shared, time.Minute })
			initialize := in(t, `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}`)
			began := time.Now()
			_, call, err := s.Initialize(context.Background(), alice, initialize)
			if err == nil {
				_, err = call.Next(context.Background())
			}
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			require.Equal(t, time.Minute, time.Since(began))
			require.True(t, s.fakes()[0].closed(), "the child has ended")
			synctest.Wait()
		})
	}
}

func TestGarbageFromTheServerHarmsNobody(t *testing.T) {
	s := newStage(t, nil)
	session := s.session(alice, "{}")
	f := s.fake(0)
	c := s.call(session, `{"jsonrpc":"2.0","id":1,"method":"ping"}`)
	id := idIn(t, s.got(f))
	for _, garbage := range []string{
		``, `x`, `[]`, `{}`, `null`, `{"jsonrpc":"2.0"}`, `{"jsonrpc":"2.0","id":` + id + `}`,
		`{"jsonrpc":"2.0","id":"` + id + `","result":{}}`, `{"jsonrpc":"2.0","id":` + id + `.0,"result":{}}`,
		`{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":""}}`, `{"jsonrpc":"2.0","id":99999,"result":{}}`,
		`{"jsonrpc":"2.0","method":"notifications/progress"}`, `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":{}}}`,
		`{"jsonrpc":"2.0","method":"notifications/cancelled"}`, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":` + id + `}}`,
	} {
		f.says(garbage)
	}
	f.says(`{"jsonrpc":"2.0","id":` + id + `,"result":{}}`)
	require.Equal(t, `{"jsonrpc":"2.0","id":1,"result":{}}`, string(s.next(c).Message))
}
