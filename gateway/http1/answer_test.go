package http1

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const get = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

func TestAnswersAreFramedAsHTTPSays(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 100_000)
	write := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for body != "" {
				n := min(len(body), 3000)
				_, err := io.WriteString(w, body[:n])
				assert.NoError(t, err)
				body = body[n:]
			}
		}
	}
	const chunks, closes = "Transfer-Encoding: chunked\r\n", "Connection: close\r\n"
	for name, test := range map[string]struct {
		handler       http.HandlerFunc
		request, body string
		has, hasNot   []string
	}{
		"nothing":                         {func(http.ResponseWriter, *http.Request) {}, get, "", []string{"HTTP/1.1 200 OK\r\n", "Content-Length: 0\r\n", "Date: "}, []string{chunks}},
		"a short one has a length":        {write("short"), get, "short", []string{"Content-Length: 5\r\n"}, []string{chunks}},
		"a long one has chunks":           {write(long), get, long, []string{chunks}, []string{"Content-Length"}},
		"a long one to HTTP/1.0 has none": {write(long), "GET / HTTP/1.0\r\n\r\n", long, []string{closes}, []string{"chunked", "Content-Length"}},
		"HTTP/1.0 has no kept connection": {write("x"), "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "x", []string{closes}, []string{"keep-alive"}},
		"one to HEAD has no body":         {write("x"), strings.Replace(get, "GET", "HEAD", 1), "", []string{"200 OK"}, []string{chunks}},
		"a status that is not known":      {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(599) }, get, "", []string{"HTTP/1.1 599 \r\n"}, nil},
		"what is flushed has chunks": {func(w http.ResponseWriter, _ *http.Request) {
			write("x")(w, nil)
			w.(http.Flusher).Flush()
			write("y")(w, nil)
		}, get, "xy", []string{chunks}, nil},
		"no content": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1")
			w.WriteHeader(http.StatusNoContent)
			_, err := w.Write([]byte("x"))
			assert.ErrorIs(t, err, http.ErrBodyNotAllowed)
			_, err = w.Write(nil)
			assert.NoError(t, err)
		}, get, "", []string{"204 No Content"}, []string{"Content-Length", chunks}},
		"not modified": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) }, get, "", []string{"304 Not Modified"}, []string{"Content-Length", chunks}},
		"a length that is exceeded": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1")
			_, err := w.Write([]byte("xy"))
			assert.ErrorIs(t, err, http.ErrContentLength)
			write("x")(w, nil)
		}, get, "x", []string{"Content-Length: 1\r\n"}, nil},
		"framing that the handler sets": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["transfer-encoding"] = []string{"gzip"}
			w.Header()["content-length"] = []string{"7"}
			w.Header().Set("Trailer", "X")
			w.Header().Set("Keep-Alive", "x")
			write("x")(w, nil)
		}, get, "x", []string{"Content-Length: 1\r\n"}, []string{"ransfer-", ": 7", "railer", "eep-"}},
		"a length that is no number": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "-1")
			write("x")(w, nil)
		}, get, "x", []string{"Content-Length: 1\r\n"}, []string{"-1"}},
		"what comes after the first status": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusCreated)
			w.Header().Set("X-Late", "x")
			w.WriteHeader(http.StatusAccepted)
		}, get, "", []string{"201 Created"}, []string{"X-Late"}},
		"a type that nobody has set is not guessed": {write("<html>"), get, "<html>", nil, []string{"Content-Type"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			raw := newStage(t, test.handler).raw(test.request)
			method, _, _ := strings.Cut(test.request, " ")
			_, body := answer(t, bufio.NewReader(strings.NewReader(raw)), method)
			require.Equal(t, test.body, body)
			header, _, _ := strings.Cut(raw, "\r\n\r\n")
			for _, part := range test.has {
				require.Contains(t, header+"\r\n", part)
			}
			for _, part := range test.hasNot {
				require.NotContains(t, header, part)
			}
		})
	}
}

func TestNoHeaderOfAHandlerBreaksItsLine(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["X-A"] = []string{"a\r\nSet-Cookie: b", "c\x00d\ne\x7f", "\r\n\r\n", "kept"}
		w.Header()["X-B\r\nSet-Cookie"] = []string{"b"}
		w.Header()["X C"] = []string{"c"}
		w.Header()[""] = []string{"d"}
	})
	raw := s.raw(get)
	response, err := http.ReadResponse(bufio.NewReader(strings.NewReader(raw)), nil)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, []string{"kept"}, response.Header["X-A"])
	require.Empty(t, response.Cookies())
	require.Len(t, response.Header, 3, "%v", response.Header) // and Content-Length, Date
	require.NotContains(t, raw, "\x00")
}

