package bridge

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/grants"
)

func TestSessionsOfAClientAreBounded(t *testing.T) {
	s := newStage(t, nil)
	busy := s.session(alice, "{}")
	stream := busy.Stream()
	defer stream.Close()
	idle := s.session(alice, "{}")
	other := s.session(bob, "{}")
	used := s.session(alice, "{}")
	for range 3 * maxSessionsPerClient {
		s.session(alice, "{}")
		if again, err := s.Session(alice, used.ID); err == nil {
			again.Release()
		}
	}
	require.Equal(t, maxSessionsPerClient+1, s.held())
	require.Len(t, s.fakes(), 2)
	_, err := s.Session(alice, idle.ID)
	require.ErrorIs(t, err, ErrNoSession, "the one that nobody used made room")
	for o, id := range map[string]string{busy.ID: "alice", used.ID: "alice", other.ID: "bob"} {
		again, err := s.Session(Owner{Principal: grants.PrincipalOf(id), Accessor: "x"}, o)
		require.NoError(t, err)
		again.Release()
	}
}

func TestWhereAllSessionsAreInUseThereIsNoOther(t *testing.T) {
	s := newStage(t, nil)
	for range maxSessionsPerClient {
		stream := s.session(alice, "{}").Stream()
		t.Cleanup(stream.Close)
	}
	_, _, err := s.Initialize(context.Background(), alice, in(t, fmt.Sprintf(initializeOf, "{}")))
	require.ErrorIs(t, err, ErrFull)
	s.session(bob, "{}")
}

func TestASessionThatNobodyUsesEnds(t *testing.T) {
	for _, shared := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := newStage(t, func(o *Options) { o.Shared, o.IdleTimeout = shared, time.Minute })
			first := s.initialize(alice, "2025-11-25")
			synctest.Wait()
			s.answer(s.fakes()[0], accepted)
			<-first
			synctest.Wait()
			second := s.initialize(alice, "2025-11-25")
			<-second
			synctest.Wait()
			require.Equal(t, 2, s.held())
			s.Bridge.mu.Lock()
			var used *Session
			for _, used = range s.sessions {
				break
			}
			s.Bridge.mu.Unlock()
			for range 10 {
				<-time.After(30 * time.Second)
				again, err := s.Session(alice, used.ID)
				require.NoError(t, err)
				again.Release()
			}
			synctest.Wait()
			require.Equal(t, 1, s.held(), "the other one has ended")
			require.False(t, s.fakes()[0].closed())
			<-time.After(2 * time.Minute)
			synctest.Wait()
			require.Zero(t, s.held())
			require.True(t, s.fakes()[0].closed())
		})
	}
}

// watched is a Keeper under a test's control.
type watched struct {
	ended    func(error)
	asked    int
	released int
	err      error
}

func (w *watched) Keep(ended func(error)) (func(), error) {
	if w.err != nil {
		return nil, w.err
	}
	w.asked++
	w.ended = ended
	return func() { w.released++ }, nil
}

func TestATokenIsWatchedAsLongAsSomethingIsHeldForIt(t *testing.T) {
	for name, shared := range map[string]bool{"own": false, "shared": true} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, func(o *Options) { o.Shared = shared })
			if shared {
				first := s.initialize(bob, "2025-11-25")
				s.answer(s.fake(0), accepted)
				<-first
			}
			w, made := &watched{}, 0
			owner := Owner{Principal: grants.PrincipalOf("alice"), Accessor: "a1", Keeper: w}
			open := func() *Session {
				session, call, err := s.Initialize(context.Background(), owner, in(t, fmt.Sprintf(initializeOf, "{}")))
				require.NoError(t, err)
				if !shared && len(s.fakes()) > made {
					s.answer(s.fake(made), accepted)
					made++
				}
				call.Close(false)
				return session
			}
			first, second := open(), open()
			require.Equal(t, 1, w.asked)
			first.End()
			require.Zero(t, w.released)
			second.End()
			require.Equal(t, 1, w.released)

			third := open()
			require.Equal(t, 2, w.asked)
			w.ended(errors.New("revoked"))
			_, err := s.Session(owner, third.ID)
			require.ErrorIs(t, err, ErrNoSession)
			require.Equal(t, 2, w.released)
			require.Zero(t, s.has(grants.PrincipalOf("alice")))

			w.err = errors.New("the token has ended")
			_, _, err = s.Initialize(context.Background(), owner, in(t, fmt.Sprintf(initializeOf, "{}")))
			require.ErrorIs(t, err, w.err)
			require.Zero(t, s.has(grants.PrincipalOf("alice")))
		})
	}
}

