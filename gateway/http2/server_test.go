package http2

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	xhttp2 "golang.org/x/net/http2"

	"vault-plugin-secrets-mcp/gateway/gatewaytest"
)

func echo(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Proto", r.Proto)
	w.Header().Set("Subject", r.TLS.ServerName)
	_, _ = io.Copy(w, r.Body)
}

func TestClientGetsTheProtocolThatItChooses(t *testing.T) {
	t.Parallel()
	s := newStage(t, echo, nil)
	for _, test := range []struct{ protocols, answer, proto string }{
		{"h2 http/1.1", "hello", "HTTP/2.0"}, {"http/1.1", "the other server", "HTTP/1.1"}, {"", "the other server", "HTTP/1.1"},
	} {
		response, err := s.client(strings.Fields(test.protocols)...).Post(s.url("/"), "text/plain", strings.NewReader("hello"))
		require.NoError(t, err)
		content, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, test.answer, string(content))
		require.Equal(t, test.proto, response.Proto)
		if response.ProtoMajor == 2 {
			require.Equal(t, "example.com", response.Header.Get("Subject"), "the handler knows of TLS")
		}
	}
}

// What clients do all day uses up no account.
func TestBusyClientIsNotSuspected(t *testing.T) {
	t.Parallel()
	s := newStage(t, echo, nil)
	client := s.client("h2")
	body := bytes.Repeat([]byte("x"), 8<<20)
	response, err := client.Post(s.url("/"), "text/plain", struct{ io.Reader }{bytes.NewReader(body)})
	require.NoError(t, err)
	content, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.True(t, bytes.Equal(body, content))

	wait := make(chan error, 50)
	for range cap(wait) {
		go func() {
			var err error
			for i := 0; i < 60 && err == nil; i++ {
				ctx, cancel := context.WithCancel(t.Context())
				request, _ := http.NewRequestWithContext(ctx, http.MethodPost, s.url("/"), struct{ io.Reader }{strings.NewReader(strings.Repeat("y", 100*i))})
				var response *http.Response
				if response, err = client.Do(request); err == nil {
					if i%20 > 0 { // else it breaks off
						_, err = io.Copy(io.Discard, response.Body)
					}
					cancel()
					_ = response.Body.Close()
				}
				cancel()
			}
			wait <- err
		}()
	}
	for range cap(wait) {
		require.NoError(t, <-wait)
	}
	require.Empty(t, s.told())
}

func TestContextEndsSoonAfterTheClientResetsItsStream(t *testing.T) {
	t.Parallel()
	began, ended := make(chan struct{}), make(chan time.Time)
	s := newStage(t, func(_ http.ResponseWriter, r *http.Request) {
		close(began)
		<-r.Context().Done()
		ended <- time.Now()
	}, nil)
	c := s.dial()
	require.NoError(t, c.Begin(1, http.MethodGet, "/"))
	<-began
	reset := time.Now()
	require.NoError(t, c.WriteRSTStream(1, xhttp2.ErrCodeCancel))
	require.Less(t, (<-ended).Sub(reset), 50*time.Millisecond)
}

// CVE-2023-45288 and HPACK bombs: a header list costs no more than its bound.
func TestHeadersAreBounded(t *testing.T) {
	t.Parallel()
	reached := func(http.ResponseWriter, *http.Request) { panic("a handler got it") }
	t.Run("one that is a little too long is refused", func(t *testing.T) {
		c := newStage(t, reached, nil).dial()
		require.NoError(t, c.Begin(1, http.MethodGet, "/", "one", strings.Repeat("x", 5<<10), "two", strings.Repeat("x", 5<<10)))
		require.Contains(t, c.Await("HEADERS 1"), ":status=431")
	})
	t.Run("one that has no end ends the connection", func(t *testing.T) {
		s := newStage(t, reached, nil)
		c := s.dial()
		require.NoError(t, c.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: c.Header(http.MethodGet, "/")}))
		n := c.UntilEnd(func(i int) error {
			return c.WriteContinuation(1, false, c.Encode("x", strings.Repeat("y", 3<<10)+strconv.Itoa(i)))
		})
		t.Logf("ended after %d frames", n)
	})
	t.Run("one that refers to a long field again and again is refused", func(t *testing.T) {
		c := newStage(t, reached, nil).dial()
		block := c.Header(http.MethodGet, "/", "long", strings.Repeat("x", 3900)) // the field is in the table now
		block = append(block, bytes.Repeat([]byte{0x80 | 62}, 12<<10)...)         // 48 MB, if they were all kept
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		require.NoError(t, c.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: block, EndHeaders: true, EndStream: true}))
		require.Contains(t, c.Await("HEADERS 1"), ":status=431")
		runtime.ReadMemStats(&after)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(4<<20))
	})
}

