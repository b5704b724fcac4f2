package http1

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDrainAnswersWhatHasArrived(t *testing.T) {
	t.Parallel()
	running, finish := make(chan struct{}), make(chan struct{})
	s := newStage(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/mcp" {
			running <- struct{}{}
			<-finish
		}
		echo(w, r)
	}, func(s *Server) {
		s.IdleTimeout, s.ReadHeaderTimeout = time.Hour, time.Hour
	})
	idle, busy, silent := s.dial(), s.dial(), s.dial()
	_, err := io.WriteString(idle, strings.Replace(get, "close", "keep-alive", 1))
	require.NoError(t, err)
	fromIdle := bufio.NewReader(idle)
	answer(t, fromIdle, "GET")
	_, err = io.WriteString(busy, post("x")+post("pipelined"))
	require.NoError(t, err)
	<-running
	require.Eventually(t, func() bool {
		s.server.mu.Lock()
		defer s.server.mu.Unlock()
		return len(s.server.conns) == 3
	}, time.Minute, time.Millisecond)

	down := make(chan error, 1)
	go func() { down <- s.server.Shutdown(t.Context()) }()
	_, err = fromIdle.ReadByte()
	require.ErrorIs(t, err, io.EOF, "a connection that waits ends")
	require.ErrorIs(t, <-s.served, http.ErrServerClosed)
	_, err = net.Dial("tcp", s.addr)
	require.Error(t, err, "no connection is taken any more")
	_, err = silent.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF, "and one that has brought no request")
	close(finish)
	response, body := answer(t, bufio.NewReader(busy), "POST")
	require.True(t, response.Close)
	require.Equal(t, "x", body)
	require.NoError(t, <-down)
}

// A connection that waits is never ended over a request that has reached the machine.
func TestDrainDropsNoRequest(t *testing.T) {
	t.Parallel()
	for range 20 {
		s := newStage(t, echo)
		var clients, ready sync.WaitGroup
		var draining atomic.Bool
		ready.Add(8)
		for range 8 {
			conn := s.dial()
			clients.Go(func() {
				from := bufio.NewReader(conn)
				for i := 0; ; i++ {
					before := draining.Load()
					_, err := io.WriteString(conn, post("x"))
					var response *http.Response
					if err == nil {
						response, err = http.ReadResponse(from, nil)
					}
					if err != nil {
						assert.True(t, before, "a request from before the drain was dropped: %v", err)
						return
					}
					_, _ = io.Copy(io.Discard, response.Body)
					_ = response.Body.Close()
					if i == 0 {
						ready.Done() // it is accepted: the kernel drops those that are not
					}
					if response.Close {
						return
					}
				}
			})
		}
		ready.Wait()
		draining.Store(true)
		require.NoError(t, s.server.Shutdown(t.Context()))
		clients.Wait()
	}
}

// hidden has a request arrive just when the deadline for it has passed.
type hidden struct {
	stream
	c       *conn
	arrives string
}

func (h *hidden) Read(p []byte) (int, error) {
	if len(h.in) > 0 || h.arrives == "" {
		return h.stream.Read(p)
	}
	h.in, h.arrives = []byte(h.arrives), ""
	h.c.server.draining.Store(true)
	h.c.mu.Lock()
	defer h.c.mu.Unlock()
	h.c.until = longAgo
	return 0, os.ErrDeadlineExceeded
}

func TestDrainLooksOnceMoreBehindAPassedDeadline(t *testing.T) {
	t.Parallel()
	h := &hidden{stream: stream{in: []byte(post("first")), step: 1000}, arrives: post("second")}
	h.c = &conn{server: &Server{Handler: http.HandlerFunc(echo), MaxHeaderBytes: 32 << 10, ErrorLog: log.Default()}, net: h}
	h.c.serve()
	require.Contains(t, h.answered.String(), "second")
}

func TestCloseCancelsWhatIsInFlight(t *testing.T) {
	t.Parallel()
	running, ended := make(chan struct{}), make(chan error, 1)
	s := newStage(t, func(_ http.ResponseWriter, r *http.Request) {
		close(running)
		<-r.Context().Done()
		ended <- r.Context().Err()
	})
	_, err := io.WriteString(s.dial(), post("x"))
	require.NoError(t, err)
	<-running
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	require.ErrorIs(t, s.server.Shutdown(ctx), context.DeadlineExceeded)
	require.NoError(t, s.server.Close())
	require.ErrorIs(t, <-ended, context.Canceled)
}

func TestRequestThatBeginsWhenTheServerHasBeenClosedIsCancelled(t *testing.T) {
	t.Parallel()
	s := &Server{MaxHeaderBytes: 32 << 10, ErrorLog: log.Default()}
	s.closed.Store(true)
	ended := make(chan error, 1)
	s.Handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { ended <- r.Context().Err() })
	(&conn{server: s, net: &stream{in: []byte(post("x")), step: 1000}}).serve()
	require.ErrorIs(t, <-ended, context.Canceled)
}

func TestAcceptGoesOnAfterAFailureThatPasses(t *testing.T) {
	t.Parallel()
	s := newStageOn(t, &failing{Listener: listen(t)}, echo)
	require.Equal(t, "HTTP/1.1 200 OK", status(s.raw(get)))
	require.Contains(t, <-s.logged.c, "Accept error")
}

type failing struct {
	net.Listener
	failed bool
}

func (l *failing) Accept() (net.Conn, error) {
	if !l.failed {
		l.failed = true
		return nil, temporary{errors.New("no descriptor is left")}
	}
	return l.Listener.Accept()
}

type temporary struct{ error }

func (temporary) Timeout() bool   { return false }
func (temporary) Temporary() bool { return true }