func TestAChannelCountsUntilItIsGone(t *testing.T) {
	s := newStage(t, func(o *Options) { o.Pool = NewPool(3, 2) })
	s.lingers = true
	first := s.session(alice, "{}")
	stream := s.session(alice, `{"roots":{}}`).Stream()
	defer stream.Close()
	first.End()
	require.True(t, s.fake(0).closed())
	require.Equal(t, 2, s.Pool.Size())

	// The place of the one that ends is taken once that is gone, and by one only.
	type opened struct {
		session *Session
		err     error
	}
	ask := func(ctx context.Context, i int) <-chan opened {
		done := make(chan opened, 1)
		initialize := in(t, fmt.Sprintf(initializeOf, fmt.Sprintf(`{"n":%d}`, i)))
		go func() {
			session, call, err := s.Initialize(ctx, alice, initialize)
			if err == nil {
				call.Close(false)
			}
			done <- opened{session, err}
		}()
		return done
	}
	impatient, cancel := context.WithCancel(context.Background())
	gaveUp := ask(impatient, 1)
	require.Eventually(t, func() bool { return s.awaited() == 1 }, 10*time.Second, time.Millisecond)
	_, _, err := s.Initialize(context.Background(), alice, in(t, fmt.Sprintf(initializeOf, `{"n":2}`)))
	require.ErrorIs(t, err, ErrFull, "somebody waits for the place already")
	cancel()
	require.ErrorIs(t, (<-gaveUp).err, context.Canceled)
	waits := ask(context.Background(), 3)
	require.Eventually(t, func() bool { return s.awaited() == 1 }, 10*time.Second, time.Millisecond)
	require.Len(t, s.fakes(), 2)
	s.fake(0).leave()
	require.NoError(t, (<-waits).err)
	require.Len(t, s.fakes(), 3)
	require.Equal(t, 2, s.Pool.Size())

	// Channels that a revocation ends count, too.
	s.session(bob, "{}")
	s.EndPrincipal(alice.Principal)
	s.EndPrincipal(bob.Principal)
	require.Equal(t, 3, s.Pool.Size())
	for _, f := range s.fakes()[1:] {
		f.leave()
	}
	require.Zero(t, s.Pool.Size())
}

// held is the number of sessions. Without sessions there is no client, either.
func (s *stage) held() int {
	s.Bridge.mu.Lock()
	defer s.Bridge.mu.Unlock()
	if len(s.sessions) == 0 {
		return len(s.clients)
	}
	return len(s.sessions)
}

// has is how much a client has.
func (s *stage) has(client grants.Principal) int {
	s.Bridge.mu.Lock()
	defer s.Bridge.mu.Unlock()
	if c := s.clients[client]; c != nil {
		return 1 + len(c.sessions) + len(c.channels) + len(c.tokens)
	}
	return 0
}

// awaited is how many places somebody waits for.
func (s *stage) awaited() int {
	s.Pool.mu.Lock()
	defer s.Pool.mu.Unlock()
	n := 0
	for slot := range s.Pool.slots {
		if slot.waiter != nil {
			n++
		}
	}
	return n
}

// BenchmarkPingBesideSessions is one client's ping beside a client that opens
// sessions without end.
func BenchmarkPingBesideSessions(b *testing.B) {
	for _, beside := range []int{0, 100_000} {
		b.Run(fmt.Sprint(beside), func(b *testing.B) {
			s := newStage(b, nil)
			open := func(o Owner) *Session {
				session, call, err := s.Initialize(context.Background(), o, in(b, fmt.Sprintf(initializeOf, "{}")))
				if err != nil {
					b.Fatal(err)
				}
				call.Close(false)
				return session
			}
			open(alice)
			session := open(bob)
			for _, f := range s.fakes() {
				f.says(`{"jsonrpc":"2.0","id":1,"result":{}}`)
				<-f.sent
			}
			f := s.fakes()[1]
			before := heap()
			for range beside {
				open(alice)
			}
			grown := heap() - before
			b.ReportAllocs()
			for b.Loop() {
				c, err := session.Call(context.Background(), in(b, `{"jsonrpc":"2.0","id":1,"method":"ping"}`))
				if err != nil {
					b.Fatal(err)
				}
				f.says(`{"jsonrpc":"2.0","id":` + idIn(b, <-f.sent) + `,"result":{}}`)
				if _, err := c.Next(context.Background()); err != nil {
					b.Fatal(err)
				}
				c.Close(false)
			}
			b.ReportMetric(float64(len(s.sessions)), "sessions")
			b.ReportMetric(grown, "heap-MB")
		})
	}
}

// heap is the live heap, in megabytes.
func heap() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / (1 << 20)
}
