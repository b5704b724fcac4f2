package http2

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	xhttp2 "golang.org/x/net/http2"

	"vault-plugin-secrets-mcp/gateway/gatewaytest"
)

// wait is a handler that lasts until its client has gone.
func wait(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// CVE-2023-44487: the client opens streams and resets them at once, so that none counts.
func TestStreamsThatAreResetAtOnceEndTheConnection(t *testing.T) {
	t.Parallel()
	for name, handle := range map[string]http.HandlerFunc{
		"that end with their stream": wait,
		"that take longer": func(_ http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
			<-time.After(50 * time.Millisecond)
		},
		"that answer at once": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "x") },
	} {
		t.Run("handlers "+name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, handle, nil)
			c := s.dial()
			n := c.UntilEnd(func(i int) error {
				if err := c.Begin(stream(i), http.MethodGet, "/"); err != nil {
					return err
				}
				return c.WriteRSTStream(stream(i), xhttp2.ErrCodeCancel)
			})
			t.Logf("ended after %d streams; %d handlers at once at most", n, s.most.Load())
			require.LessOrEqual(t, s.most.Load(), int32(MaxStreams))
			require.Contains(t, s.told(), "reset")
		})
	}
}

// The streams of others, who share the client's proxy, finish.
func TestStreamsInFlightFinishWhereOthersAreReset(t *testing.T) {
	t.Parallel()
	finish := make(chan struct{})
	s := newStage(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			<-finish
			_, _ = io.WriteString(w, "all of it")
			return
		}
		<-r.Context().Done()
	}, nil)
	c := s.dial()
	require.NoError(t, c.Begin(1, http.MethodGet, "/slow"))
	for i := range 2 * resetsAtOnce {
		require.NoError(t, c.Begin(stream(i+1), http.MethodGet, "/"))
		require.NoError(t, c.WriteRSTStream(stream(i+1), xhttp2.ErrCodeCancel))
	}
	require.Contains(t, c.Await("GOAWAY"), "NO_ERROR")
	close(finish)
	require.Contains(t, c.Await("DATA 1"), "all of it")
	c.AwaitEnd()
}

// CVE-2025-8671: the client has the server reset streams, by frames that are not allowed.
func TestStreamsWhoseResetIsProvokedEndTheConnection(t *testing.T) {
	t.Parallel()
	type provoke func(c *gatewaytest.HTTP2, stream uint32) error
	open := func(c *gatewaytest.HTTP2, stream uint32, fields ...string) error {
		return c.Begin(stream, http.MethodPost, "/", fields...)
	}
	for name, provoke := range map[string]provoke{
		"a window that is too large": func(c *gatewaytest.HTTP2, stream uint32) error {
			_ = open(c, stream)
			return c.WriteWindowUpdate(stream, 1<<31-1)
		},
		"a window that grows by nothing": func(c *gatewaytest.HTTP2, stream uint32) error {
			_ = open(c, stream)
			return c.WriteRawFrame(xhttp2.FrameWindowUpdate, 0, stream, make([]byte, 4))
		},
		"a header after the end": func(c *gatewaytest.HTTP2, stream uint32) error {
			_ = c.Begin(stream, http.MethodGet, "/")
			return c.Begin(stream, http.MethodGet, "/")
		},
		"a body after the end": func(c *gatewaytest.HTTP2, stream uint32) error {
			_ = c.Begin(stream, http.MethodGet, "/")
			return c.WriteData(stream, true, make([]byte, 10))
		},
		"a body longer than announced": func(c *gatewaytest.HTTP2, stream uint32) error {
			_ = open(c, stream, "content-length", "1")
			return c.WriteData(stream, false, make([]byte, 300))
		},
		"a stream that depends on itself": func(c *gatewaytest.HTTP2, stream uint32) error {
			_ = open(c, stream)
			return c.WritePriority(stream, xhttp2.PriorityParam{StreamDep: stream})
		},
		"trailers without an end": func(c *gatewaytest.HTTP2, stream uint32) error {
			_ = open(c, stream)
			return c.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: stream, EndHeaders: true})
		},
		"a header that is not valid": func(c *gatewaytest.HTTP2, stream uint32) error { return open(c, stream, "Upper", "case") },
		"a path that is not valid":   func(c *gatewaytest.HTTP2, stream uint32) error { return open(c, stream, ":path", "/twice") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, wait, nil)
			c, answer, n := s.dial(), "", 0
			for ; !strings.HasPrefix(answer, "GOAWAY"); n++ {
				require.Less(t, n, 2*resetsAtOnce, "the connection goes on")
				require.NoError(t, provoke(c, stream(n)))
				answer = c.Await("RST_STREAM", "GOAWAY")
			}
			require.Greater(t, n, resetsAtOnce)
			require.Contains(t, answer, "NO_ERROR")
			require.Contains(t, s.told(), "reset")
			c.AwaitEnd()
		})
		t.Run(name+", all at once", func(t *testing.T) {
			t.Parallel()
			s := newStage(t, wait, nil)
			c := s.dial()
			c.UntilEnd(func(i int) error { return provoke(c, stream(i)) })
			require.LessOrEqual(t, s.most.Load(), int32(MaxStreams))
		})
	}
}

