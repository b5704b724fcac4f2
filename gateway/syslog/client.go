package syslog

import (
	"context"
	"errors"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"

	"vault-plugin-secrets-mcp/gateway/backoff"
	"vault-plugin-secrets-mcp/gateway/config"
)

var (
	// ErrTooLong: the system takes no datagram of a message's length.
	ErrTooLong = errors.New("a message is too long for a datagram")
	// ErrClosed: the client was closed before all was sent.
	ErrClosed = errors.New("the connection to the syslog server was given up")
)

// healthyAfter is how long a connection lasts that counts as one that works.
const healthyAfter = 10 * time.Second

// Client keeps a connection to a syslog server. It connects by itself, from the start on and
// whenever a connection has ended. Close it.
type Client struct {
	log    hclog.Logger
	header header
	frame  framing
	dialer *dialer
	wait   backoff.Backoff

	ctx     context.Context //nolint:containedctx // that of the connections
	cancel  context.CancelFunc
	retry   chan struct{} // has the next attempt begin at once
	stopped chan struct{}

	mu      sync.Mutex
	conn    *connection   // nil: there is none
	changed chan struct{} // closed when there is one

	batch batch // of the one goroutine that sends
}

// Open returns a client, and an error if the settings cannot be used. A server that cannot
// be reached is not an error.
func Open(settings *config.Syslog, log hclog.Logger) (*Client, error) {
	c, err := newClient(settings, log)
	if err != nil {
		return nil, err
	}
	go c.run()
	return c, nil
}

// newClient returns one that does not run yet.
func newClient(settings *config.Syslog, log hclog.Logger) (*Client, error) {
	d, err := newDialer(settings)
	if err != nil {
		return nil, err
	}
	c := &Client{
		log:     log.With("address", settings.Address, "socket_type", settings.SocketType),
		header:  newHeader(settings),
		frame:   framingOf(settings.SocketType),
		dialer:  d,
		wait:    backoff.Backoff{Min: 100 * time.Millisecond, Max: 10 * time.Second},
		retry:   make(chan struct{}, 1),
		stopped: make(chan struct{}),
		changed: make(chan struct{}),
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c, nil
}

// Close ends the connection, and all waiting for one.
func (c *Client) Close() {
	c.cancel()
	<-c.stopped
}

// Up reports whether there is a connection.
func (c *Client) Up() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conn != nil
}

// Reconnect ends the connection and makes another one, with certificates as they are now. If
// there is none, the next attempt begins at once.
func (c *Client) Reconnect() {
	select {
	case c.retry <- struct{}{}:
	default:
	}
}

// Add adds a message to those that Flush sends. Only one goroutine at a time may call the
// two.
func (c *Client) Add(m *Message) { c.batch.add(c.frame, &c.header, m) }

// Flush sends the messages that were added. It returns when all of it is sent, however long
// that takes, or when the client is closed (ErrClosed). lost are the messages that were not
// sent.
func (c *Client) Flush() (lost int, err error) {
	defer c.batch.reset()
	for c.batch.left() > 0 {
		conn := c.await()
		if conn == nil {
			return lost + c.batch.left(), ErrClosed
		}
		switch problem := conn.send(&c.batch, c.frame); {
		case problem == nil:
		case isTooLong(problem):
			lost, err = lost+1, ErrTooLong
			c.batch.skip()
		default:
			conn.end(problem)
		}
	}
	return lost, err
}

// await returns the connection, once there is one; nil if the client is closed.
func (c *Client) await() *connection {
	for {
		c.mu.Lock()
		conn, changed := c.conn, c.changed
		c.mu.Unlock()
		if conn != nil && !conn.ended() {
			return conn
		}
		if conn != nil { // run is about to notice
			select {
			case <-c.ctx.Done():
				return nil
			case <-conn.gone:
			}
			continue
		}
		select {
		case <-c.ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// run connects, again and again.
func (c *Client) run() {
	defer close(c.stopped)
	failures := 0
	for c.ctx.Err() == nil {
		started := time.Now()
		err := c.keep()
		if c.ctx.Err() != nil {
			return
		}
		if err == nil { // asked to connect again
			failures = 0
			continue
		}
		if time.Since(started) > healthyAfter {
			failures = 0
		}
		failures++
		wait := c.wait.After(failures)
		c.log.Error("no connection to the syslog server", "error", err, "again_in", wait.Round(time.Millisecond).String())
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-c.retry:
		case <-c.ctx.Done():
		}
		timer.Stop()
	}
}

// keep makes a connection, and returns why it has ended: nil if it was to.
func (c *Client) keep() error {
	conn, err := c.dialer.connect(c.ctx)
	if err != nil {
		return err
	}
	c.log.Info("connected to the syslog server")
	c.mu.Lock()
	c.conn = conn
	close(c.changed)
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.conn, c.changed = nil, make(chan struct{})
		c.mu.Unlock()
		close(conn.gone)
	}()
	select {
	case <-conn.dead:
		return conn.err
	case <-c.ctx.Done():
		conn.end(ErrClosed)
		return ErrClosed
	case <-c.retry:
		conn.finish()
		return nil
	}
}

// isTooLong reports whether the kernel refuses a datagram for its length. Another
// attempt would fail in the same way.
func isTooLong(err error) bool {
	var sys syscall.Errno
	return errors.As(err, &sys) && errors.Is(sys, syscall.EMSGSIZE)
}
