package bridge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
)

// fake is a server at the other end of a channel, played by the test.
type fake struct {
	r    Receiver
	sent chan string
	mu   sync.Mutex
	end  bool

	lingers bool // it is told to end, and does not until leave
}

func (f *fake) Send(m []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.end {
		return errors.New("closed")
	}
	f.sent <- string(m)
	return nil
}

func (f *fake) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.end && !f.lingers {
		go f.r.Gone(nil)
	}
	f.end = true
}

// leave ends a server that lingers.
func (f *fake) leave() { f.r.Gone(nil) }

func (f *fake) closed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.end
}

// stage is a bridge whose channels the test plays.
type stage struct {
	*Bridge
	t       testing.TB
	mu      sync.Mutex
	dials   []*fake
	dialErr error
	lingers bool // of the channels to come
}

func newStage(t testing.TB, change func(*Options)) *stage {
	t.Helper()
	s := &stage{t: t}
	o := Options{
		Pool: NewPool(0, 0),
		Log:  hclog.NewNullLogger(),
		Dial: func(_ context.Context, r Receiver) (Conn, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.dialErr != nil {
				return nil, s.dialErr
			}
			f := &fake{r: r, sent: make(chan string, 100), lingers: s.lingers}
			s.dials = append(s.dials, f)
			return f, nil
		},
		Stateless: true,
	}
	if change != nil {
		change(&o)
	}
	s.Bridge = New(o)
	t.Cleanup(s.Close)
	return s
}

func (s *stage) fakes() []*fake {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*fake(nil), s.dials...)
}

// fake waits for the n-th channel.
func (s *stage) fake(n int) *fake {
	s.t.Helper()
	require.Eventually(s.t, func() bool { return len(s.fakes()) > n }, 10*time.Second, time.Millisecond)
	return s.fakes()[n]
}

// got waits for the next message at the server.
func (s *stage) got(f *fake) string {
	s.t.Helper()
	select {
	case m := <-f.sent:
		return m
	case <-time.After(10 * time.Second):
		s.t.Fatal("the server got nothing")
		return ""
	}
}

// idIn returns the id of a message as it stands there.
func idIn(t testing.TB, message string) string {
	t.Helper()
	var m struct{ ID json.RawMessage }
	require.NoError(t, json.Unmarshal([]byte(message), &m))
	return string(m.ID)
}

func in(t testing.TB, message string) Incoming {
	t.Helper()
	e, err := envelope.Parse([]byte(message))
	require.NoError(t, err)
	return Incoming{Envelope: &e, Message: []byte(message), Streams: true}
}

type source interface {
	Next(ctx context.Context) (Item, error)
}

func (s *stage) next(c source) Item {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	item, err := c.Next(ctx)
	require.NoError(s.t, err)
	return item
}

const initializeOf = `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":%s,"clientInfo":{"name":"c","version":"1"}}}`

var (
	alice = Owner{Client: "alice", Accessor: "a1"}
	bob   = Owner{Client: "bob", Accessor: "b1"}
)

// session opens a session with the given capabilities. If that makes a channel,
// the server there answers.
func (s *stage) session(o Owner, capabilities string) *Session {
	s.t.Helper()
	before := len(s.fakes())
	initialize := in(s.t, fmt.Sprintf(initializeOf, capabilities))
	type opened struct {
		session *Session
		call    *Call
		err     error
	}
	done := make(chan opened, 1)
	go func() {
		session, call, err := s.Initialize(context.Background(), o, initialize)
		done <- opened{session, call, err}
	}()
	select {
	case got := <-done: // an old channel, or one whose handshake is on its way
		return s.initialized(before, got.session, got.call, got.err)
	case <-time.After(10 * time.Second):
		s.t.Fatal("no session")
		return nil
	}
}

func (s *stage) initialized(before int, session *Session, call *Call, err error) *Session {
	s.t.Helper()
	require.NoError(s.t, err)
	if fakes := s.fakes(); len(fakes) > before {
		f := fakes[before]
		f.r.Message([]byte(`{"jsonrpc":"2.0","id":` + idIn(s.t, s.got(f)) + `,"result":{"serverInfo":{"n":1.10}}}`))
	}
	item := s.next(call)
	require.Equal(s.t, `{"jsonrpc":"2.0","id":0,"result":{"serverInfo":{"n":1.10}}}`, string(item.Message))
	require.True(s.t, item.Final)
	call.Close(false)
	return session
}

