package bridge

import (
	"context"
	"crypto/sha256"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
)

// Conn is a channel to a server.
type Conn interface {
	// Send writes one message. It may be called from any goroutine, and must
	// not block for ever.
	Send(message []byte) error
	// Close ends the channel, and the server with it where it is a child. It
	// may be called more than once, and does not wait.
	Close()
}

// Receiver takes what comes over a channel. Its methods are called one at a
// time, and do not block.
type Receiver interface {
	// Message takes one message, and keeps nothing of it.
	Message(message []byte)
	// Gone tells that the channel has ended. It is called once, last.
	Gone(err error)
}

// Dial makes a channel. The receiver may be called before it returns.
type Dial func(ctx context.Context, r Receiver) (Conn, error)

// Options of a Bridge.
type Options struct {
	Dial   Dial
	Pool   *Pool
	Log    hclog.Logger
	Shared bool // all clients share one channel

	// Stateless: the server may know the era without sessions. It is asked.
	Stateless bool

	// HelloTimeout bounds the wait for the server's answer to the handshake: a
	// channel without one is of no use to anybody. 0: no bound.
	HelloTimeout time.Duration

	// IdleTimeout ends sessions that nobody has used for so long, and channels.
	IdleTimeout time.Duration
}

// Owner is who a request is from.
type Owner struct {
	Client   string // unchanging id
	Accessor string // of the token

	Keeper Keeper // nil: nobody watches over the token
}

// Keeper has a request's token watched beyond the request.
type Keeper interface {
	// Keep is called before the bridge holds something for the token. ended is called
	// if the token loses its access; release is, once the bridge holds nothing for it.
	Keep(ended func(cause error)) (release func(), err error)
}

// Bridge holds the channels to one registered server.
type Bridge struct {
	Options

	mu       sync.Mutex
	peers    map[peerKey]*peer
	sessions map[string]*Session
	clients  map[string]*client // those who have sessions or channels
	backoff  backoff
	closed   bool

	// legacyUntil: the server has shown that it needs sessions.
	legacyUntil time.Time
}

// peerKey says who shares a channel.
type peerKey struct {
	client    string            // "" where all do
	handshake [sha256.Size]byte // of the params of initialize; zero without sessions
}

// New returns a bridge that has no channel yet.
func New(o Options) *Bridge {
	return &Bridge{
		Options:  o,
		peers:    make(map[peerKey]*peer),
		sessions: make(map[string]*Session),
		clients:  make(map[string]*client),
		backoff:  make(backoff),
	}
}

// Close ends all channels.
func (b *Bridge) Close() {
	b.mu.Lock()
	b.closed = true
	peers := make([]*peer, 0, len(b.peers))
	for _, p := range b.peers {
		peers = append(peers, p)
	}
	b.mu.Unlock()
	for _, p := range peers {
		p.end(ErrClosed)
	}
}

// handshakeOf identifies what a client says at the handshake.
func handshakeOf(e *envelope.Envelope, message []byte) [sha256.Size]byte {
	if e.Params.None() {
		return sha256.Sum256(nil)
	}
	return sha256.Sum256(e.Params.Of(message))
}

// peer returns the channel of that key, and makes one if there is none. It is in
// use until it is released.
func (b *Bridge) peer(ctx context.Context, key peerKey, o Owner) (*peer, error) {
	p, err := b.find(ctx, key, o)
	if err != nil {
		return nil, err
	}
	select {
	case <-p.started:
		if p.startErr != nil {
			p.release()
			return nil, p.startErr
		}
		return p, nil
	case <-ctx.Done():
		p.release()
		return nil, ctx.Err()
	}
}

// find returns the channel of that key, perhaps still being made.
func (b *Bridge) find(ctx context.Context, key peerKey, o Owner) (*peer, error) {
	if p, err := b.existing(key, o); p != nil || err != nil {
		return p, err
	}
	// Taking a slot may end another channel, which takes the bridge's lock.
	free, err := b.Pool.take(ctx, key.client)
	if err != nil {
		return nil, err
	}
	p, err := b.open(key, o, free)
	if err != nil {
		free.release()
		return nil, err
	}
	if p.slot != free { // somebody was faster
		free.release()
	}
	return p, nil
}

func (b *Bridge) existing(key peerKey, o Owner) (*peer, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.usable(key, o)
}

// open makes the channel of that key, unless somebody has made it meanwhile.
func (b *Bridge) open(key peerKey, o Owner, free *slot) (*peer, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p, err := b.usable(key, o); p != nil || err != nil {
		return p, err
	}
	p := newPeer(b, key, free)
	p.acquire()
	if err := b.lend(p, o); err != nil {
		return nil, err
	}
	b.peers[key] = p
	free.use(p)
	go p.start()
	return p, nil
}

// usable returns the channel of that key, in use; nil if one may be made. b.mu
// is held.
func (b *Bridge) usable(key peerKey, o Owner) (*peer, error) {
	if b.closed {
		return nil, ErrClosed
	}
	if p := b.peers[key]; p != nil {
		if p.acquire() {
			return p, b.lend(p, o)
		}
		p.release() // it is about to be removed
	}
	if wait := b.backoff.wait(key.client, time.Now()); wait > 0 {
		return nil, &BackoffError{Wait: wait}
	}
	return nil, nil
}

// lend notes that the owner uses the channel, which is the client's unless it is
// shared. It must be in use, and is released if there is an error. b.mu is held.
func (b *Bridge) lend(p *peer, o Owner) error {
	if b.Shared {
		return nil
	}
	c, err := b.watch(o)
	if err != nil {
		p.release()
		return err
	}
	c.peers[p] = struct{}{}
	p.accessors.add(o.Accessor)
	return nil
}

// gone removes a channel that has ended, with the sessions on it. failed tells
// that it did so by itself, ran after its start.
func (b *Bridge) gone(p *peer, failed bool, ran time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.peers[p.key] == p {
		delete(b.peers, p.key)
	}
	for _, s := range p.sessions() {
		b.dropSession(s)
		b.tidy(s.client)
	}
	if c := b.clients[p.key.client]; c != nil {
		delete(c.peers, p)
		b.tidy(p.key.client)
	}
	if failed {
		b.backoff.failed(p.key.client, ran, time.Now())
	}
}

// set is a small set of strings. Those of a bridge are guarded by its lock.
type set map[string]struct{}

func (s set) add(v string) { s[v] = struct{}{} }

// remove reports whether the set became empty by it.
func (s set) remove(v string) bool {
	if _, found := s[v]; !found {
		return false
	}
	delete(s, v)
	return len(s) == 0
}