func TestPanicIsContained(t *testing.T) {
	t.Parallel()
	begin := func(w http.ResponseWriter) {
		_, _ = io.WriteString(w, "begun")
		_ = http.NewResponseController(w).Flush()
	}
	s := newStage(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/early":
			_, _ = io.WriteString(w, "not sent")
			panic(http.ErrAbortHandler)
		case "/late":
			begin(w)
			panic("the reason")
		}
	})
	ask := func(path, version string) string {
		return fmt.Sprintf("GET %s HTTP/%s\r\nHost: a\r\n\r\n", path, version)
	}
	require.Empty(t, s.raw(ask("/early", "1.1")), "nothing that looks complete")
	raw := s.raw(ask("/late", "1.1"))
	require.Contains(t, raw, "begun")
	require.NotContains(t, raw, "0\r\n\r\n", "the end of the chunks")
	logged := <-s.logged.c
	require.True(t, strings.HasPrefix(logged, "http: panic serving 127.0.0.1:"), logged)
	require.Contains(t, logged, "the reason")

	conn := s.dial()
	_, err := io.WriteString(conn, ask("/late", "1.0"))
	require.NoError(t, err)
	_, err = io.ReadAll(conn)
	require.Error(t, err, "an answer that ends with its connection ends with a reset")
	require.Equal(t, "HTTP/1.1 200 OK", status(s.raw(get)))
}

// Whoever keeps a ResponseWriter has nothing of the connection's next answer.
func TestWriterIsOfNoUseOnceTheHandlerHasReturned(t *testing.T) {
	t.Parallel()
	kept := make(chan http.ResponseWriter, 1)
	s := newStage(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/mcp" {
			kept <- w
			return
		}
		late := <-kept
		_, err := late.Write([]byte("late"))
		assert.Error(t, err)
		control := http.NewResponseController(late)
		assert.Error(t, control.Flush())
		assert.Error(t, control.SetWriteDeadline(time.Unix(1, 0)))
		assert.Error(t, control.SetReadDeadline(time.Unix(1, 0)))
	})
	raw := s.raw(post("") + get)
	require.Equal(t, 2, strings.Count(raw, "HTTP/1.1 200 OK"))
	require.NotContains(t, raw, "late")
}

func TestWriteDeadlineOfAHandlerEndsWithItsRequest(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		if r.URL.Path == "/mcp" {
			assert.NoError(t, control.SetWriteDeadline(time.Now().Add(time.Minute)))
			return
		}
		assert.NoError(t, control.SetWriteDeadline(time.Unix(1, 0)))
		_, err := w.Write([]byte("x"))
		assert.NoError(t, err)
		assert.Error(t, control.Flush())
		assert.Error(t, r.Context().Err(), "the request is cancelled")
	})
	require.Equal(t, "HTTP/1.1 200 OK", status(s.raw(post("")+get)))
}

func TestReadDeadlineOfAHandlerEndsItsReads(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(w http.ResponseWriter, r *http.Request) {
		assert.NoError(t, http.NewResponseController(w).SetReadDeadline(time.Now().Add(20*time.Millisecond)))
		body, err := io.ReadAll(r.Body)
		assert.Equal(t, "begun", string(body))
		assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
	}, func(s *Server) { s.ReadTimeout = time.Hour })
	require.Contains(t, s.raw(post("begun", "Content-Length: 100")), "\r\nConnection: close\r\n")
}

func TestServerAsksForABodyThatIsHeldBack(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/mcp" {
			echo(w, r)
		}
	})
	const expect = "Expect: 100-Continue"
	conn := s.dial()
	from := bufio.NewReader(conn)
	_, err := io.WriteString(conn, post("", expect, "Content-Length: 4"))
	require.NoError(t, err)
	first, err := from.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "HTTP/1.1 100 Continue\r\n", first)
	_, err = from.ReadString('\n')
	require.NoError(t, err)
	_, err = io.WriteString(conn, "body")
	require.NoError(t, err)
	_, body := answer(t, from, "POST")
	require.Equal(t, "body", body)

	// A handler that does not want it: the client may send it or not, so the connection ends.
	_, err = io.WriteString(conn, strings.Replace(post("", expect, "Content-Length: 4"), "/mcp", "/", 1))
	require.NoError(t, err)
	response, _ := answer(t, from, "POST")
	require.True(t, response.Close)
	_, err = from.ReadByte()
	require.ErrorIs(t, err, io.EOF)

	raw := s.raw("POST /mcp HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx")
	require.NotContains(t, raw, "100 Continue", "HTTP/1.0 has no such answer")
}

func TestOptionsOfTheServerAreAnsweredWithoutTheHandler(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(http.ResponseWriter, *http.Request) { t.Error("the handler has run") })
	raw := s.raw("OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	require.Equal(t, "HTTP/1.1 200 OK", status(raw))
	require.Contains(t, raw, "Content-Length: 0\r\n")
}
