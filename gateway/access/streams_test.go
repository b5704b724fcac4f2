package access

import (
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	xhttp2 "golang.org/x/net/http2"

	"vault-plugin-secrets-mcp/gateway/gatewaytest"
	"vault-plugin-secrets-mcp/gateway/http2"
)

// streams is a stage whose gate serves HTTP/2.
type streams struct {
	*stage
	address string
	trusted *tls.Config
}

func newStreams(t *testing.T, connections *Connections) *streams {
	t.Helper()
	s := &streams{stage: newStage(t, nil)}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s.address = listener.Addr().String()
	ours, trusted := gatewaytest.TLS(t)
	s.trusted = trusted
	server := http2.New(&http.Server{
		Handler: Streams(s.gate), ConnContext: ConnContext, ErrorLog: log.New(io.Discard, "", 0),
		ReadHeaderTimeout: time.Minute, ReadTimeout: time.Minute, IdleTimeout: time.Minute, MaxHeaderBytes: 8 << 10,
	})
	rest := server.Split(tls.NewListener(connections.Pace(listener), ours))
	go func() { _ = server.Serve() }()
	t.Cleanup(func() {
		_ = rest.Close()
		_ = server.Close()
	})
	return s
}

func (s *streams) dial(settings ...xhttp2.Setting) *gatewaytest.HTTP2 {
	s.t.Helper()
	return gatewaytest.DialHTTP2(s.t, s.address, s.trusted, settings...)
}

const path = "/servers/files/mcp"

var authorized = []string{"authorization", "Bearer " + goodToken, "content-type", "application/json"}

// post sends a request whole, with further fields.
func (s *streams) post(c *gatewaytest.HTTP2, stream uint32, body string, fields ...string) {
	s.t.Helper()
	require.NoError(s.t, c.Begin(stream, http.MethodPost, path, append(fields, authorized...)...))
	require.NoError(s.t, c.WriteData(stream, true, []byte(body)))
}

// closedWindow are the settings of a client that takes no byte of an answer's body.
var closedWindow = xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 0}

func TestStreamHasTheGateOfAConnection(t *testing.T) {
	t.Parallel()
	s := newStreams(t, testConnections(0))
	c := s.dial()
	s.post(c, 1, "hello")
	require.Contains(t, c.Await("HEADERS 1"), ":status=200")
	require.Contains(t, c.Await("DATA 1"), "hello")
	require.NoError(t, c.Begin(3, http.MethodGet, path))
	require.Contains(t, c.Await("HEADERS 3"), ":status=401")
	s.post(c, 5, strings.Repeat("x", 1001))
	require.Contains(t, c.Await("HEADERS 5"), ":status=413")
	require.NoError(t, c.Begin(7, http.MethodGet, "/servers/github/mcp", authorized...))
	require.Contains(t, c.Await("HEADERS 7"), ":status=403")
	text := s.text()
	for _, reason := range []string{"allowed", "no-token", "bad-request"} {
		require.Contains(t, text, `"reason":"`+reason+`"`)
	}
}

