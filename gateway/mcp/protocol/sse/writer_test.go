package sse

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// deadlines is a client's connection that notes until when it may be written to.
type deadlines struct {
	http.ResponseWriter
	mu   sync.Mutex
	last time.Time
}

func (d *deadlines) SetWriteDeadline(deadline time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last = deadline
	return nil
}

func (d *deadlines) Write(p []byte) (int, error) { return len(p), nil }
func (d *deadlines) FlushError() error           { return nil }

func (d *deadlines) isOver() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.last.Equal(longAgo)
}

// The end of the context releases a write. It may come just before one, too.
func TestNoWriteIsWaitedForBeyondTheContext(t *testing.T) {
	d := &deadlines{}
	ctx, cancel := context.WithCancel(context.Background())
	s := NewWriter(ctx, d, 0)
	_, err := s.Write([]byte("a"))
	require.NoError(t, err)
	require.False(t, d.isOver())
	cancel()
	require.Eventually(t, d.isOver, 10*time.Second, time.Millisecond)
	_, _ = s.Write([]byte("b"))
	require.True(t, d.isOver(), "the second write gives the client no more time")
	s.Close()
}