func TestTimeouts(t *testing.T) {
	t.Parallel()
	const short = 50 * time.Millisecond
	t.Run("a header that does not end ends the connection", func(t *testing.T) {
		t.Parallel()
		s := newStage(t, wait, func(base *http.Server) { base.ReadHeaderTimeout = 20 * short })
		for name, begin := range map[string]func(c *gatewaytest.HTTP2) error{
			"between two frames": func(c *gatewaytest.HTTP2) error {
				return c.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 3, BlockFragment: c.Header(http.MethodGet, "/")})
			},
			"within a frame": func(c *gatewaytest.HTTP2) error {
				_, err := c.Conn.Write([]byte{0, 0, 100, frameHeaders, flagEndHeaders, 0, 0, 0, 3, 0x82})
				return err
			},
		} {
			c := s.dial()
			require.NoError(t, c.Begin(1, http.MethodGet, "/"), name) // it is not idle
			require.NoError(t, begin(c), name)
			c.AwaitEnd()
		}
	})
	t.Run("a header that ends in time has no effect on what follows", func(t *testing.T) {
		t.Parallel()
		s := newStage(t, echo, func(base *http.Server) { base.ReadHeaderTimeout = 20 * short })
		c := s.dial()
		block := c.Header(http.MethodPost, "/")
		require.NoError(t, c.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: block[:5]}))
		<-time.After(short) // the rest of the header comes later
		require.NoError(t, c.WriteContinuation(1, true, block[5:]))
		<-time.After(21 * short)
		require.NoError(t, c.WriteData(1, true, []byte("late")))
		require.Contains(t, c.Await("DATA 1"), "late")
	})
	t.Run("a connection without a request ends", func(t *testing.T) {
		t.Parallel()
		c := newStage(t, wait, func(base *http.Server) { base.IdleTimeout = short }).dial()
		require.Contains(t, c.Await("GOAWAY"), "NO_ERROR")
		c.AwaitEnd()
	})
	t.Run("one with a request does not", func(t *testing.T) {
		t.Parallel()
		s := newStage(t, func(w http.ResponseWriter, _ *http.Request) {
			<-time.After(3 * short)
			_, _ = io.WriteString(w, "here")
		}, func(base *http.Server) { base.IdleTimeout, base.ReadTimeout = short, short })
		c := s.dial()
		require.NoError(t, c.Begin(1, http.MethodGet, "/"))
		require.Contains(t, c.Await("DATA 1"), "here")
	})
	t.Run("a body that does not come ends its request", func(t *testing.T) {
		t.Parallel()
		failed := make(chan error, 1)
		s := newStage(t, func(_ http.ResponseWriter, r *http.Request) {
			_, err := io.ReadAll(r.Body)
			failed <- err
		}, func(base *http.Server) { base.ReadTimeout = short })
		require.NoError(t, s.dial().Begin(1, http.MethodPost, "/"))
		require.ErrorIs(t, <-failed, os.ErrDeadlineExceeded)
	})
	t.Run("a client that does not begin is ended", func(t *testing.T) {
		t.Parallel()
		s := newStage(t, wait, func(base *http.Server) { base.ReadHeaderTimeout = 10 * short })
		_, err := io.ReadAll(gatewaytest.DialTLS(t, s.addr, s.trusted))
		require.NoError(t, err)
	})
}

func TestUnreadBodyIsBounded(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	s := newStage(t, func(http.ResponseWriter, *http.Request) { <-release }, nil)
	defer close(release)
	c := s.dial()
	require.Contains(t, c.Await("SETTINGS"), "INITIAL_WINDOW_SIZE=131072")
	require.NoError(t, c.Begin(1, http.MethodPost, "/"))
	for range streamWindow/maxFrame + 1 {
		require.NoError(t, c.WriteData(1, false, make([]byte, maxFrame)))
	}
	require.Contains(t, c.Await("RST_STREAM 1"), "FLOW_CONTROL_ERROR")
}

func TestDrainFinishesWhatIsInFlight(t *testing.T) {
	t.Parallel()
	finish := make(chan struct{})
	s := newStage(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			<-finish
		}
		_, _ = io.WriteString(w, "all of it")
	}, nil)
	busy, idle := s.dial(), s.dial()
	require.NoError(t, idle.Begin(1, http.MethodGet, "/"))
	idle.Await("DATA 1")
	require.NoError(t, busy.Begin(1, http.MethodGet, "/slow"))
	s.await("the slow request", func() bool { return s.running.Load() == 1 })
	over := make(chan error, 1)
	go func() { over <- s.server.Shutdown(context.Background()) }()
	require.Contains(t, idle.Await("GOAWAY"), "NO_ERROR")
	idle.AwaitEnd()
	require.Contains(t, busy.Await("GOAWAY"), "NO_ERROR")
	require.NoError(t, busy.Begin(3, http.MethodGet, "/"), "the client may have sent it before it knew")
	close(finish)
	require.Contains(t, busy.Await("DATA 1"), "all of it")
	require.NoError(t, <-over)
	busy.AwaitEnd()
	require.Zero(t, s.running.Load())
	_, err := s.client("h2").Get(s.url("/"))
	require.Error(t, err, "no connection is taken any more")
}

func TestPanicEndsItsStreamAlone(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/panic" {
			_, _ = w.Write(make([]byte, 100))
			panic(errors.New("no good"))
		}
		echo(w, r)
	}, nil)
	c := s.dial()
	require.NoError(t, c.Begin(1, http.MethodGet, "/panic"))
	require.Contains(t, c.Await("RST_STREAM 1"), "INTERNAL_ERROR")
	require.NoError(t, c.Begin(3, http.MethodPost, "/"))
	require.NoError(t, c.WriteData(3, true, []byte("still here")))
	require.Contains(t, c.Await("DATA 3"), "still here")
}

func TestTunnelsAreRefused(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }, nil)
	c := s.dial()
	require.NotContains(t, c.Await("SETTINGS"), "ENABLE_CONNECT_PROTOCOL")
	require.NoError(t, c.Begin(1, http.MethodConnect, "/", ":protocol", "websocket"))
	require.Contains(t, c.Await("RST_STREAM 1"), "PROTOCOL_ERROR")
	require.NoError(t, c.Begin(3, http.MethodOptions, "*"))
	require.NoError(t, c.WriteData(3, true, nil))
	require.Contains(t, c.Await("HEADERS 3"), ":status=200")
}
