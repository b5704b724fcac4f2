package syslog

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/dial"
)

const (
	// connectTimeout bounds dialling and the TLS handshake.
	connectTimeout = 5 * time.Second

	// unconfirmed is how long the other machine may fail to confirm sent bytes before the
	// connection counts as dead. Lines that were written in that time may be lost.
	unconfirmed = 5 * time.Second

	// writeTimeout is how long a server may read nothing.
	writeTimeout = 5 * time.Second

	// A server that does not want a connection says so soon after it was made: a balancer
	// without a server behind it closes it, and one that refuses the client's certificate
	// does so after the client's side of the handshake is over (TLS 1.3). Nothing is sent
	// before that has had its time, which is about as long as the handshake took.
	minSettling = 50 * time.Millisecond
	maxSettling = 300 * time.Millisecond

	// sendBuffer is the number of bytes that the system may buffer while a server reads
	// nothing. By default it would buffer megabytes, thousands of lines, before the gateway
	// noticed.
	sendBuffer = 256 << 10

	// sendPiece is how much is written at once, in bytes.
	sendPiece = 64 << 10
)

// dialer makes connections to the server.
type dialer struct {
	settings *config.Syslog
	files    dial.Certificates
	net      net.Dialer
	patience time.Duration // with a server that does not read
}

func newDialer(settings *config.Syslog) (*dialer, error) {
	d := &dialer{
		settings: settings,
		files:    dial.Certificates{Authorities: settings.CACertFile, Cert: settings.ClientCertFile, Key: settings.ClientKeyFile},
		net: net.Dialer{
			KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: unconfirmed, Interval: unconfirmed / 4, Count: 4},
			Control:         boundUnconfirmed,
		},
		patience: writeTimeout,
	}
	_, err := d.tls()
	return d, err
}

// tls returns the settings for TLS, with the files as they are now; nil without TLS.
func (d *dialer) tls() (*tls.Config, error) {
	if d.settings.SocketType != config.SocketTLS {
		return nil, nil //nolint:nilnil // there are none, and nothing is wrong
	}
	c, err := dial.TLS(d.files)
	if err != nil {
		return nil, err
	}
	if c.ServerName = d.settings.TLSServerName; c.ServerName == "" {
		c.ServerName, _, err = net.SplitHostPort(d.settings.Address)
	}
	return c, err
}

// connect makes a connection that the server has had the time to refuse.
func (d *dialer) connect(ctx context.Context) (*connection, error) {
	started := time.Now()
	raw, err := d.open(ctx)
	if err != nil {
		return nil, err
	}
	c := &connection{Conn: raw, patience: d.patience, dead: make(chan struct{}), gone: make(chan struct{})}
	if d.settings.SocketType == config.SocketUnixDatagram {
		return c, nil // nothing ever comes back
	}
	go c.listen()
	if d.settings.SocketType == config.SocketUnix {
		return c, nil
	}
	settling := time.NewTimer(min(max(2*time.Since(started), minSettling), maxSettling))
	defer settling.Stop()
	select {
	case <-settling.C:
		return c, nil
	case <-c.dead:
		return nil, fmt.Errorf("the server has refused the connection: %w", c.err)
	case <-ctx.Done():
		c.end(ErrClosed)
		return nil, ctx.Err()
	}
}

func (d *dialer) open(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	network := d.settings.SocketType
	if network == config.SocketTLS {
		network = "tcp"
	}
	conn, err := d.net.DialContext(ctx, network, d.settings.Address)
	if errors.Is(err, syscall.EPROTOTYPE) {
		return nil, fmt.Errorf("%w: the socket is of the other kind, so use the other socket_type, %q or %q", err, config.SocketUnix, config.SocketUnixDatagram)
	}
	if err != nil {
		return nil, err
	}
	if c, ok := conn.(*net.TCPConn); ok {
		_ = c.SetWriteBuffer(sendBuffer)
	}
	settings, err := d.tls()
	if err == nil && settings == nil {
		return conn, nil
	}
	if err == nil {
		secured := tls.Client(conn, settings)
		if err = secured.HandshakeContext(ctx); err == nil {
			return secured, nil
		}
	}
	_ = conn.Close()
	return nil, err
}

// connection is one to the server.
type connection struct {
	net.Conn
	patience time.Duration
	sending  sync.Mutex

	once sync.Once
	err  error         // why it has ended
	dead chan struct{} // closed when it has
	gone chan struct{} // closed when the client has taken notice
}

var (
	errPeer    = errors.New("the server has closed the connection")
	errStuck   = errors.New("the server does not read the lines that it is sent")
	errRenewed = errors.New("another connection was asked for")
)

// listen waits for the end of the connection. A syslog server sends nothing; if it does, the
// bytes are dropped.
func (c *connection) listen() {
	var dropped [512]byte
	for {
		if _, err := c.Read(dropped[:]); err != nil {
			c.end(fmt.Errorf("%w: %w", errPeer, err))
			return
		}
	}
}

// end closes the connection. The first reason counts.
func (c *connection) end(reason error) {
	c.once.Do(func() {
		c.err = reason
		close(c.dead)
		_ = c.Close()
	})
}

func (c *connection) ended() bool {
	select {
	case <-c.dead:
		return true
	default:
		return false
	}
}

// finish ends the connection after the message that is being sent.
func (c *connection) finish() {
	c.sending.Lock()
	defer c.sending.Unlock()
	c.end(errRenewed)
}

// send sends the batch's messages. After an error those that are left have not been sent, or
// not to their end.
func (c *connection) send(b *batch, f framing) error {
	c.sending.Lock()
	defer c.sending.Unlock()
	for from := b.start(); b.left() > 0; {
		if c.ended() {
			return c.err
		}
		to := min(len(b.text), from+sendPiece)
		if f == datagrams {
			to = b.ends[b.sent]
		}
		n, err := c.write(b.text[from:to])
		from += n
		b.advance(from)
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *connection) write(text []byte) (n int, err error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.patience)); err != nil {
		return 0, err
	}
	n, err = c.Write(text)
	var late net.Error
	if errors.As(err, &late) && late.Timeout() {
		err = errStuck
	}
	return n, err
}
