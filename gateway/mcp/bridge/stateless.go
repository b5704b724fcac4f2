package bridge

import (
	"context"
	"errors"
	"sync"
	"time"

	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
)

// probeTimeout bounds the wait for the answer to the probe. A server that does not
// answer a request that it does not know is of the session era.
const probeTimeout = 10 * time.Second

// probe finds out whether the server of a channel knows the stateless era.
type probe struct {
	mu    sync.Mutex
	begun bool

	done      chan struct{}
	once      sync.Once
	stateless bool
	err       error
}

func (p *probe) begin() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	first := !p.begun
	p.begun = true
	return first
}

func (p *probe) finish(stateless bool, err error) {
	p.once.Do(func() {
		p.stateless, p.err = stateless, err
		close(p.done)
	})
}

// Call sends a request of the stateless era. Close the Call.
func (b *Bridge) Call(ctx context.Context, o Owner, in Incoming) (*Call, error) {
	c, err := b.call(ctx, o, in)
	for range 2 {
		if !errors.Is(err, ErrUnsent) || haveEnded(o.Credentials) {
			break
		}
		c, err = b.call(ctx, o, in) // over a channel with credentials that have not ended
	}
	return c, err
}

func (b *Bridge) call(ctx context.Context, o Owner, in Incoming) (*Call, error) {
	ch, err := b.statelessChannel(ctx, o)
	if err != nil {
		return nil, err
	}
	c, err := ch.call(nil, in)
	if err != nil {
		ch.release()
		return nil, err
	}
	return c, nil
}

// Notify sends a notification of the stateless era.
func (b *Bridge) Notify(ctx context.Context, o Owner, in Incoming) error {
	if in.Envelope.Method == protocol.MethodCancelled {
		return nil // to cancel a request, a client closes its stream
	}
	ch, err := b.statelessChannel(ctx, o)
	if err != nil {
		return err
	}
	defer ch.release()
	return ch.notify(in.Message)
}

// statelessChannel returns the client's channel without sessions. It makes sure first
// that the server knows the stateless era: an older server might misread a request.
func (b *Bridge) statelessChannel(ctx context.Context, o Owner) (*channel, error) {
	b.mu.Lock()
	legacy := time.Now().Before(b.sessionEraUntil)
	b.mu.Unlock()
	if legacy || !b.Stateless {
		return nil, ErrNeedsSession
	}
	key := channelKey{principal: o.Principal}
	if b.Shared {
		key = channelKey{}
	}
	ch, err := b.channel(ctx, key, o)
	if err != nil {
		return nil, err
	}
	if ch.probe.begin() {
		go ch.probeServer()
	}
	select {
	case <-ch.probe.done:
	case <-ctx.Done():
		ch.release()
		return nil, ctx.Err()
	}
	switch {
	case ch.probe.err != nil:
		err = unsent(ch.probe.err)
	case !ch.probe.stateless:
		err = ErrNeedsSession
	default:
		return ch, nil
	}
	ch.release()
	return nil, err
}

// probeServer asks the channel's server which era it knows.
func (ch *channel) probeServer() {
	first, err := ch.use()
	if err != nil {
		return // the channel has ended, and the probe with it
	}
	defer first.done()
	stateless, answered, err := first.probe()
	ch.probe.finish(stateless, err)
	if err == nil && !stateless {
		ch.bridge.needsSessions(ch, answered)
	}
}

// probe asks the server which era it knows, as the specification tells clients to.
//
// https://modelcontextprotocol.io/specification/2026-07-28/basic/transports/stdio#backward-compatibility
func (l *connection) probe() (stateless, answered bool, err error) {
	ctx, cancel := context.WithTimeout(l.ctx, probeTimeout)
	defer cancel()
	item, err := l.ask(ctx, func(id []byte) []byte {
		return protocol.Request(id, protocol.MethodDiscover, protocol.DiscoverParams(clientInfo))
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return false, false, nil
	}
	return err == nil && isStateless(item), err == nil, err
}

// isStateless reports whether the answer to the probe comes from a server that knows
// the stateless era.
func isStateless(item Item) bool {
	if !item.Failed {
		return true
	}
	switch item.Code {
	case protocol.CodeHeaderMismatch, protocol.CodeMissingCapability, protocol.CodeUnsupportedVersion:
		return true
	}
	return false
}

// needsSessions remembers that the server does not know the stateless era, and ends
// the channel, which is of no use. A server that has not answered may have been slow,
// so the bridge asks it again sooner.
func (b *Bridge) needsSessions(ch *channel, answered bool) {
	remember := time.Minute
	if answered {
		remember = time.Hour
	}
	b.mu.Lock()
	b.sessionEraUntil = time.Now().Add(remember)
	b.mu.Unlock()
	ch.end(ErrNeedsSession)
}
