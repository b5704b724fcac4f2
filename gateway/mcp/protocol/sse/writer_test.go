package sse

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
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

// wire keeps the writes to a client's connection, with their times.
type wire struct {
	deadlines
	began time.Time
	sent  []string
}

func (w *wire) Write(p []byte) (int, error) {
	w.sent = append(w.sent, time.Since(w.began).String()+" "+string(p))
	return len(p), nil
}

// A proxy may hold back the header of a stream until the stream's first byte.
func TestASilentStreamBeginsWithACommentSoon(t *testing.T) {
	for name, tc := range map[string]struct {
		keepAlive time.Duration
		event     time.Duration // when the first one comes; 0: none does
		want      []string
	}{
		"a silent stream":                     {15 * time.Second, 0, []string{"200ms :\n\n", "15.2s :\n\n", "30.2s :\n\n"}},
		"one whose first event comes at once": {15 * time.Second, 100 * time.Millisecond, []string{"100ms data: 1\n\n", "15.1s :\n\n", "30.1s :\n\n"}},
		"one that is kept alive more often":   {100 * time.Millisecond, 0, nil},
		"one without comments":                {0, 0, []string{}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &wire{began: time.Now()}
				s := NewWriter(t.Context(), w, tc.keepAlive)
				if tc.event > 0 {
					<-time.After(tc.event)
					_, err := s.Write([]byte("data: 1\n\n"))
					require.NoError(t, err)
				}
				<-time.After(40*time.Second - time.Since(w.began))
				s.Close()
				if tc.want == nil {
					require.Equal(t, "100ms :\n\n", w.sent[0])
					return
				}
				require.Equal(t, tc.want, append([]string{}, w.sent...))
			})
		})
	}
}
