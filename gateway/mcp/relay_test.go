package mcp

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/gatewaytest"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/sse"
)

func TestLongAndShortEventsPassAsTheyAre(t *testing.T) {
	var sent strings.Builder
	for _, length := range []int{1, streamBuffer - 8, streamBuffer, 3 * streamBuffer, bodyBuffer, 100_000, 5} {
		sent.WriteString("data: " + strings.Repeat("x", length) + "\n\n")
	}
	up := gatewaytest.NewUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for event := range strings.SplitAfterSeq(sent.String(), "\n\n") {
			_, _ = io.WriteString(w, event)
			_ = http.NewResponseController(w).Flush()
		}
	})
	g := newGateway(t, testConfig(), registration(up))
	for _, method := range []string{"GET", "POST"} {
		body := ""
		if method == "POST" {
			body = ping
		}
		got := g.Ask(t, body, ":method", method)
		require.Equal(t, http.StatusOK, got.Status)
		require.Equal(t, sent.String(), got.Body)
	}
}

// parts counts how often it is read.
type parts struct {
	io.Reader
	reads int
}

func (p *parts) Read(b []byte) (int, error) {
	p.reads++
	return p.Reader.Read(b)
}

func TestALongEventIsReadInFewParts(t *testing.T) {
	from := &parts{Reader: strings.NewReader(strings.Repeat("x", 64<<10))}
	w := httptest.NewRecorder()
	s := sse.NewWriter(t.Context(), w, 0)
	require.NoError(t, relay(s, from, make([]byte, streamBuffer)))
	require.Equal(t, int64(64<<10), s.Close())
	require.Equal(t, 64<<10, w.Body.Len())
	require.Less(t, from.reads, 6)
}