// More streams than allowed are refused, and those who go on with it lose the connection.
func TestStreamsBeyondTheBoundAreRefused(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	s := newStage(t, func(http.ResponseWriter, *http.Request) { <-release }, nil)
	c := s.dial()
	require.Contains(t, c.Await("SETTINGS"), "MAX_CONCURRENT_STREAMS=100")
	require.NoError(t, c.WriteSettingsAck())
	for i := range MaxStreams + 1 {
		require.NoError(t, c.Begin(stream(i), http.MethodGet, "/"))
	}
	c.Await("RST_STREAM 201")
	s.await("as many handlers as streams", func() bool { return s.running.Load() == MaxStreams })
	last := MaxStreams + 1 + resetsAtOnce
	for i := MaxStreams + 1; i <= last; i++ {
		require.NoError(t, c.Begin(stream(i), http.MethodGet, "/"))
	}
	c.Await(fmt.Sprintf("RST_STREAM %d", stream(last)))
	require.NoError(t, c.WritePing(false, [8]byte{}))
	require.Contains(t, c.Await("GOAWAY"), "NO_ERROR")
	close(release)
	c.AwaitEnd()
	require.LessOrEqual(t, s.most.Load(), int32(MaxStreams))
}

// CVE-2019-9511 to 9518, and CVE-2023-45288 with empty pieces of a header: frames that cost the
// client little, whether it reads the server's answers to them or not.
func TestFramesThatBringNothingEndTheConnection(t *testing.T) {
	t.Parallel()
	begun := func(c *gatewaytest.HTTP2) { require.NoError(t, c.Begin(1, http.MethodPost, "/")) }
	for name, test := range map[string]struct {
		before func(c *gatewaytest.HTTP2)
		flood  func(c *gatewaytest.HTTP2, i int) error
	}{
		"SETTINGS": {nil, func(c *gatewaytest.HTTP2, _ int) error { return c.WriteSettings() }},
		"SETTINGS that change": {nil, func(c *gatewaytest.HTTP2, i int) error {
			return c.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: uint32(i)})
		}},
		"PING":            {nil, func(c *gatewaytest.HTTP2, _ int) error { return c.WritePing(false, [8]byte{}) }},
		"answers to PING": {nil, func(c *gatewaytest.HTTP2, _ int) error { return c.WritePing(true, [8]byte{}) }},
		"PRIORITY": {nil, func(c *gatewaytest.HTTP2, i int) error {
			return c.WritePriority(stream(i), xhttp2.PriorityParam{StreamDep: 0})
		}},
		"RST_STREAM of a stream":    {begun, func(c *gatewaytest.HTTP2, _ int) error { return c.WriteRSTStream(1, xhttp2.ErrCodeCancel) }},
		"WINDOW_UPDATE":             {nil, func(c *gatewaytest.HTTP2, _ int) error { return c.WriteWindowUpdate(0, 1) }},
		"WINDOW_UPDATE of a stream": {begun, func(c *gatewaytest.HTTP2, _ int) error { return c.WriteWindowUpdate(1, 1) }},
		"frames of an unknown type": {nil, func(c *gatewaytest.HTTP2, _ int) error { return c.WriteRawFrame(0xbe, 0, 0, nil) }},
		"empty DATA":                {begun, func(c *gatewaytest.HTTP2, _ int) error { return c.WriteData(1, false, nil) }},
		"padded DATA":               {begun, func(c *gatewaytest.HTTP2, _ int) error { return c.WriteDataPadded(1, false, nil, make([]byte, 100)) }},
		"DATA of single bytes":      {begun, func(c *gatewaytest.HTTP2, _ int) error { return c.WriteData(1, false, []byte("x")) }},
		"empty pieces of a header": {func(c *gatewaytest.HTTP2) {
			require.NoError(t, c.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: c.Header(http.MethodGet, "/")}))
		}, func(c *gatewaytest.HTTP2, _ int) error { return c.WriteContinuation(1, false, nil) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }, nil)
			c := s.dial()
			if test.before != nil {
				test.before(c)
			}
			n := c.UntilEnd(func(i int) error { return test.flood(c, i) })
			t.Logf("ended after %d frames", n)
			require.NotEmpty(t, s.told())
		})
	}
}

// CVE-2019-9511: the client has the server write its answer byte by byte.
func TestAnswerThatTheClientTakesByteByByteEndsTheConnection(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 1<<20)) }, nil)
	c := s.dial(xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 0})
	require.NoError(t, c.Begin(1, http.MethodGet, "/"))
	c.Await("HEADERS 1")
	c.UntilEnd(func(int) error { return c.WriteWindowUpdate(1, 1) })
	require.NotEmpty(t, s.told())
}

func TestClientIsToldOfItsFlood(t *testing.T) {
	t.Parallel()
	s := newStage(t, wait, nil)
	c := s.dial()
	c.Await("SETTINGS")
	answer := ""
	for range 10 * idleFrames {
		require.NoError(t, c.WritePing(false, [8]byte{}))
		// One after the other: what the server has not read would reset the connection.
		if answer = c.Await("PING", "GOAWAY"); strings.HasPrefix(answer, "GOAWAY") {
			break
		}
	}
	require.Contains(t, answer, "ENHANCE_YOUR_CALM")
	c.AwaitEnd()
}
