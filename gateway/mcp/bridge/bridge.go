package bridge

import (
	"context"
	"crypto/sha256"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
)

// Conn is a connection to a server.
type Conn interface {
	// Send writes one message. Any goroutine may call it. It must not block for
	// ever.
	Send(message []byte) error
	// Close ends the connection, and the server too where it is a child. It does
	// not wait, and may be called more than once.
	Close()
}

// Receiver takes the messages of a connection. The connection calls one method at a
// time. They do not block.
type Receiver interface {
	// Message takes one message. It must not retain the slice.
	Message(message []byte)
	// Gone reports the end of the connection. It is the last call, and comes once.
	Gone(err error)
}

// Dial makes a connection with the credentials, which are nil where the server has none that
// are leased. The receiver may be called before it returns.
type Dial func(ctx context.Context, c Credentials, r Receiver) (Conn, error)

// Options of a Bridge.
type Options struct {
	Dial   Dial
	Pool   *Pool
	Log    hclog.Logger
	Shared bool // all clients share one channel

	// Stateless: the server may know the stateless era. The bridge asks it.
	Stateless bool

	// HandshakeTimeout bounds the wait for the server's answer to the handshake.
	// Nobody can use a channel without one. 0: no bound.
	HandshakeTimeout time.Duration

	// IdleTimeout ends sessions and channels that are unused for so long.
	IdleTimeout time.Duration
}

// Owner is the sender of a request.
type Owner struct {
	Principal grants.Principal
	Accessor  string // of the token, or of the sign-in that it belongs to: [grants.Grant.Anchor]
	Token     string // the accessor of the token itself, which the Keeper watches; "": it is Accessor

	// Credentials are those that the server is reached with on behalf of the principal.
	// Nil: it has none that are leased.
	Credentials Credentials

	Keeper Keeper // nil: nothing watches the token
}

// token is the accessor of the token that the Keeper watches.
func (o *Owner) token() string {
	if o.Token != "" {
		return o.Token
	}
	return o.Accessor
}

// Keeper watches a request's token beyond the end of the request.
type Keeper interface {
	// Keep begins to watch. The bridge calls it before it holds something for the
	// token. The keeper calls ended if the token loses its access, or with
	// [grants.ErrExpired] if nothing more will be heard of it; the bridge calls
	// release once it holds nothing for the token.
	Keep(ended func(cause error)) (release func(), err error)
}

// Bridge holds the channels to one registered server.
type Bridge struct {
	Options

	mu       sync.Mutex
	channels map[channelKey]*channel
	sessions map[string]*Session
	clients  map[grants.Principal]*client // those with sessions or channels
	backoff  backoff
	closed   bool

	// sessionEraUntil: until then the bridge knows that the server needs sessions.
	sessionEraUntil time.Time
}

// channelKey: requests with equal keys share a channel.
type channelKey struct {
	principal grants.Principal  // nobody, where all clients share it
	handshake [sha256.Size]byte // of the params of initialize; noHandshake in the stateless era
}

var noHandshake [sha256.Size]byte

// New returns a bridge that has no channel yet.
func New(o Options) *Bridge {
	return &Bridge{
		Options:  o,
		channels: make(map[channelKey]*channel),
		sessions: make(map[string]*Session),
		clients:  make(map[grants.Principal]*client),
		backoff:  make(backoff),
	}
}

// Close ends all channels.
func (b *Bridge) Close() {
	b.mu.Lock()
	b.closed = true
	channels := make([]*channel, 0, len(b.channels))
	for _, ch := range b.channels {
		channels = append(channels, ch)
	}
	b.mu.Unlock()
	for _, ch := range channels {
		ch.end(ErrClosed)
	}
}

// handshakeOf identifies the parameters of a client's handshake.
func handshakeOf(e *envelope.Envelope, message []byte) [sha256.Size]byte {
	if e.Params.None() {
		return sha256.Sum256(nil)
	}
	return sha256.Sum256(e.Params.Of(message))
}

