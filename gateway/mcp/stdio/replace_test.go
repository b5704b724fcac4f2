package stdio

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/credentials"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/mcp/bridge"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
)

// password is a credential under a test's control.
type password struct {
	text              string
	next              *password
	cause             error
	superseded, ended chan struct{}
}

func newPassword(n int) *password {
	return &password{text: fmt.Sprint("password-", n), superseded: make(chan struct{}), ended: make(chan struct{})}
}

func (p *password) Superseded() <-chan struct{}   { return p.superseded }
func (p *password) Successor() bridge.Credentials { return p.next }
func (p *password) Ended() <-chan struct{}        { return p.ended }
func (p *password) Cause() error                  { return p.cause }
func (p *password) Hold() (func(), error)         { return func() {}, nil }

func (p *password) supersede(n int) *password {
	p.next = newPassword(n)
	close(p.superseded)
	return p.next
}

func (p *password) end(cause error) {
	p.cause = cause
	close(p.ended)
}

// bridged is a bridge to scripted servers that are started with a password.
func bridged(t *testing.T, mode string, first *password) (b *bridge.Bridge, session *bridge.Session, starts *atomic.Int32) {
	t.Helper()
	l, _ := launcher(t, func(s *config.Stdio) { s.StopTimeout = time.Minute })
	server := scriptedServer(t, mode)
	starts = &atomic.Int32{}
	b = bridge.New(bridge.Options{
		Pool: bridge.NewPool(1, 1), Log: hclog.NewNullLogger(),
		Dial: func(_ context.Context, c bridge.Credentials, r bridge.Receiver) (bridge.Conn, error) {
			values := valuesOf(server)
			values.Env = map[string]string{"PASSWORD": c.(*password).text}
			for name, value := range server.Env {
				values.Env[name] = value
			}
			starts.Add(1)
			return l.Start(server, values, r)
		},
	})
	t.Cleanup(b.Close)
	owner := alice
	owner.Credentials = first
	session, call, err := b.Initialize(t.Context(), owner, incoming(t, `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}`))
	require.NoError(t, err)
	_, err = call.Next(t.Context())
	require.NoError(t, err)
	call.Close(false)
	return b, session, starts
}

var alice = bridge.Owner{Principal: grants.PrincipalOf("alice"), Accessor: "a"}

func incoming(t *testing.T, message string) bridge.Incoming {
	t.Helper()
	e, err := envelope.Parse([]byte(message))
	require.NoError(t, err)
	return bridge.Incoming{Envelope: &e, Message: []byte(message)}
}

// TestNoRequestToAChildFailsWhileItIsReplaced, and each successor runs with its own
// password.
func TestNoRequestToAChildFailsWhileItIsReplaced(t *testing.T) {
	const replacements, goroutines = 200, 20
	credential := newPassword(0)
	b, session, starts := bridged(t, "", credential)
	ask := func(request bridge.Incoming) (string, error) {
		again, err := b.Session(alice, session.ID)
		if err != nil {
			return "", err
		}
		defer again.Release()
		call, err := again.Call(t.Context(), request)
		if err != nil {
			return "", err
		}
		defer call.Close(false)
		item, err := call.Next(t.Context())
		if err == nil && item.Failed {
			err = fmt.Errorf("got %s", item.Message)
		}
		return string(item.Message), err
	}
	var asking sync.WaitGroup
	var asked, failed atomic.Int32
	stop := make(chan struct{})
	for g := range goroutines {
		asking.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				case <-time.After(time.Duration(2*g+2) * time.Millisecond): // the machine has children to start
				}
				asked.Add(1)
				request := incoming(t, fmt.Sprintf(`{"jsonrpc":"2.0","id":"%d-%d","method":"tools/call","params":{"name":"pid"}}`, g, n))
				if _, err := ask(request); err != nil && failed.Add(1) == 1 {
					t.Error(err)
				}
			}
		})
	}
	environment := incoming(t, `{"jsonrpc":"2.0","id":"e","method":"tools/call","params":{"name":"environment"}}`)
	for n := 1; n <= replacements; n++ {
		credential = credential.supersede(n)
		require.Eventually(t, func() bool {
			answer, err := ask(environment)
			require.NoError(t, err)
			return strings.Contains(answer, fmt.Sprintf(`PASSWORD=password-%d\n`, n))
		}, time.Minute, 5*time.Millisecond, n)
		require.Zero(t, failed.Load(), "after %d replacements", n)
	}
	close(stop)
	asking.Wait()
	t.Log(asked.Load(), "requests")
	require.Equal(t, int32(replacements+1), starts.Load())
	require.Equal(t, 1, b.Pool.Size())
}

func TestAStubbornChildIsKilledWhenAccessIsLost(t *testing.T) {
	credential := newPassword(0)
	b, session, _ := bridged(t, "stubborn", credential)
	call, err := session.Call(context.Background(), incoming(t, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"pid"}}`))
	require.NoError(t, err)
	item, err := call.Next(t.Context())
	require.NoError(t, err)
	call.Close(false)
	var pid int
	_, err = fmt.Sscanf(strings.Split(string(item.Message), `"text":"`)[1], "%d", &pid)
	require.NoError(t, err)
	hangs, err := session.Call(context.Background(), incoming(t, `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"hang"}}`))
	require.NoError(t, err)
	defer hangs.Close(false)

	b.EndPrincipal(alice.Principal) // as the end of its token does
	require.NoError(t, syscall.Kill(pid, 0), "it has its time to end")
	began := time.Now()
	credential.end(credentials.ErrLost)
	_, err = hangs.Next(t.Context())
	require.Error(t, err)
	require.Eventually(t, func() bool { return !alive(pid) }, 10*time.Second, time.Millisecond)
	require.Less(t, time.Since(began), 500*time.Millisecond)
	require.Eventually(t, func() bool { return b.Pool.Size() == 0 }, 10*time.Second, time.Millisecond)
}

func TestNoChildStartsOnceTheGatewayHasEnded(t *testing.T) {
	l, _ := launcher(t, nil)
	server := scriptedServer(t, "")
	var starting sync.WaitGroup
	begun := make(chan struct{}, 8)
	for range cap(begun) {
		starting.Go(func() {
			begun <- struct{}{}
			r := newReceiver()
			p, err := l.Start(server, valuesOf(server), r)
			if err != nil {
				return
			}
			p.Close()
			if cause := <-r.gone; cause != nil {
				t.Log(cause)
			}
		})
	}
	<-begun
	l.Wait()
	_, err := l.Start(server, valuesOf(server), newReceiver())
	require.ErrorIs(t, err, errEnded)
	starting.Wait()
}