func (s *stage) call(session *Session, message string) *Call {
	s.t.Helper()
	c, err := session.Call(in(s.t, message))
	require.NoError(s.t, err)
	s.t.Cleanup(func() { c.Close(false) })
	return c
}

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

	f.r.Message([]byte(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":` + ids[1] + `,"progress":1.50}}`))
	f.r.Message([]byte(`{"jsonrpc":"2.0","id":` + ids[1] + `,"result":{"for":"b","n":1e400}}`))
	f.r.Message([]byte(`{"jsonrpc":"2.0","id":` + ids[0] + `,"result":{"for":"a"}}`))
	require.Equal(t, `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1.50}}`, string(s.next(b).Message))
	require.Equal(t, `{"jsonrpc":"2.0","id":1,"result":{"for":"b","n":1e400}}`, string(s.next(b).Message))
	require.Equal(t, `{"jsonrpc":"2.0","id":1,"result":{"for":"a"}}`, string(s.next(a).Message))
}

func TestAnIDInUseInTheSessionIsRefused(t *testing.T) {
	s := newStage(t, nil)
	session := s.session(alice, "{}")
	s.call(session, `{"jsonrpc":"2.0","id":"x","method":"ping"}`)
	_, err := session.Call(in(t, `{"jsonrpc":"2.0","id":"x","method":"ping"}`))
	require.ErrorIs(t, err, ErrDuplicate)
}

func TestOtherCapabilitiesGetAnotherChannel(t *testing.T) {
	s := newStage(t, nil)
	s.session(alice, "{}")
	s.session(alice, `{"sampling":{}}`)
	s.session(bob, "{}")
	require.Len(t, s.fakes(), 3)
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
	f.r.Message([]byte(`{"jsonrpc":"2.0","id":"q","method":"sampling/createMessage"}`))
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
	f.r.Message([]byte(`{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`))
	f.r.Message([]byte(`{"jsonrpc":"2.0","id":9,"method":"roots/list"}`))
	stream := session.Stream()
	require.Contains(t, string(s.next(stream).Message), "list_changed")
	stream.Close() // messages that it did not read wait
	stream = session.Stream()
	require.Contains(t, string(s.next(stream).Message), "roots/list")
	other := session.Stream()
	_, err := stream.Next(context.Background())
	require.ErrorIs(t, err, ErrClosed, "the newest stream counts")
	stream.Close()
	f.r.Message([]byte(`{"jsonrpc":"2.0","method":"notifications/prompts/list_changed"}`))
	require.Contains(t, string(s.next(other).Message), "prompts")
	other.Close()
}

func TestPingsAreAnsweredByTheBridge(t *testing.T) {
	s := newStage(t, nil)
	s.session(alice, "{}")
	f := s.fake(0)
	f.r.Message([]byte(`{"jsonrpc":"2.0","id":"p","method":"ping"}`))
	require.Equal(t, `{"jsonrpc":"2.0","id":"p","result":{}}`, s.got(f))
}

func TestACancellationNamesTheRequestOnTheChannel(t *testing.T) {
	s := newStage(t, nil)
	session, other := s.session(alice, "{}"), s.session(alice, "{}")
	f := s.fake(0)
	s.call(session, `{"jsonrpc":"2.0","id":"x","method":"tools/call","params":{"name":"a"}}`)
	id := idIn(t, s.got(f))
	cancel := `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"x","reason":"r"}}`
	require.NoError(t, other.Notify(in(t, cancel)), "not its request")
	require.NoError(t, session.Notify(in(t, cancel)))
	require.Equal(t, strings.Replace(cancel, `"x"`, id, 1), s.got(f))
	require.Empty(t, f.sent)
}

func TestTheServerIsToldOnceThatTheClientIsReady(t *testing.T) {
	s := newStage(t, nil)
	first, second := s.session(alice, "{}"), s.session(alice, "{}")
	ready := `{"jsonrpc":"2.0","method":"notifications/initialized"}`
	require.NoError(t, first.Notify(in(t, ready)))
	require.NoError(t, second.Notify(in(t, ready)))
	f := s.fake(0)
	require.Equal(t, ready, s.got(f))
	require.Empty(t, f.sent)
}

func TestARefusedHandshakeIsPassedOn(t *testing.T) {
	s := newStage(t, nil)
	session, call, err := s.Initialize(context.Background(), alice, in(t, fmt.Sprintf(initializeOf, "{}")))
	require.NoError(t, err)
	f := s.fake(0)
	f.r.Message([]byte(`{"jsonrpc":"2.0","id":` + idIn(t, s.got(f)) + `,"error":{"code":-32602,"message":"no"}}`))
	item := s.next(call)
	require.True(t, item.Failed && item.Final)
	require.Equal(t, -32602, item.Code)
	session.End()
	call.Close(false)
	require.True(t, f.closed())
}

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

func TestWhatIsKeptForASessionIsBounded(t *testing.T) {
	s := newStage(t, nil)
	session := s.session(alice, "{}")
	f := s.fake(0)
	large := fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/x","params":{"x":%q}}`, strings.Repeat("x", maxBacklogBytes/2))
	for range 5 {
		f.r.Message([]byte(large))
	}
	for i := range 2 * maxBacklog {
		f.r.Message(fmt.Appendf(nil, `{"jsonrpc":"2.0","method":"notifications/y","params":{"i":%d}}`, i))
	}
	stream := session.Stream()
	defer stream.Close()
	require.Equal(t, large, string(s.next(stream).Message))
	require.Contains(t, string(s.next(stream).Message), `"i":0`)
	for range maxBacklog - 2 {
		s.next(stream)
	}
	f.r.Message([]byte(`{"jsonrpc":"2.0","method":"notifications/z"}`))
	require.Contains(t, string(s.next(stream).Message), "notifications/z", "the stream is good")
}

func TestBackoffGrowsAndIsForgotten(t *testing.T) {
	b := make(backoff)
	now := time.Unix(1000, 0)
	for _, want := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
		b.failed("c", 0, now)
		require.Equal(t, want*time.Second, b.wait("c", now))
	}
	b.failed("c", settled, now)
	require.Equal(t, backoffMin, b.wait("c", now), "one that ran for long has not failed to start")
	require.Zero(t, b.wait("c", now.Add(time.Hour)))
	for i := range 3 * maxBackoffs {
		b.failed(fmt.Sprint(i), 0, now.Add(time.Duration(i)*time.Second))
	}
	require.LessOrEqual(t, len(b), maxBackoffs)
}

