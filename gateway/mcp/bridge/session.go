package bridge

import (
	"container/list"
	"context"
	"crypto/rand"
	"errors"
	"time"

	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
)

// Session is one client's session on a channel. Its messages go to whichever of
// its HTTP answers is open.
type Session struct {
	ID string // 130 random bits

	bridge *Bridge
	peer   *peer
	client string

	// Guarded by bridge.mu.
	accessors set
	dropped   bool
	uses      int           // requests that hold it
	unused    time.Time     // since when there are none
	place     *list.Element // among its client's idle ones; nil while it is in use
	timer     *time.Timer   // of its end

	// Guarded by peer.mu.
	calls      map[string]*Call // in flight, by the client's ids
	feed       *queue           // of the client's GET; nil while there is none
	backlog    []Item           // what came meanwhile
	kept       int              // bytes of it
	over       error            // why the session has ended; nil while it goes on
	subscribed set              // resources, by URI as it stood in the request
}

const (
	// maxBacklog bounds the messages kept for a session without a stream.
	maxBacklog      = 64
	maxBacklogBytes = 1 << 20
	// maxSubscriptions bounds the resources that one session subscribes to.
	maxSubscriptions = 1024
)

// Initialize starts a session. The Call's answer is the server's to the
// handshake; if it is an error, the session is to be ended. Close the Call.
func (b *Bridge) Initialize(ctx context.Context, o Owner, in Incoming) (*Session, *Call, error) {
	key := peerKey{client: o.Client, handshake: handshakeOf(in.Envelope, in.Message)}
	if b.Shared {
		key = peerKey{handshake: sharedHandshake}
	}
	s, err := b.begin(ctx, key, o)
	for range 2 {
		if !errors.Is(err, ErrGone) {
			break
		}
		s, err = b.begin(ctx, key, o) // the channel has ended just now
	}
	if err != nil {
		return nil, nil, err
	}
	c, err := s.peer.greet(ctx, s, in)
	if err != nil {
		s.End()
		s.Release()
		return nil, nil, err
	}
	return s, c, nil
}

// begin makes a session on the channel of that key, in use.
func (b *Bridge) begin(ctx context.Context, key peerKey, o Owner) (*Session, error) {
	p, err := b.peer(ctx, key, o)
	if err != nil {
		return nil, err
	}
	s := &Session{
		ID: rand.Text(), bridge: b, peer: p, client: o.Client,
		accessors: make(set), subscribed: make(set), calls: make(map[string]*Call),
	}
	if err := b.addSession(s, o); err != nil {
		p.release()
		return nil, err
	}
	return s, nil
}

// Session returns the client's session, in use: it must be released.
func (b *Bridge) Session(o Owner, id string) (*Session, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.sessions[id]
	if s == nil || s.client != o.Client {
		return nil, ErrNoSession
	}
	if _, err := b.watch(o); err != nil {
		return nil, err
	}
	if !b.Shared {
		s.peer.accessors.add(o.Accessor)
	}
	s.accessors.add(o.Accessor)
	s.peer.acquire() // one that has ended says so itself
	s.use()
	return s, nil
}

// End ends the session, and a channel that was its alone.
func (s *Session) End() {
	s.bridge.mu.Lock()
	empty := s.bridge.leave(s)
	s.bridge.mu.Unlock()
	if empty != nil {
		empty.end(ErrClosed)
	}
}

// dropSession removes a session. b.mu is held.
func (b *Bridge) dropSession(s *Session) {
	if s.dropped {
		return
	}
	s.dropped = true
	delete(b.sessions, s.ID)
	if c := b.clients[s.client]; c != nil {
		delete(c.sessions, s)
		if s.place != nil {
			c.idle.Remove(s.place)
			s.place = nil
		}
	}
	if s.timer != nil {
		s.timer.Stop()
	}
	s.peer.mu.Lock()
	defer s.peer.mu.Unlock()
	delete(s.peer.members, s)
	s.backlog, s.over = nil, ErrNoSession
	if s.feed != nil {
		s.feed.close(ErrNoSession)
	}
	for raw, other := range s.peer.asked {
		if other == s {
			delete(s.peer.asked, raw)
		}
	}
	for _, c := range s.calls {
		c.queue.close(ErrNoSession)
	}
}

// Call sends a request. Close the Call.
func (s *Session) Call(in Incoming) (*Call, error) {
	s.acquire()
	if answer, local := s.answer(in); local {
		return answer, nil
	}
	c, err := s.peer.call(s, in)
	if err != nil {
		s.Release()
		return nil, err
	}
	return c, nil
}

// answer answers what must not reach a shared server, where it would count for
// everybody: the end of a subscription that others still have, and the level of
// log messages, which are not passed on there.
func (s *Session) answer(in Incoming) (*Call, bool) {
	method, uri := in.Envelope.Method, ""
	if !in.Envelope.URI.None() {
		uri = string(in.Envelope.URI.Of(in.Message))
	}
	local := false
	s.peer.mu.Lock()
	switch method {
	case protocol.MethodSubscribe:
		if len(s.subscribed) < maxSubscriptions {
			s.subscribed.add(uri)
		}
	case protocol.MethodUnsubscribe:
		s.subscribed.remove(uri)
		local = s.bridge.Shared
	case protocol.MethodSetLevel:
		local = s.bridge.Shared
	}
	s.peer.mu.Unlock()
	if !local {
		return nil, false
	}
	c := newCall(s.peer, s, in)
	c.queue.put(Item{Message: protocol.EmptyResult(c.clientID), Final: true})
	return c, true
}

// Notify sends a notification.
func (s *Session) Notify(in Incoming) error {
	switch in.Envelope.Method {
	case protocol.MethodInitialized:
		if !s.peer.hello.confirm() {
			return nil // another session, or the bridge, has said so
		}
	case protocol.MethodCancelled:
		return s.cancel(in)
	case protocol.MethodRootsChanged:
		if s.bridge.Shared {
			return nil // it was told that there are none
		}
	}
	return s.peer.send(in.Message)
}

// cancel passes on that the client cancels one of its requests.
func (s *Session) cancel(in Incoming) error {
	if in.Envelope.RequestID.None() {
		return nil
	}
	s.peer.mu.Lock()
	found := s.calls[string(in.Envelope.RequestID.Of(in.Message))]
	s.peer.mu.Unlock()
	switch {
	case found == nil:
		return nil // answered by now
	case s.bridge.Shared:
		// Built anew: nothing in it may name the request of another client.
		return s.peer.send(cancelled(found.id))
	}
	return s.peer.send(envelope.Replace(nil, in.Message,
		envelope.Part{Span: in.Envelope.RequestID, Text: idText(found.id)}))
}

// Respond sends the answer to a request that the server has asked this session.
func (s *Session) Respond(in Incoming) error {
	raw := string(in.Envelope.ID.Of(in.Message))
	s.peer.mu.Lock()
	asked := s.peer.asked[raw] == s
	if asked {
		delete(s.peer.asked, raw)
	}
	s.peer.mu.Unlock()
	if !asked {
		return nil // nobody waits for it
	}
	return s.peer.send(in.Message)
}