// A line of the audit log tells of each request that has got as far as the gate.
func TestStreamThatTwoProgramsCouldReadInTwoWaysIsRefused(t *testing.T) {
	t.Parallel()
	request := func(authority, path string, fields ...string) []string {
		pseudo := []string{":method", "POST", ":scheme", "https", ":path", path}
		if authority != "" {
			pseudo = append(pseudo, ":authority", authority)
		}
		return append(append(pseudo, fields...), authorized...)
	}
	for name, test := range map[string]struct {
		fields []string
		body   string
		answer string // in its first frame
		reason string // in the audit log; "": it does not get there; "perhaps": it may be too late
	}{
		"a good one":                      {request("localhost", path), "{}", ":status=200", "allowed"},
		"the same Host beside :authority": {request("localhost", path, "host", "LocalHost"), "{}", ":status=200", "allowed"},
		"Host alone":                      {request("", path, "host", "localhost"), "{}", ":status=200", "allowed"},
		"its length":                      {request("localhost", path, "content-length", "2"), "{}", ":status=200", "allowed"},
		"another Host beside :authority":  {request("localhost", path, "host", "127.0.0.1"), "{}", ":status=400", "bad-request"},
		"two Hosts":                       {request("localhost", path, "host", "localhost", "host", "localhost"), "{}", ":status=400", "bad-request"},
		"no host":                         {request("", path), "{}", ":status=400", "bad-request"},
		"a host that is not valid":        {request("local host", path), "{}", ":status=400", "bad-request"},
		"another service's host":          {request("example.com", path), "{}", ":status=403", "host-not-allowed"},
		"a URL for a path":                {request("localhost", "http://example.com"+path), "{}", ":status=400", "bad-request"},
		"two lengths":                     {request("localhost", path, "content-length", "2", "content-length", "3"), "{}", ":status=400", "bad-request"},
		"a length that is no number":      {request("localhost", path, "content-length", "+2"), "", ":status=400", "bad-request"},
		"an expectation":                  {request("localhost", path, "expect", "200-ok"), "{}", ":status=417", "bad-request"},
		"trailers to come":                {request("localhost", path, "trailer", "x"), "{}", ":status=400", "bad-request"},
		"two authorizations":              {request("localhost", path, "authorization", "Bearer x"), "{}", ":status=400", "bad-request"},
		"a body longer than its length":   {request("localhost", path, "content-length", "1"), "{}", "PROTOCOL_ERROR", "perhaps"},
		"two authorities":                 {request("localhost", path, ":authority", "localhost"), "{}", "PROTOCOL_ERROR", ""},
		"a user in the authority":         {request("me@localhost", path), "{}", "PROTOCOL_ERROR", ""},
		"a field of connections":          {request("localhost", path, "connection", "close"), "{}", ":status=400", ""},
		"another field of connections":    {request("localhost", path, "transfer-encoding", "chunked"), "{}", ":status=400", ""},
		"an upgrade":                      {request("localhost", path, "upgrade", "websocket"), "{}", ":status=400", ""},
		"a line within a value":           {request("localhost", path, "x", "a\r\nb: c"), "{}", "PROTOCOL_ERROR", ""},
		"a name with a colon":             {request("localhost", path, "a:b", "c"), "{}", "PROTOCOL_ERROR", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStreams(t, testConnections(0))
			c := s.dial()
			require.NoError(t, c.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: c.Encode(test.fields...), EndHeaders: true}))
			require.NoError(t, c.WriteData(1, true, []byte(test.body)))
			require.Contains(t, c.Await("HEADERS 1", "RST_STREAM 1", "GOAWAY"), test.answer)
			c.Conn.Close()
			switch test.reason {
			case "":
				require.Empty(t, s.text())
			case "perhaps":
			default:
				require.Contains(t, s.text(), `"reason":"`+test.reason+`"`)
			}
		})
	}
}

func TestTrailersOfAStreamAreDropped(t *testing.T) {
	t.Parallel()
	s := newStreams(t, testConnections(0))
	c := s.dial()
	require.NoError(t, c.Begin(1, http.MethodPost, path, authorized...))
	require.NoError(t, c.WriteData(1, false, []byte("hello")))
	require.NoError(t, c.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: c.Encode("authorization", "Bearer x"), EndHeaders: true, EndStream: true}))
	require.Contains(t, c.Await("DATA 1"), "hello")
}

func TestClientThatWaitsToContinueIsTold(t *testing.T) {
	t.Parallel()
	s := newStreams(t, testConnections(0))
	c := s.dial()
	require.NoError(t, c.Begin(1, http.MethodPost, path, append([]string{"expect", "100-continue"}, authorized...)...))
	require.Contains(t, c.Await("HEADERS 1"), ":status=100")
	require.NoError(t, c.WriteData(1, true, []byte("hello")))
	require.Contains(t, c.Await("DATA 1"), "hello")
}

func TestAnswerOnAStreamHasNoFieldOfConnections(t *testing.T) {
	t.Parallel()
	s := newStreams(t, testConnections(0))
	s.handle = func(w http.ResponseWriter, _ *http.Request) {
		for _, name := range []string{"Connection", "Keep-Alive", "Transfer-Encoding", "Upgrade", "Proxy-Connection", "Trailer"} {
			w.Header().Set(name, "x")
		}
		w.Header()["Split"] = []string{"a\r\nb: c"}
		w.Header().Set("Stays", "here")
		_, _ = io.WriteString(w, "x")
	}
	c := s.dial()
	s.post(c, 1, "")
	answer := c.Await("HEADERS 1")
	require.Contains(t, answer, "stays=here")
	for _, name := range []string{"connection", "keep-alive", "transfer-encoding", "upgrade", "trailer", "split"} {
		require.NotContains(t, answer, name)
	}
}