func TestARevokedTokenTakesItsSessionsWithIt(t *testing.T) {
	s := newStage(t, nil)
	session := s.session(alice, "{}")
	f := s.fake(0)
	rotated := Owner{Client: "alice", Accessor: "a2"}
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
	s.EndClient("alice")
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
	f.r.Message([]byte(`{"jsonrpc":"2.0","id":` + idIn(t, s.got(f)) + `,"result":{}}`))
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
	s.session(Owner{Client: "carol", Accessor: "c"}, "{}")
	require.True(t, s.fake(1).closed(), "the one unused for longest made room")
	require.Equal(t, 2, pool.Size())
}

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
	f.r.Message([]byte(`{"jsonrpc":"2.0","id":` + idIn(t, initialize) + `,"result":{"x":1}}`))
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

	f.r.Message([]byte(`{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"about alice"}}`))
	f.r.Message([]byte(`{"jsonrpc":"2.0","method":"notifications/vendor","params":{"data":"about alice"}}`))
	f.r.Message([]byte(`{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"file:///a"}}`))
	f.r.Message([]byte(`{"jsonrpc":"2.0","id":"q","method":"sampling/createMessage"}`))
	require.Contains(t, s.got(f), `"id":"q","error"`)
	f.r.Message([]byte(`{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`))
	require.Contains(t, string(s.next(stream).Message), "tools/list_changed", "the first that bob gets")
	require.Contains(t, string(s.next(c).Message), "resources/updated")

	// Nor does it let one act for another.
	require.NoError(t, a.Notify(in(t, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":`+bID+`}}`)))
	require.NoError(t, a.Notify(in(t, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"requestID":`+bID+`}}`)))
	cancelled := s.got(f)
	require.NotContains(t, cancelled, "requestID")
	require.NotContains(t, cancelled, bID+"}")
	for _, method := range []string{`"resources/unsubscribe","params":{"uri":"file:///a"}`, `"logging/setLevel","params":{"level":"debug"}`} {
		local := s.call(a, `{"jsonrpc":"2.0","id":7,"method":`+method+`}`)
		require.Equal(t, `{"jsonrpc":"2.0","id":7,"result":{}}`, string(s.next(local).Message))
	}
	require.NoError(t, a.Notify(in(t, `{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}`)))
	require.Empty(t, f.sent)
	s.EndClient("alice")
	require.False(t, f.closed())
}

const (
	listed   = `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`
	listenTo = `{"jsonrpc":"2.0","id":"l","method":"subscriptions/listen","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`
)

// stateless starts a request of the stateless era; the server answers the probe with
// answer, if it gets one.
func (s *stage) stateless(o Owner, message, answer string) (*Call, error) {
	s.t.Helper()
	type result struct {
		call *Call
		err  error
	}
	done := make(chan result, 1)
	before := len(s.fakes())
	request := in(s.t, message)
	go func() {
		c, err := s.Call(context.Background(), o, request)
		done <- result{c, err}
	}()
	if answer != "" {
		f := s.fake(before)
		probe := s.got(f)
		require.Contains(s.t, probe, `"method":"server/discover"`)
		f.r.Message([]byte(`{"jsonrpc":"2.0","id":` + idIn(s.t, probe) + `,` + answer + `}`))
	}
	got := <-done
	return got.call, got.err
}

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
			f.r.Message([]byte(`{"jsonrpc":"2.0","id":` + idIn(t, s.got(f)) + `,"result":{"second":true}}`))
			f.r.Message([]byte(`{"jsonrpc":"2.0","id":` + id + `,"result":{}}`))
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
	f.r.Message([]byte(fmt.Sprintf(note, secondID)))
	f.r.Message([]byte(fmt.Sprintf(note, firstID)))
	require.Equal(t, fmt.Sprintf(note, `"l"`), string(s.next(first).Message))
	require.Equal(t, fmt.Sprintf(note, `"l"`), string(s.next(second).Message))
	f.r.Message([]byte(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":` + firstID + `}}`))
	_, err = first.Next(context.Background())
	require.ErrorIs(t, err, ErrClosed, "the server ends a subscription")
	f.r.Message([]byte(`{"jsonrpc":"2.0","id":` + secondID + `,"result":{"_meta":{"io.modelcontextprotocol/subscriptionId":` + secondID + `}}}`))
	require.Equal(t, `{"jsonrpc":"2.0","id":"l","result":{"_meta":{"io.modelcontextprotocol/subscriptionId":"l"}}}`, string(s.next(second).Message))
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
		f.r.Message([]byte(garbage))
	}
	f.r.Message([]byte(`{"jsonrpc":"2.0","id":` + id + `,"result":{}}`))
	require.Equal(t, `{"jsonrpc":"2.0","id":1,"result":{}}`, string(s.next(c).Message))
}

func TestAQueueIsBounded(t *testing.T) {
	q := newQueue()
	n := 0
	for q.put(Item{Message: make([]byte, 1<<20)}) {
		n++
	}
	require.Equal(t, maxQueueBytes>>20, n, "megabytes")
	for range n {
		_, err := q.next(context.Background())
		require.NoError(t, err)
	}
	_, err := q.next(context.Background())
	require.ErrorIs(t, err, ErrSlow)

	q = newQueue()
	require.True(t, q.put(Item{Message: make([]byte, maxQueueBytes+1)}), "a single large message passes")
	n = 1
	for q.put(Item{}) {
		n++
	}
	require.LessOrEqual(t, n, maxQueueItems)
}
