package direct

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// failingConn is a connection that takes a part of what is written, and no more.
type failingConn struct {
	net.Conn
	looked syscall.Conn
}

var errFull = errors.New("no buffer space available")

func (c failingConn) SyscallConn() (syscall.RawConn, error) { return c.looked.SyscallConn() }

func (c failingConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p[:min(len(p), 64<<10)])
	if err == nil && n < len(p) {
		err = errFull
	}
	return n, err
}

// TestAConnectionWhoseRequestCouldNotBeSentServesNoOther, though its answer is there: the server would
// take the next request for the rest of this one.
func TestAConnectionWhoseRequestCouldNotBeSentServesNoOther(t *testing.T) {
	p := newPeer(t, false, func(conn net.Conn) {
		_, _ = io.ReadFull(conn, make([]byte, 50))
		answerWith(conn, "", "early")
		_, _ = io.Copy(io.Discard, conn)
	})
	p.options.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return failingConn{conn, conn.(*net.TCPConn)}, nil
	}
	got, err := p.ask(t.Context(), strings.Repeat("m", 128<<10))
	require.NoError(t, err)
	require.Equal(t, "early", got)
	require.Zero(t, p.idle.count())
	got, err = p.ask(t.Context(), "short")
	require.NoError(t, err)
	require.Equal(t, "early", got)
	require.Equal(t, 1, p.idle.count())
}

// TestAWordBelowHTTPKeepsNobodyWaiting: the server renews its key, and reads nothing.
func TestAWordBelowHTTPKeepsNobodyWaiting(t *testing.T) {
	cut := errors.New("cut")
	for name, serving := range map[string]bool{"an idle connection": false, "a request that is cut": true} {
		t.Run(name, func(t *testing.T) {
			ours, theirs := net.Pipe()
			defer theirs.Close()
			s := newSocket(ours)
			s.ours = true
			if serving {
				ctx, cancel := context.WithCancelCause(t.Context())
				s.begin(ctx, time.Now())
				time.AfterFunc(watchAfter, func() { cancel(cut) })
			}
			began := time.Now()
			_, err := s.Write([]byte("a key update"))
			require.Error(t, err)
			require.Equal(t, !serving, errors.Is(err, os.ErrDeadlineExceeded), err)
			require.Less(t, time.Since(began), lastWord/2)
		})
	}
}

// deadlines notes the deadline of writes.
type deadlines struct {
	net.Conn
	write time.Time
}

func (d *deadlines) SetDeadline(t time.Time) error      { d.write = t; return nil }
func (d *deadlines) SetWriteDeadline(t time.Time) error { d.write = t; return nil }
func (d *deadlines) SetReadDeadline(time.Time) error    { return nil }
func (d *deadlines) Write(p []byte) (int, error)        { return len(p), nil }

// TestEachRequestBoundsItsWrites, whatever bound those of the one before have had last.
func TestEachRequestBoundsItsWrites(t *testing.T) {
	d := &deadlines{}
	s := newSocket(d)
	s.ours = true
	now := time.Now()
	s.begin(t.Context(), now)
	_, err := s.Write([]byte("a key update"))
	require.NoError(t, err)
	require.True(t, d.write.After(now.Add(watchAfter)))
	s.patience(time.Hour) // sets the deadline of reads
	require.True(t, s.free())
	s.begin(t.Context(), now.Add(watchAfter/2))
	require.False(t, d.write.After(now.Add(2*watchAfter)), "nobody waits for longer until a helper sends the rest")
}
