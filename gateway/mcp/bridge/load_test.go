package bridge

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
)

// busy is a server that answers every request, after a while that differs. What it has
// not answered when it is closed it never answers.
type busy struct {
	r      Receiver
	number int

	mu     sync.Mutex // of all that the receiver hears
	closed bool
	seen   int
}

func (b *busy) Send(m []byte) error {
	e, err := envelope.Parse(m)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return errors.New("closed")
	}
	b.seen++
	if e.Kind != envelope.Request {
		return nil
	}
	answer := fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"result":{"from":%d}}`, e.ID.Of(m), b.number)
	time.AfterFunc(time.Duration(b.seen%5)*time.Millisecond, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if !b.closed {
			b.r.Message(answer)
		}
	})
	return nil
}

func (b *busy) Close() {
	// The bridge may call this from within Message.
	go func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if !b.closed {
			b.closed = true
			b.r.Gone(nil)
		}
	}()
}

func TestNoRequestFailsWhileServersAreReplaced(t *testing.T) {
	const replacements, goroutines = 200, 20
	for name, request := range map[string]func(t *testing.T, b *Bridge, o Owner) func(id int) error{
		"in sessions":      inSession,
		"without sessions": withoutSession,
	} {
		t.Run(name, func(t *testing.T) {
			var dials, running atomic.Int32
			b := New(Options{
				Pool: NewPool(1, 1), Log: hclog.NewNullLogger(), Stateless: true,
				Dial: func(_ context.Context, _ Credentials, r Receiver) (Conn, error) {
					running.Add(1)
					return &busy{r: &counted{r, &running}, number: int(dials.Add(1))}, nil
				},
			})
			t.Cleanup(b.Close)
			c := newLeased()
			ask := request(t, b, with(alice, c))

			var asking sync.WaitGroup
			stopping, stop := context.WithCancel(context.Background())
			defer asking.Wait()
			defer stop()
			var asked, failed atomic.Int32
			for g := range goroutines {
				asking.Go(func() {
					for n := 0; ; n++ {
						select {
						case <-stopping.Done():
							return
						default:
						}
						asked.Add(1)
						if err := ask(g<<32 + n); err != nil && failed.Add(1) == 1 {
							t.Error(err)
						}
					}
				})
			}
			for i := range replacements {
				c = c.supersede()
				eventually(t, "the successor is there", func() bool { return dials.Load() == int32(i+2) && c.held() == 1 })
				require.Zero(t, failed.Load(), "after %d replacements", i)
			}
			stop()
			asking.Wait()
			t.Log(asked.Load(), "requests")
			require.Greater(t, asked.Load(), int32(replacements))
			require.Equal(t, 1, b.Pool.Size())
			eventually(t, "only the last server runs", func() bool { return running.Load() == 1 })
		})
	}
}

// counted counts servers that are not gone.
type counted struct {
	Receiver
	running *atomic.Int32
}

func (c *counted) Gone(err error) {
	c.running.Add(-1)
	c.Receiver.Gone(err)
}

// inSession returns a function that makes a call, a notification or a new session.
func inSession(t *testing.T, b *Bridge, o Owner) func(int) error {
	t.Helper()
	open := func() (*Session, error) {
		session, call, err := b.Initialize(context.Background(), o, in(t, fmt.Sprintf(initializeOf, "{}")))
		if err == nil {
			_, err = call.Next(context.Background())
			call.Close(false)
		}
		return session, err
	}
	first, err := open()
	require.NoError(t, err)
	return func(n int) error {
		session, err := b.Session(o, first.ID)
		if err != nil {
			return err
		}
		defer session.Release()
		switch n % 7 {
		case 0:
			return session.Notify(context.Background(), in(t, initialized))
		case 1:
			another, err := open()
			if err == nil {
				another.End()
			}
			return err
		case 2:
			return session.Notify(context.Background(), in(t, `{"jsonrpc":"2.0","method":"notifications/vendor"}`))
		case 3:
			return answered(session.Call(context.Background(), in(t, fmt.Sprintf(ofResource, fmt.Sprint(n), "subscribe", fmt.Sprint(n%3)))))
		}
		return answered(session.Call(context.Background(), in(t, fmt.Sprintf(slow, fmt.Sprint(n)))))
	}
}

// withoutSession returns a function that makes a request of the era without sessions.
func withoutSession(t *testing.T, b *Bridge, o Owner) func(int) error {
	t.Helper()
	require.NoError(t, answered(b.Call(context.Background(), o, in(t, listed))))
	return func(n int) error {
		if n%7 == 0 {
			return b.Notify(context.Background(), o, in(t, `{"jsonrpc":"2.0","method":"notifications/vendor"}`))
		}
		return answered(b.Call(context.Background(), o, in(t, listed)))
	}
}

// answered waits for the answer to the call.
func answered(c *Call, err error) error {
	if err != nil {
		return err
	}
	defer c.Close(false)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	item, err := c.Next(ctx)
	if err == nil && (!item.Final || item.Failed) {
		err = fmt.Errorf("got %s", item.Message)
	}
	return err
}
