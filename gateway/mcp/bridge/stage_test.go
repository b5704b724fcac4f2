package bridge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
)

// fake is a server at the other end of a channel, played by the test.
type fake struct {
	r    Receiver
	sent chan string
	mu   sync.Mutex
	end  bool

	lingers bool // it is told to end, and does not until leave
	with    Credentials
	killed  bool
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

// says has the server send a message.
func (f *fake) says(message string) { f.r.Message([]byte(message)) }

func (f *fake) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.end && !f.lingers {
		go f.r.Gone(nil)
	}
	f.end = true
}

// Kill implements Killer.
func (f *fake) Kill() {
	f.mu.Lock()
	f.killed = true
	f.mu.Unlock()
	f.Close()
}

func (f *fake) wasKilled() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.killed
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
		Dial: func(_ context.Context, c Credentials, r Receiver) (Conn, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.dialErr != nil {
				return nil, s.dialErr
			}
			f := &fake{r: r, sent: make(chan string, 100), lingers: s.lingers, with: c}
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

// answer has the server answer the request that it gets next.
func (s *stage) answer(f *fake, with string) {
	s.t.Helper()
	f.says(`{"jsonrpc":"2.0","id":` + idIn(s.t, s.got(f)) + `,` + with + `}`)
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
	alice = Owner{Principal: grants.PrincipalOf("alice"), Accessor: "a1"}
	bob   = Owner{Principal: grants.PrincipalOf("bob"), Accessor: "b1"}
)

// session opens a session with the given capabilities. If that makes a channel,
// the server there answers.
func (s *stage) session(o Owner, capabilities string) *Session {
	s.t.Helper()
	before := len(s.fakes())
	session, call, err := s.Initialize(context.Background(), o, in(s.t, fmt.Sprintf(initializeOf, capabilities)))
	require.NoError(s.t, err)
	if fakes := s.fakes(); len(fakes) > before {
		s.answer(fakes[before], `"result":{"serverInfo":{"n":1.10}}`)
	}
	item := s.next(call)
	require.Equal(s.t, `{"jsonrpc":"2.0","id":0,"result":{"serverInfo":{"n":1.10}}}`, string(item.Message))
	require.True(s.t, item.Final)
	call.Close(false)
	return session
}

func (s *stage) call(session *Session, message string) *Call {
	s.t.Helper()
	c, err := session.Call(context.Background(), in(s.t, message))
	require.NoError(s.t, err)
	s.t.Cleanup(func() { c.Close(false) })
	return c
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
		f.says(`{"jsonrpc":"2.0","id":` + idIn(s.t, probe) + `,` + answer + `}`)
	}
	got := <-done
	return got.call, got.err
}

// initialize asks for a session with a version, and returns the client's answer.
func (s *stage) initialize(o Owner, version string) <-chan Item {
	s.t.Helper()
	message := in(s.t, `{"jsonrpc":"2.0","id":"h","method":"initialize","params":{"protocolVersion":"`+version+`","capabilities":{}}}`)
	answered := make(chan Item, 1)
	go func() {
		defer close(answered)
		_, call, err := s.Initialize(context.Background(), o, message)
		if err != nil {
			s.t.Error(err)
			return
		}
		defer call.Close(false)
		if item, err := call.Next(context.Background()); err == nil {
			answered <- item
		}
	}()
	return answered
}

const accepted = `"result":{"protocolVersion":"2025-11-25","serverInfo":{}}`
