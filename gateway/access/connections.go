package access

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/time/rate"

	"vault-plugin-secrets-mcp/gateway/config"
)

// Connections are those of MCP clients to the gateway. Their number is bounded for each
// source, and each write to one of them ends in time.
type Connections struct {
	most     int // of one source; 0: no bound
	patience time.Duration
	log      hclog.Logger
	warn     rate.Sometimes

	awaited atomic.Int64 // those that have not brought a request yet

	mu      sync.Mutex
	trusted proxies
	open    map[netip.Prefix]int
}

// NewConnections bounds connections as the settings say.
func NewConnections(listener config.Listener, limits config.Limits, log hclog.Logger) *Connections {
	return &Connections{
		most:     limits.MaxConnectionsPerSource,
		patience: writePatience,
		log:      log,
		warn:     rate.Sometimes{Interval: 10 * time.Second},
		trusted:  listener.TrustedProxies,
		open:     make(map[netip.Prefix]int),
	}
}

// Configure takes other trusted proxies, for connections to come.
func (c *Connections) Configure(listener config.Listener) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.trusted = listener.TrustedProxies
}

func (c *Connections) trusts(addr netip.Addr) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.trusted.contains(addr)
}

// Pace wraps the listener of the connections themselves, below TLS and the PROXY
// protocol.
func (c *Connections) Pace(listener net.Listener) net.Listener {
	return pacedListener{listener, c.patience}
}

type pacedListener struct {
	net.Listener
	patience time.Duration
}

func (l pacedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	dropUnread(conn, 2*l.patience)
	return &pacedConn{Conn: conn, patience: l.patience}, nil
}

// Watch wraps the listener that the server serves, above all others. Use
// [ConnContext] in the server.
func (c *Connections) Watch(listener net.Listener) net.Listener {
	return &framingListener{Listener: listener, connections: c}
}

// admission is the permission of a source on one of its connections.
type admission int

const (
	admitted admission = iota
	excess             // closed after one answer that says so
	rejected           // closed without an answer
)

// take counts a connection, unless it is rejected.
func (c *Connections) take(source netip.Prefix) admission {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.open[source]
	if n >= c.most+max(8, c.most/8) { // so many get an answer
		return rejected
	}
	c.open[source] = n + 1
	if n >= c.most {
		return excess
	}
	return admitted
}

func (c *Connections) release(source netip.Prefix) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open[source]--; c.open[source] <= 0 {
		delete(c.open, source)
	}
}

// admit returns an error if the connection may not be used. It runs with the first read,
// since the source may be in a proxy's header.
func (c *framedConn) admit() error {
	if c.connections == nil || c.connections.most <= 0 {
		return nil
	}
	source, ok := c.source()
	if !ok {
		return nil
	}
	c.admission = c.connections.take(source)
	if c.admission != rejected {
		c.counted.Store(&source)
	}
	if c.admission != admitted {
		c.connections.warn.Do(func() {
			c.connections.log.Warn("a source has as many connections as it may have, and further ones are refused; if it is a proxy, list it in trusted_proxies",
				"source", source.String(), "max_connections_per_source", c.connections.most)
		})
	}
	if c.admission == rejected {
		return io.EOF
	}
	return nil
}

// source returns the source that the connection counts for. A trusted proxy's own
// connection counts for none; the client for whom such a proxy connects counts.
func (c *framedConn) source() (netip.Prefix, bool) {
	remote, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return netip.Prefix{}, false
	}
	proxied := c.paced != nil && c.paced.RemoteAddr().String() != c.RemoteAddr().String()
	addr := remote.Addr().Unmap().WithZone("")
	if !proxied && c.connections.trusts(addr) {
		return netip.Prefix{}, false
	}
	return sourceRange(addr), true
}

// AwaitFirst waits until every connection has brought a request, or has ended; at most
// for so long. Once an [http.Server] shuts down it drops, without an answer, the
// requests that it reads on connections of which it had none before: whoever connected
// a moment earlier would lose one.
func (c *Connections) AwaitFirst(patience time.Duration) {
	for end := time.Now().Add(patience); c.Awaited() > 0 && time.Now().Before(end); {
		<-time.After(5 * time.Millisecond)
	}
}

// Awaited is the number of connections that have not brought a request yet.
func (c *Connections) Awaited() int64 { return c.awaited.Load() }

