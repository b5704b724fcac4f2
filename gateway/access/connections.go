package access

import (
	"context"
	"net"
	"net/http"
	"net/netip"
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
// protocol. Use [ConnContext] in the server.
func (c *Connections) Pace(listener net.Listener) net.Listener { return pacedListener{listener, c} }

type pacedListener struct {
	net.Listener
	connections *Connections
}

func (l pacedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	patience := l.connections.patience
	dropUnread(conn, 2*patience)
	l.connections.awaited.Add(1)
	return &pacedConn{Conn: conn, patience: patience, connections: l.connections}, nil
}

type connectionKey struct{}

// ConnContext is for the server's field of that name. It counts the connection for its source,
// which may have to be read first: so it belongs into the connection's goroutine, as in
// gateway/http1.
func ConnContext(ctx context.Context, conn net.Conn) context.Context {
	c := paced(conn)
	if c == nil {
		return ctx
	}
	if c.framing == nil { // else the first read counts it
		c.admit(conn)
	}
	return context.WithValue(ctx, connectionKey{}, c)
}

// connection returns the one that a request came on; nil if it is not one of ours.
func connection(ctx context.Context) *pacedConn {
	c, _ := ctx.Value(connectionKey{}).(*pacedConn)
	return c
}

// admission is the permission of a source on one of its connections.
type admission int

const (
	admitted admission = iota
	excess             // closed after one answer that says so
	rejected           // closed without an answer
)

// take counts a connection for its source, unless it is rejected.
func (c *Connections) take(conn *pacedConn, source netip.Prefix) admission {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.open[source]
	if conn.closed || n >= c.most+max(8, c.most/8) { // so many get an answer
		return rejected
	}
	c.open[source], conn.source = n+1, source
	if n >= c.most {
		return excess
	}
	return admitted
}

func (c *Connections) release(conn *pacedConn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if conn.closed || !conn.source.IsValid() {
		conn.closed = true
		return
	}
	conn.closed = true
	if c.open[conn.source]--; c.open[conn.source] <= 0 {
		delete(c.open, conn.source)
	}
}

// admit decides, once, whether the connection may be used, and closes it if it is rejected. Its
// outermost layer knows the source, and reads it first if it is in a proxy's header.
func (c *pacedConn) admit(outermost net.Conn) {
	if c.asked || c.connections.most <= 0 {
		return
	}
	c.asked = true
	source, ok := c.sourceOf(outermost)
	if !ok {
		return
	}
	c.admission = c.connections.take(c, source)
	if c.admission != admitted {
		c.connections.warnOf(source)
	}
	if c.admission == rejected {
		_ = c.Close()
	}
}

func (c *Connections) warnOf(source netip.Prefix) {
	c.warn.Do(func() {
		c.log.Warn("a source has as many connections as it may have, and further ones are refused; if it is a proxy, list it in trusted_proxies",
			"source", source.String(), "max_connections_per_source", c.most)
	})
}

// sourceOf returns the source that the connection counts for. A trusted proxy's own
// connection counts for none; the client for whom such a proxy connects counts.
func (c *pacedConn) sourceOf(outermost net.Conn) (netip.Prefix, bool) {
	address := outermost.RemoteAddr().String()
	remote, err := netip.ParseAddrPort(address)
	if err != nil {
		return netip.Prefix{}, false
	}
	addr := remote.Addr().Unmap().WithZone("")
	if address == c.RemoteAddr().String() && c.connections.trusts(addr) {
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
func (c *pacedConn) arrive() {
	if c.connections != nil && !c.arrived.Load() && c.arrived.CompareAndSwap(false, true) {
		c.connections.awaited.Add(-1)
	}
}

// Close ends the connection.
func (c *pacedConn) Close() error {
	if c.connections != nil {
		c.arrive()
		c.connections.release(c)
	}
	return c.Conn.Close()
}

// paced finds the connection below TLS and the PROXY protocol.
func paced(conn net.Conn) *pacedConn {
	for conn != nil {
		switch c := conn.(type) {
		case *pacedConn:
			return c
		case interface{ NetConn() net.Conn }: // TLS, the watched framing
			conn = c.NetConn()
		case interface{ Raw() net.Conn }: // the PROXY protocol
			conn = c.Raw()
		default:
			return nil
		}
	}
	return nil
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
		hangUp:     c.Conn != nil, // a stream's end is enough
	}
}