// A client that takes nothing of an answer holds its handler for as long as one that does not read.
func TestAnswerThatAStreamDoesNotTakeIsEnded(t *testing.T) {
	t.Parallel()
	for name, handle := range map[string]http.HandlerFunc{
		"a short one":   func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "x") },
		"a flushed one": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "x"); w.(http.Flusher).Flush() },
		"a long one":    func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 1<<20)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			connections := testConnections(8)
			s := newStreams(t, connections)
			s.handle = handle
			c := s.dial(closedWindow)
			s.post(c, 1, "")
			c.Await("HEADERS 1")
			require.Equal(t, 2, connections.count(), "the connection, and the stream")
			require.Contains(t, c.Await("RST_STREAM 1"), "INTERNAL_ERROR")
			s.vault.Await("the stream's end", func() bool { return connections.count() == 1 })
			require.NoError(t, c.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 1 << 20}))
			s.handle = nil
			s.post(c, 3, "hello")
			require.Contains(t, c.Await("DATA 3"), "hello", "others of the connection go on")
		})
	}
}

// Nobody can take a page's token away: it has none. What looks after the write runs on a timer, where
// a panic would end the gateway.
func TestPageThatAStreamDoesNotTakeIsEnded(t *testing.T) {
	t.Parallel()
	s := newStreams(t, testConnections(0))
	s.gate.options.Root = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 1<<20)) })
	c := s.dial(closedWindow)
	require.NoError(t, c.Begin(1, http.MethodGet, "/"))
	c.Await("HEADERS 1")
	require.Contains(t, c.Await("RST_STREAM 1"), "INTERNAL_ERROR")
	s.post(c, 3, "hello")
	require.Contains(t, c.Await("HEADERS 3"), ":status=200")
}

func (c *Connections) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, open := range c.open {
		n += open
	}
	return n
}

func TestStreamThatTakesItsAnswerSlowlyGetsAllOfIt(t *testing.T) {
	t.Parallel()
	const size = 4 * writePiece
	s := newStreams(t, testConnections(0))
	ended := make(chan error, 1)
	s.handle = func(w http.ResponseWriter, _ *http.Request) {
		_, err := w.Write(make([]byte, size))
		ended <- err
	}
	c := s.dial(closedWindow)
	s.post(c, 1, "")
	c.Await("HEADERS 1")
	for began := time.Now(); time.Since(began) < testPatience*3/2; {
		require.NoError(t, c.WriteWindowUpdate(1, size/20))
		require.NoError(t, c.WriteWindowUpdate(0, size/20))
		<-time.After(testPatience / 10)
	}
	require.NoError(t, c.WriteWindowUpdate(1, size))
	require.NoError(t, c.WriteWindowUpdate(0, size))
	require.NoError(t, <-ended)
}

// With a patience of an hour only the revocation can end the write.
func TestRevocationEndsAStreamThatTakesNothing(t *testing.T) {
	t.Parallel()
	connections := testConnections(0)
	connections.patience = time.Hour
	s := newStreams(t, connections)
	writing, ended := make(chan struct{}), make(chan error, 1)
	s.handle = func(w http.ResponseWriter, _ *http.Request) {
		close(writing)
		_, err := w.Write(make([]byte, 1<<20))
		ended <- err
	}
	c := s.dial(closedWindow)
	s.post(c, 1, "")
	<-writing
	s.vault.Revoke(goodToken)
	c.Await("RST_STREAM 1")
	require.Error(t, <-ended)
}

