package bridge

import (
	"context"
	"errors"
	"sync"
	"time"

	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
)

// probeTimeout is how long a server may take to say which era it knows. One that
// says nothing to a question from before its time knows the older one.
const probeTimeout = 10 * time.Second

// era is what is known of a channel without sessions.
type era struct {
	mu    sync.Mutex
	begun bool

	done      chan struct{}
	once      sync.Once
	stateless bool
	err       error
}

func (e *era) begin() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	first := !e.begun
	e.begun = true
	return first
}

func (e *era) finish(stateless bool, err error) {
	e.once.Do(func() {
		e.stateless, e.err = stateless, err
		close(e.done)
	})
}

// Call sends a request of the era without sessions. Close the Call.
func (b *Bridge) Call(ctx context.Context, o Owner, in Incoming) (*Call, error) {
	p, err := b.statelessPeer(ctx, o)
	if err != nil {
		return nil, err
	}
	c, err := p.call(nil, in)
	if err != nil {
		p.release()
		return nil, err
	}
	return c, nil
}

// Notify sends a notification of the era without sessions.
func (b *Bridge) Notify(ctx context.Context, o Owner, in Incoming) error {
	if in.Envelope.Method == protocol.MethodCancelled {
		return nil // a request is cancelled by closing its stream
	}
	p, err := b.statelessPeer(ctx, o)
	if err != nil {
		return err
	}
	defer p.release()
	return p.send(in.Message)
}

// statelessPeer returns the client's channel without sessions, after making sure
// that the server knows that era: an older server might take a request for one
// of its own.
func (b *Bridge) statelessPeer(ctx context.Context, o Owner) (*peer, error) {
	b.mu.Lock()
	legacy := time.Now().Before(b.legacyUntil)
	b.mu.Unlock()
	if legacy || !b.Stateless {
		return nil, ErrNeedsSession
	}
	key := peerKey{client: o.Client}
	if b.Shared {
		key = peerKey{}
	}
	p, err := b.peer(ctx, key, o)
	if err != nil {
		return nil, err
	}
	if p.probe.begin() {
		go p.ask() //nolint:gosec // the answer is for all requests on the channel, not for this one
	}
	select {
	case <-p.probe.done:
	case <-ctx.Done():
		p.release()
		return nil, ctx.Err()
	}
	switch {
	case p.probe.err != nil:
		err = p.probe.err
	case !p.probe.stateless:
		err = ErrNeedsSession
	default:
		return p, nil
	}
	p.release()
	return nil, err
}

// ask finds out which era the server knows, as the specification says clients
// should.
//
// https://modelcontextprotocol.io/specification/2026-07-28/basic/transports/stdio#backward-compatibility
func (p *peer) ask() {
	c := &Call{peer: p, queue: newQueue()}
	if err := p.register(c); err != nil {
		p.probe.finish(false, err)
		return
	}
	defer p.forget(c)
	message := protocol.Request(idText(c.id), protocol.MethodDiscover, protocol.DiscoverParams(clientInfo))
	if p.send(message) != nil {
		return // the channel has ended, and the probe with it
	}
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	defer cancel()
	item, err := c.Next(ctx)
	for err == nil && !item.Final {
		item, err = c.Next(ctx)
	}
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		p.probe.finish(false, err)
		return
	}
	stateless := err == nil && knowsEra(item)
	p.probe.finish(stateless, nil)
	if !stateless {
		p.bridge.needsSessions(p, err == nil)
	}
}

// knowsEra reports whether the answer to the probe is that of a server that
// knows the era without sessions.
func knowsEra(item Item) bool {
	if !item.Failed {
		return true
	}
	switch item.Code {
	case protocol.CodeHeaderMismatch, protocol.CodeMissingCapability, protocol.CodeUnsupportedVersion:
		return true
	}
	return false
}

// needsSessions remembers that the server does not know the era without them,
// and ends the channel, which nobody can use. One that has not said so may have
// been slow, and is asked again sooner.
func (b *Bridge) needsSessions(p *peer, said bool) {
	remember := time.Minute
	if said {
		remember = time.Hour
	}
	b.mu.Lock()
	b.legacyUntil = time.Now().Add(remember)
	b.mu.Unlock()
	p.end(ErrNeedsSession)
}
