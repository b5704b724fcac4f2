package bridge

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWhatIsKeptForASessionIsBounded(t *testing.T) {
	s := newStage(t, nil)
	session := s.session(alice, "{}")
	f := s.fake(0)
	large := fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/x","params":{"x":%q}}`, strings.Repeat("x", maxBacklogBytes/2))
	for range 5 {
		f.says(large)
	}
	for i := range 2 * maxBacklog {
		f.says(fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/y","params":{"i":%d}}`, i))
	}
	stream := session.Stream()
	defer stream.Close()
	require.Equal(t, large, string(s.next(stream).Message))
	require.Contains(t, string(s.next(stream).Message), `"i":0`)
	for range maxBacklog - 2 {
		s.next(stream)
	}
	f.says(`{"jsonrpc":"2.0","method":"notifications/z"}`)
	require.Contains(t, string(s.next(stream).Message), "notifications/z", "the stream is good")
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
