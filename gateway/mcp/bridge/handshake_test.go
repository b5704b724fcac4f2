package bridge

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"

	"github.com/stretchr/testify/require"
)

func TestOtherCapabilitiesGetAnotherChannel(t *testing.T) {
	s := newStage(t, nil)
	s.session(alice, "{}")
	s.session(alice, `{"sampling":{}}`)
	s.session(bob, "{}")
	require.Len(t, s.fakes(), 3)
}

func TestTheServerIsToldOnceThatTheClientIsReady(t *testing.T) {
	s := newStage(t, nil)
	first, second := s.session(alice, "{}"), s.session(alice, "{}")
	ready := `{"jsonrpc":"2.0","method":"notifications/initialized"}`
	require.NoError(t, first.Notify(context.Background(), in(t, ready)))
	require.NoError(t, second.Notify(context.Background(), in(t, ready)))
	f := s.fake(0)
	require.Equal(t, ready, s.got(f))
	require.Empty(t, f.sent)
}

func TestARefusedHandshakeIsPassedOn(t *testing.T) {
	s := newStage(t, nil)
	session, call, err := s.Initialize(context.Background(), alice, in(t, fmt.Sprintf(initializeOf, "{}")))
	require.NoError(t, err)
	f := s.fake(0)
	s.answer(f, `"error":{"code":-32602,"message":"no"}`)
	item := s.next(call)
	require.True(t, item.Failed && item.Final)
	require.Equal(t, -32602, item.Code)
	session.End()
	call.Close(false)
	require.True(t, f.closed())
}

func TestAServerThatCannotStartIsNotTriedAgainAtOnce(t *testing.T) {
	s := newStage(t, nil)
	s.dialErr = errors.New("no such file")
	_, _, err := s.Initialize(context.Background(), alice, in(t, fmt.Sprintf(initializeOf, "{}")))
	require.ErrorIs(t, err, ErrStart)
	_, _, err = s.Initialize(context.Background(), alice, in(t, fmt.Sprintf(initializeOf, "{}")))
	var wait *BackoffError
	require.ErrorAs(t, err, &wait)
	require.Zero(t, s.Pool.Size())
}

func TestAClientCannotHaveChannelsMadeWithoutEnd(t *testing.T) {
	s := newStage(t, nil)
	made := 0
	require.Eventually(t, func() bool {
		initialize := in(t, fmt.Sprintf(initializeOf, fmt.Sprintf(`{"experimental":{"x":%d}}`, made)))
		session, call, err := s.Initialize(context.Background(), alice, initialize)
		if wait := new(BackoffError); errors.As(err, &wait) {
			return true
		}
		require.NoError(t, err)
		made++
		call.Close(false)
		session.End()
		return false
	}, 10*time.Second, time.Microsecond)
	require.GreaterOrEqual(t, made, startBurst)
	s.session(bob, "{}")
}

func TestBackoffGrowsAndIsForgotten(t *testing.T) {
	b := make(backoff)
	now := time.Unix(1000, 0)
	for _, want := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
		b.failed(grants.PrincipalOf("c"), 0, now)
		require.Equal(t, want*time.Second, b.wait(grants.PrincipalOf("c"), now))
	}
	b.failed(grants.PrincipalOf("c"), settled, now)
	require.Equal(t, backoffMin, b.wait(grants.PrincipalOf("c"), now), "one that ran for long has not failed to start")
	require.Zero(t, b.wait(grants.PrincipalOf("c"), now.Add(time.Hour)))
	for i := range 3 * maxBackoffs {
		b.failed(grants.PrincipalOf(fmt.Sprint(i)), 0, now.Add(time.Duration(i)*time.Second))
	}
	require.LessOrEqual(t, len(b), maxBackoffs)
}

func TestARefusedHandshakeIsNotKept(t *testing.T) {
	for name, shared := range map[string]bool{"on a channel of its own": false, "on a shared one": true} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, func(o *Options) { o.Shared = shared })
			first := s.initialize(alice, "2025-06-18")
			second := s.initialize(alice, "2025-06-18")
			f := s.fake(0)
			require.Eventually(t, func() bool { return s.held() == 2 }, 10*time.Second, time.Millisecond)
			tries := 1
			if shared {
				tries = len(protocol.SessionVersions)
			}
			for range tries {
				s.answer(f, `"error":{"code":-32602,"message":"no"}`)
			}
			for _, answered := range []<-chan Item{first, second} {
				item := <-answered
				require.True(t, item.Failed)
				require.Equal(t, -32602, item.Code)
				require.JSONEq(t, `{"jsonrpc":"2.0","id":"h","error":{"code":-32602,"message":"no"}}`, string(item.Message))
			}
			require.Eventually(t, f.closed, 10*time.Second, time.Millisecond)
			require.Eventually(t, func() bool { return s.Pool.Size() == 0 }, 10*time.Second, time.Millisecond)

			again := s.initialize(alice, "2025-06-18")
			s.answer(s.fake(1), accepted)
			require.False(t, (<-again).Failed)
		})
	}
}

func TestNoVersionOfOneClientBindsTheOthersOfASharedServer(t *testing.T) {
	tests := map[string]struct {
		refuses int    // versions, the newest ones
		server  string // its own version
		answers map[string]string
	}{
		"a server of today": {0, "2025-11-25", map[string]string{
			"2024-11-05": "2024-11-05", "2025-06-18": "2025-06-18", "2025-11-25": "2025-11-25", "1999-01-01": "2025-11-25", "": "2025-11-25", "2099-01-01": "2025-11-25",
		}},
		"an older one, which names its own": {0, "2025-03-26", map[string]string{
			"2024-11-05": "2024-11-05", "2025-11-25": "2025-03-26", "1999-01-01": "2025-03-26",
		}},
		"an older one, which refuses what it does not know": {3, "2024-11-05", map[string]string{
			"2024-11-05": "2024-11-05", "2025-11-25": "2024-11-05", "1999-01-01": "2024-11-05",
		}},
		"one whose version nobody knows": {0, "DRAFT", map[string]string{"2024-11-05": "DRAFT", "2025-11-25": "DRAFT"}},
	}
	for name, test := range tests {
		for firstAsked := range test.answers {
			t.Run(name+", first asked for "+firstAsked, func(t *testing.T) {
				s := newStage(t, func(o *Options) { o.Shared = true })
				first := s.initialize(alice, firstAsked)
				f := s.fake(0)
				for range test.refuses {
					s.answer(f, `"error":{"code":-32602,"message":"Unsupported protocol version"}`)
				}
				s.answer(f, `"result":{"serverInfo":{"protocolVersion":"x"},"protocolVersion": "`+test.server+`"}`)
				<-first
				for asked, want := range test.answers {
					item := <-s.initialize(bob, asked)
					require.False(t, item.Failed)
					require.JSONEq(t, `{"jsonrpc":"2.0","id":"h","result":{"serverInfo":{"protocolVersion":"x"},"protocolVersion":"`+want+`"}}`, string(item.Message), asked)
				}
				require.Len(t, s.fakes(), 1)
			})
		}
	}
}