// channel returns the channel of that key, and makes one if there is none. The
// caller releases it.
func (b *Bridge) channel(ctx context.Context, key channelKey, o Owner) (*channel, error) {
	if b.Shared && o.Credentials != nil {
		return nil, errSharedCredentials
	}
	ch, err := b.find(ctx, key, o)
	if err != nil {
		return nil, err
	}
	select {
	case <-ch.started:
		if ch.startErr != nil {
			ch.release()
			return nil, ch.startErr
		}
		return ch, nil
	case <-ctx.Done():
		ch.release()
		return nil, ctx.Err()
	}
}

// find returns the channel of that key. It may still be starting.
func (b *Bridge) find(ctx context.Context, key channelKey, o Owner) (*channel, error) {
	if ch, err := b.existing(key, o); ch != nil || err != nil {
		return ch, err
	}
	// Taking a slot may end another channel, which takes the bridge's lock.
	free, err := b.Pool.acquire(ctx, key.principal)
	if err != nil {
		return nil, err
	}
	ch, err := b.open(key, o, free)
	if err != nil {
		free.release()
		return nil, err
	}
	if ch.slot != free { // another request was faster
		free.release()
	}
	return ch, nil
}

func (b *Bridge) existing(key channelKey, o Owner) (*channel, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.usable(key, o)
}

// open makes the channel of that key, unless another request has made it meanwhile.
func (b *Bridge) open(key channelKey, o Owner, free *slot) (*channel, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if ch, err := b.usable(key, o); ch != nil || err != nil {
		return ch, err
	}
	ch := newChannel(b, key, free, newest(o.Credentials))
	ch.acquire()
	if err := b.noteUse(ch, o); err != nil {
		return nil, err
	}
	b.channels[key] = ch
	free.use(ch)
	go ch.start(ch.current)
	return ch, nil
}

// usable returns the channel of that key, acquired; nil if the caller may make one.
// b.mu is held.
func (b *Bridge) usable(key channelKey, o Owner) (*channel, error) {
	if b.closed {
		return nil, ErrClosed
	}
	if ch := b.channels[key]; ch != nil {
		if ch.acquire() {
			ch.noteCredentials(o.Credentials)
			return ch, b.noteUse(ch, o)
		}
		ch.release() // it is about to be removed
	}
	if wait := b.backoff.wait(key.principal, time.Now()); wait > 0 {
		return nil, &BackoffError{Wait: wait}
	}
	return nil, nil
}

// noteUse records that the owner uses the channel, unless all clients share it. The
// caller has acquired the channel; noteUse releases it on an error. b.mu is held.
func (b *Bridge) noteUse(ch *channel, o Owner) error {
	if b.Shared {
		return nil
	}
	c, err := b.watch(o)
	if err != nil {
		ch.release()
		return err
	}
	c.channels[ch] = struct{}{}
	ch.accessors.add(o.Accessor)
	return nil
}

// gone removes a channel that has ended, with its sessions. failed: it ended by
// itself, after it ran for so long.
func (b *Bridge) gone(ch *channel, failed bool, ran time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.channels[ch.key] == ch {
		delete(b.channels, ch.key)
	}
	for _, s := range ch.sessions() {
		b.dropSession(s)
		b.dropIfEmpty(s.principal)
	}
	if c := b.clients[ch.key.principal]; c != nil {
		delete(c.channels, ch)
		b.dropIfEmpty(ch.key.principal)
	}
	if failed {
		b.backoff.failed(ch.key.principal, ran, time.Now())
	}
}

// set is a small set of strings. Those of a bridge are guarded by its lock.
type set map[string]struct{}

func (s set) add(v string) { s[v] = struct{}{} }

// remove reports whether this made the set empty.
func (s set) remove(v string) bool {
	if _, found := s[v]; !found {
		return false
	}
	delete(s, v)
	return len(s) == 0
}
