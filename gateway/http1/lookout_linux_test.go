package http1

import (
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