// arrive notes that the connection's first request has arrived, or never will.
func (c *framedConn) arrive() {
	if c.connections != nil && !c.arrived.Load() && c.arrived.CompareAndSwap(false, true) {
		c.connections.awaited.Add(-1)
	}
}

// Close ends the connection.
func (c *framedConn) Close() error {
	c.arrive()
	if source := c.counted.Swap(nil); source != nil {
		c.connections.release(*source)
	}
	return c.Conn.Close()
}

// paced finds the connection below TLS and the PROXY protocol.
func paced(conn net.Conn) *pacedConn {
	for conn != nil {
		switch c := conn.(type) {
		case *pacedConn:
			return c
		case interface{ NetConn() net.Conn }: // TLS
			conn = c.NetConn()
		case interface{ Raw() net.Conn }: // the PROXY protocol
			conn = c.Raw()
		default:
			return nil
		}
	}
	return nil
}

// serve notes the request whose answer is written from now on; nil: none in particular.
func (c *framedConn) serve(r *Request) {
	if c != nil && c.paced != nil {
		c.paced.serving.Store(r)
	}
}

// checkConnection refuses requests on a connection if its source has too many.
func checkConnection(ctx context.Context) *Refusal {
	c := connection(ctx)
	if c == nil {
		return nil
	}
	c.arrive()
	if c.admission == admitted {
		return nil
	}
	return &Refusal{
		Status:     http.StatusTooManyRequests,
		Reason:     ReasonTooManyConnections,
		Message:    "Too many connections are open from your address.",
		RetryAfter: retryAfter(),
		hangUp:     true,
	}
}

const (
	// writePatience is how long a client may take none of an answer's next bytes.
	writePatience = 30 * time.Second

	// writeSlice is how long a write waits before it looks whether it is still
	// worth waiting for: so long may an answer outlive its client's token.
	writeSlice = 500 * time.Millisecond

	// writePiece is the size to which writePatience applies. The gateway writes a
	// long answer in pieces.
	writePiece = 64 << 10
)

// pacedConn is a connection on which no write waits for ever: not for a client
// that does not read, and not for one whose token has ended. It is the innermost
// layer, where a write that was interrupted can go on; TLS could not go on.
type pacedConn struct {
	net.Conn
	patience time.Duration
	serving  atomic.Pointer[Request] // its answer is being written; nil: none in particular

	mu    sync.Mutex
	until time.Time // the deadline that its users set; zero: none
	armed time.Time // the deadline that the connection below has
}

// SetWriteDeadline is for the layers above. It ends a write that waits.
func (c *pacedConn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.until = t
	if t.IsZero() || !t.Before(c.armed) {
		return nil // write looks at it when its slice is over
	}
	c.armed = t
	return c.Conn.SetWriteDeadline(t)
}

// SetDeadline is for the layers above.
func (c *pacedConn) SetDeadline(t time.Time) error {
	if err := c.Conn.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

func (c *pacedConn) Write(p []byte) (written int, err error) {
	for {
		piece := p[written:min(len(p), written+writePiece)]
		n, err := c.writePiece(piece)
		written += n
		if err != nil {
			c.abandon()
			return written, err
		}
		if written == len(p) {
			return written, nil
		}
	}
}

// writePiece writes all of p, for as long as it is worth waiting.
func (c *pacedConn) writePiece(p []byte) (written int, err error) {
	began := time.Now()
	for now := began; ; now = time.Now() {
		if err := c.arm(now); err != nil {
			return written, err
		}
		n, err := c.Conn.Write(p[written:])
		written += n
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
			return written, err
		}
		if time.Since(began) >= c.patience || c.serving.Load().ended() {
			return written, err
		}
	}
}

// arm gives the connection below a deadline within the next slice. One that still
// holds for half of it is left alone, since most writes do not wait.
func (c *pacedConn) arm(now time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.until.IsZero() && !now.Before(c.until) {
		return os.ErrDeadlineExceeded
	}
	if c.armed.Sub(now) > writeSlice/2 {
		return nil
	}
	c.armed = now.Add(writeSlice)
	if !c.until.IsZero() && c.until.Before(c.armed) {
		c.armed = c.until
	}
	return c.Conn.SetWriteDeadline(c.armed)
}

// abandon has the kernel drop the bytes that the client has not taken. Otherwise it would
// keep them for a quarter of an hour after the connection's end.
func (c *pacedConn) abandon() {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
}

// ended reports whether the request has lost its grant.
func (r *Request) ended() bool { return r != nil && r.hold.Err() != nil }