func TestRevocationEndsTheStreamsOfTheTokenAlone(t *testing.T) {
	t.Parallel()
	s := newStreams(t, testConnections(0))
	s.vault.AddToken(otherToken, "zed", map[string]any{"allowed_servers": []string{"files"}})
	ended := make(chan string, 2)
	release := make(chan struct{})
	s.handle = func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		select {
		case <-r.Context().Done():
			ended <- FromContext(r.Context()).Grant.Client
			panic(http.ErrAbortHandler)
		case <-release:
			_, _ = io.WriteString(w, "all of it")
		}
	}
	c := s.dial()
	s.post(c, 1, "")
	require.NoError(t, c.Begin(3, http.MethodGet, path, "authorization", "Bearer "+otherToken))
	for range 2 {
		c.Await("HEADERS 1", "HEADERS 3")
	}
	s.vault.Revoke(goodToken)
	require.Equal(t, "cursor", <-ended)
	c.Await("RST_STREAM 1")
	close(release)
	require.Contains(t, c.Await("DATA 3"), "all of it")
}

// A source has no more requests in flight over HTTP/2 than over HTTP/1.1.
func TestStreamsCountForTheirSource(t *testing.T) {
	t.Parallel()
	connections := testConnections(4)
	s := newStreams(t, connections)
	release := make(chan struct{})
	s.handle = func(http.ResponseWriter, *http.Request) { <-release }
	c := s.dial()
	stream := uint32(1)
	for ; stream < 7; stream += 2 {
		s.post(c, stream, "")
	}
	s.vault.Await("three requests", func() bool { return s.count() == 3 })
	require.Equal(t, 4, connections.count())
	s.post(c, stream, "")
	require.Contains(t, c.Await("HEADERS 7"), ":status=429")
	s.vault.Await("the end of the refused one", func() bool { return connections.count() == 4 })

	stalled := s.dial(closedWindow) // the excess is bounded as well
	for stream := range uint32(8) {
		s.post(stalled, 2*stream+1, "")
	}
	stalled.Await("RST_STREAM")
	require.LessOrEqual(t, connections.count(), 4+8)
	close(release)
	s.handle = nil
	s.vault.Await("the end of all", func() bool { return connections.count() == 2 })
	s.post(c, 9, "hello")
	require.Contains(t, c.Await("DATA 9"), "hello", "the connection is good for more")
	require.Contains(t, s.text(), `"reason":"`+ReasonTooManyConnections+`"`)
}

// net/http's own writer panics then, and takes the gateway with it.
func TestWriterOfAStreamOutlivesItsHandler(t *testing.T) {
	t.Parallel()
	s := newStreams(t, testConnections(0))
	kept := make(chan http.ResponseWriter, 1)
	s.handle = func(w http.ResponseWriter, _ *http.Request) { kept <- w }
	c := s.dial()
	s.post(c, 1, "")
	c.Await("HEADERS 1")
	w := <-kept
	s.handle = nil
	s.post(c, 3, "hello")
	c.Await("DATA 3")
	control := http.NewResponseController(w)
	_, err := w.Write([]byte("x"))
	require.ErrorIs(t, err, errStreamOver)
	require.ErrorIs(t, control.Flush(), errStreamOver)
	require.ErrorIs(t, control.SetWriteDeadline(time.Now()), errStreamOver)
	require.ErrorIs(t, control.SetReadDeadline(time.Now()), errStreamOver)
	w.WriteHeader(http.StatusTeapot)
}

func TestDeadlinesOfAHandlerHoldForItsStream(t *testing.T) {
	t.Parallel()
	s := newStreams(t, testConnections(0))
	read, written := make(chan error, 1), make(chan error, 1)
	s.handle = func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		_ = control.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		_, err := io.ReadAll(r.Body)
		read <- err
		_ = control.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
		_, err = w.Write(make([]byte, 1<<20))
		written <- err
	}
	c := s.dial(closedWindow)
	require.NoError(t, c.Begin(1, http.MethodPost, path, authorized...))
	require.ErrorIs(t, <-read, os.ErrDeadlineExceeded)
	require.ErrorIs(t, <-written, os.ErrDeadlineExceeded)
}

func TestDrainingGateSaysGoodbyeToTheConnection(t *testing.T) {
	t.Parallel()
	s := newStreams(t, testConnections(0))
	s.gate.Drain()
	c := s.dial()
	s.post(c, 1, "hello")
	answer := c.Await("DATA 1", "GOAWAY") + c.Await("DATA 1", "GOAWAY")
	require.Contains(t, answer, "hello")
	require.Contains(t, answer, "NO_ERROR")
	c.AwaitEnd()
}
