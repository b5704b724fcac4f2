package http1

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestLookoutEndsWhenNothingIsInFlight(t *testing.T) {
	t.Parallel()
	s := newStage(t, echo)
	require.Equal(t, "HTTP/1.1 200 OK", status(s.raw(get)))
	require.Eventually(t, func() bool {
		s.server.lookout.mu.Lock()
		defer s.server.lookout.mu.Unlock()
		return len(s.server.lookout.list) == 0
	}, time.Minute, 5*time.Millisecond)
}

// full is a connection whose client does not even take the word to go on.
type full struct {
	net.Conn
	writing, release chan struct{}
}

func (c *full) NetConn() net.Conn { return c.Conn }

func (c *full) Write(p []byte) (int, error) {
	if bytes.HasPrefix(p, []byte("HTTP/1.1 100")) {
		close(c.writing)
		<-c.release
	}
	return c.Conn.Write(p)
}

type fullListener struct {
	net.Listener
	writing, release chan struct{}
}

func (l *fullListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &full{conn, l.writing, l.release}, nil
}

// The lookout sees all connections, so none may hold it up.
func TestClientThatTakesNothingHoldsUpNobodyElse(t *testing.T) {
	t.Parallel()
	listener := &fullListener{listen(t), make(chan struct{}), make(chan struct{})}
	s := newStageOn(t, listener, echo)
	defer close(listener.release)
	_, err := io.WriteString(s.dial(), post("", "Expect: 100-continue", "Content-Length: 1"))
	require.NoError(t, err)
	<-listener.writing
	for range 20 { // by then the lookout has seen the first request several times
		require.Equal(t, "HTTP/1.1 200 OK", status(s.raw(get)))
		<-time.After(lookoutPeriod)
	}
}
