package gatewaytest

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// http2Patience is longer than a busy machine stops a process.
const http2Patience = 30 * time.Second

// HTTP2 is a client that writes frames as it likes, valid or not. It records the server's frames.
type HTTP2 struct {
	*http2.Framer
	Conn  net.Conn
	Ended chan struct{} // closed when the server has ended the connection

	t       testing.TB
	encoded bytes.Buffer
	encoder *hpack.Encoder
	frames  chan string
}

// TLS returns the configurations of a server that offers HTTP/2, and of its clients.
func TLS(t testing.TB) (server, client *tls.Config) {
	t.Helper()
	pair := httptest.NewUnstartedServer(nil)
	pair.StartTLS() // for its certificate
	defer pair.Close()
	client = pair.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	client.ServerName = "example.com"
	server = &tls.Config{Certificates: pair.TLS.Certificates, NextProtos: []string{"h2", "http/1.1"}, MinVersion: tls.VersionTLS12}
	return server, client
}

// DialTLS connects to a server that speaks HTTP/2, behind the header of a proxy if there is one.
func DialTLS(t testing.TB, address string, config *tls.Config, header ...string) net.Conn {
	t.Helper()
	config = config.Clone()
	config.NextProtos = []string{"h2"}
	below, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = below.Close() })
	require.NoError(t, below.SetDeadline(time.Now().Add(2*http2Patience)))
	_, err = io.WriteString(below, strings.Join(header, ""))
	require.NoError(t, err)
	conn := tls.Client(below, config)
	require.NoError(t, conn.HandshakeContext(t.Context()))
	require.Equal(t, "h2", conn.ConnectionState().NegotiatedProtocol)
	return conn
}

// DialHTTP2 connects, and begins with those settings.
func DialHTTP2(t testing.TB, address string, config *tls.Config, settings ...http2.Setting) *HTTP2 {
	t.Helper()
	return NewHTTP2(t, DialTLS(t, address, config), settings...)
}

// NewHTTP2 begins with those settings on a connection.
func NewHTTP2(t testing.TB, conn net.Conn, settings ...http2.Setting) *HTTP2 {
	t.Helper()
	c := &HTTP2{Framer: http2.NewFramer(conn, conn), Conn: conn, Ended: make(chan struct{}), t: t, frames: make(chan string, 1<<16)}
	c.encoder = hpack.NewEncoder(&c.encoded)
	c.AllowIllegalWrites = true
	_, err := io.WriteString(conn, http2.ClientPreface)
	require.NoError(t, err)
	require.NoError(t, c.WriteSettings(settings...))
	go c.read()
	return c
}

func (c *HTTP2) read() {
	defer close(c.Ended)
	decoder := hpack.NewDecoder(4096, nil)
	for {
		f, err := c.ReadFrame()
		if err != nil {
			return
		}
		select {
		case c.frames <- describe(f, decoder):
		default: // nobody looks at so many
		}
	}
}

// describe returns a frame as text, such as "HEADERS 1 :status=200" and "RST_STREAM 1 CANCEL".
func describe(f http2.Frame, decoder *hpack.Decoder) string {
	text := fmt.Sprintf("%s %d", f.Header().Type, f.Header().StreamID)
	switch f := f.(type) {
	case *http2.HeadersFrame:
		fields, _ := decoder.DecodeFull(f.HeaderBlockFragment())
		for _, field := range fields {
			text += " " + field.Name + "=" + field.Value
		}
	case *http2.DataFrame:
		text += " " + string(f.Data())
	case *http2.RSTStreamFrame:
		text += " " + f.ErrCode.String()
	case *http2.GoAwayFrame:
		text += " " + f.ErrCode.String()
	case *http2.SettingsFrame:
		_ = f.ForeachSetting(func(s http2.Setting) error {
			text += fmt.Sprintf(" %s=%d", s.ID, s.Val)
			return nil
		})
	}
	return text
}

// Await returns the server's next frame that begins with one of these, as text: its type, its
// stream, and its content.
func (c *HTTP2) Await(prefixes ...string) string {
	c.t.Helper()
	for {
		var text string
		select {
		case text = <-c.frames:
		case <-c.Ended:
			if len(c.frames) == 0 {
				c.t.Fatalf("the connection ended without %v", prefixes)
			}
			continue // the frames that have come before
		case <-time.After(http2Patience):
			c.t.Fatalf("no %v came", prefixes)
		}
		for _, prefix := range prefixes {
			if strings.HasPrefix(text, prefix) {
				return text
			}
		}
	}
}

// AwaitEnd waits until the server has ended the connection.
func (c *HTTP2) AwaitEnd() {
	c.t.Helper()
	select {
	case <-c.Ended:
	case <-time.After(http2Patience):
		c.t.Fatal("the connection is still open")
	}
}

// UntilEnd does something again and again until the connection has ended, and returns how often.
func (c *HTTP2) UntilEnd(do func(i int) error) int {
	c.t.Helper()
	for i := range 1 << 20 {
		select {
		case <-c.Ended:
			return i
		default:
		}
		if do(i) != nil {
			c.AwaitEnd()
			return i
		}
	}
	c.t.Fatal("the connection is still open")
	return 0
}

// Encode encodes the fields of a header: names and values.
func (c *HTTP2) Encode(fields ...string) []byte {
	c.encoded.Reset()
	for i := 0; i < len(fields); i += 2 {
		_ = c.encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return c.encoded.Bytes()
}

// Header encodes the header of a request to localhost, with further fields.
func (c *HTTP2) Header(method, path string, fields ...string) []byte {
	return c.Encode(append([]string{":method", method, ":scheme", "https", ":authority", "localhost", ":path", path}, fields...)...)
}

// Begin opens a stream. Unless the method is GET, a body is to follow.
func (c *HTTP2) Begin(stream uint32, method, path string, fields ...string) error {
	return c.WriteHeaders(http2.HeadersFrameParam{
		StreamID: stream, BlockFragment: c.Header(method, path, fields...), EndHeaders: true, EndStream: method == http.MethodGet,
	})
}
