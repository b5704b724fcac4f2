package mcp

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/gatewaytest"
)

func TestStreamsAreNotBuffered(t *testing.T) {
	events := make(chan string)
	up := gatewaytest.NewUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_ = http.NewResponseController(w).Flush()
		for {
			select {
			case event := <-events:
				_, _ = io.WriteString(w, event)
				_ = http.NewResponseController(w).Flush()
			case <-r.Context().Done():
				return
			}
		}
	})
	g := newGateway(t, testConfig(), registration(up))
	r, err := g.Do(t.Context(), "", ":method", "GET")
	require.NoError(t, err)
	defer r.Body.Close()
	reader := bufio.NewReader(r.Body)
	for _, line := range []string{"data: 1\n", ": ping\n", "\n", "data: half"} {
		events <- line
		got := make([]byte, len(line))
		_, err := io.ReadFull(reader, got)
		require.NoError(t, err)
		require.Equal(t, line, string(got))
	}
}

// openStream starts a stream that says one event and then nothing, and returns
// it with a channel that is closed when the server sees its end.
func openStream(t *testing.T, c *config.Config, first string, pairs ...string) (*gateway, *http.Response, <-chan struct{}) {
	t.Helper()
	gone := make(chan struct{})
	var once sync.Once
	up := gatewaytest.NewUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, first)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		once.Do(func() { close(gone) })
	})
	g := newGateway(t, c, registration(up))
	r, err := g.Do(t.Context(), "", append(pairs, ":method", "GET")...)
	require.NoError(t, err)
	t.Cleanup(func() { _ = r.Body.Close() })
	got := make([]byte, len(first))
	_, err = io.ReadFull(r.Body, got)
	require.NoError(t, err)
	return g, r, gone
}

func TestAClientThatGoesAwayEndsTheServersRequest(t *testing.T) {
	_, r, gone := openStream(t, testConfig(), "data: 1\n\n")
	require.NoError(t, r.Body.Close())
	gatewaytest.Within(t, "the server's request ends", gone)
}

func TestARevocationCutsTheStream(t *testing.T) {
	g, r, gone := openStream(t, testConfig(), "data: 1\n\n")
	g.cut("alice")
	gatewaytest.Within(t, "the server's request ends", gone)
	_, err := io.ReadAll(r.Body)
	require.Error(t, err, "it must not look like the stream's end")
	gatewaytest.Eventually(t, "the outcome", func() bool { return len(g.sink.all()) == 2 })
}

func TestADrainEndsIdleStreamsInOrder(t *testing.T) {
	g, r, gone := openStream(t, testConfig(), "data: 1\n\n")
	g.Drain()
	gatewaytest.Within(t, "the server's request ends", gone)
	rest, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	require.Regexp(t, `^retry: \d+\n\n$`, string(rest))
	again, err := g.Do(t.Context(), "", ":method", "GET")
	require.NoError(t, err)
	_, err = io.ReadAll(again.Body)
	require.NoError(t, err, "a stream that comes during the drain ends too")
	require.NoError(t, again.Body.Close())
}

func TestAnOldStreamEnds(t *testing.T) {
	c := testConfig()
	c.Limits.MaxStreamAge = 20 * time.Millisecond
	_, r, gone := openStream(t, c, "data: 1\n\n")
	gatewaytest.Within(t, "the server's request ends", gone)
	_, err := io.ReadAll(r.Body)
	require.NoError(t, err)
}

func TestASilentStreamIsKeptAlive(t *testing.T) {
	c := testConfig()
	c.Limits.KeepAlive = 5 * time.Millisecond
	_, r, _ := openStream(t, c, "data: 1\n\n")
	got := make([]byte, 6)
	_, err := io.ReadFull(r.Body, got)
	require.NoError(t, err)
	require.Equal(t, ":\n\n:\n\n", string(got))
}

func TestNoCommentIsPutIntoAnEvent(t *testing.T) {
	c := testConfig()
	c.Limits.KeepAlive = time.Millisecond
	proceed := make(chan struct{})
	up := gatewaytest.NewUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: {\"a\":\n")
		_ = http.NewResponseController(w).Flush()
		<-proceed
		_, _ = io.WriteString(w, "data: 1}\n\n")
	})
	g := newGateway(t, c, registration(up))
	r, err := g.Do(t.Context(), ping)
	require.NoError(t, err)
	reader := bufio.NewReader(r.Body)
	for line := ""; line != "data: {\"a\":\n"; {
		line, err = reader.ReadString('\n') // comments may come before the event
		require.NoError(t, err)
	}
	// Many ticks, all of which must pass without a comment.
	require.Never(t, func() bool { return false }, 30*time.Millisecond, time.Millisecond)
	close(proceed)
	rest, err := io.ReadAll(reader)
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(string(rest), "data: 1}\n\n"), string(rest))
	require.NoError(t, r.Body.Close())
}

func TestTheServersSlotsAreBounded(t *testing.T) {
	c := testConfig()
	c.Upstreams = map[string]config.Upstream{"up": {Timeout: 10 * time.Second, ConnectTimeout: 10 * time.Second, MaxConcurrent: 1}}
	g, r, gone := openStream(t, c, "data: 1\n\n")
	got := g.Ask(t, ping)
	require.Equal(t, http.StatusServiceUnavailable, got.Status)
	require.NotEmpty(t, got.Header.Get("Retry-After"))
	require.NoError(t, r.Body.Close())
	gatewaytest.Within(t, "the stream ends", gone)
	gatewaytest.Eventually(t, "the slot is free", func() bool {
		again, err := g.Do(t.Context(), "", ":method", "GET")
		require.NoError(t, err)
		require.NoError(t, again.Body.Close())
		return again.StatusCode == http.StatusOK
	})
}
