package bridge

import (
	"context"
	"crypto/rand"

	"vault-plugin-secrets-mcp/gateway/mcp/envelope"
)

const (
	methodInitialized  = "notifications/initialized"
	methodCancelled    = "notifications/cancelled"
	methodProgress     = "notifications/progress"
	methodMessage      = "notifications/message"
	methodUpdated      = "notifications/resources/updated"
	methodRootsChanged = "notifications/roots/list_changed"
	methodSubscribe    = "resources/subscribe"
	methodUnsubscribe  = "resources/unsubscribe"
	methodSetLevel     = "logging/setLevel"

	suffixListChanged = "/list_changed"
)

// Session is one client's session on a channel. Its messages go to whichever of
// its HTTP answers is open.
type Session struct {
	ID string // 130 random bits

	bridge *Bridge
	peer   *peer
	client string

	accessors set  // guarded by bridge.mu
	dropped   bool // likewise

	// Guarded by peer.mu.
	feed       *queue // of the client's GET; nil while there is none
	backlog    []Item // what came meanwhile
	kept       int    // bytes of it
	over       error  // why the session has ended; nil while it goes on
	subscribed set    // resources, by URI as it stood in the request
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
	p, err := b.peer(ctx, key, o)
	if err != nil {
		return nil, nil, err
	}
	s := &Session{
		ID: rand.Text(), bridge: b, peer: p, client: o.Client,
		accessors: set{o.Accessor: {}}, subscribed: make(set),
	}
	if err = b.addSession(s); err == nil {
		var c *Call
		if c, err = p.greet(ctx, s, in); err == nil {
			return s, c, nil
		}
		s.End()
	}
	p.release()
	return nil, nil, err
}

func (b *Bridge) addSession(s *Session) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.peers[s.peer.key] != s.peer {
		return ErrGone
	}
	b.sessions[s.ID] = s
	s.peer.mu.Lock()
	defer s.peer.mu.Unlock()
	s.peer.members[s] = struct{}{}
	return nil
}

// Session returns the client's session, in use: it must be released.
func (b *Bridge) Session(o Owner, id string) (*Session, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.sessions[id]
	if s == nil || s.client != o.Client {
		return nil, ErrNoSession
	}
	s.accessors.add(o.Accessor)
	s.peer.accessors.add(o.Accessor)
	s.peer.acquire()
	return s, nil
}

// Release ends the use of a session.
func (s *Session) Release() { s.peer.release() }

// End ends the session, and a channel that was its alone.
func (s *Session) End() {
	s.bridge.mu.Lock()
	s.bridge.dropSession(s)
	alone := !s.bridge.Shared
	for _, other := range s.bridge.sessions {
		alone = alone && other.peer != s.peer
	}
	s.bridge.mu.Unlock()
	if alone {
		s.peer.end(ErrClosed)
	}
}

// dropSession removes a session. b.mu is held.
func (b *Bridge) dropSession(s *Session) {
	if s.dropped {
		return
	}
	s.dropped = true
	delete(b.sessions, s.ID)
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
	for _, c := range s.peer.calls {
		if c.session == s {
			c.queue.close(ErrNoSession)
		}
	}
}

// Call sends a request. Close the Call.
func (s *Session) Call(in Incoming) (*Call, error) {
	if answer, local := s.answer(in); local {
		s.peer.acquire()
		return answer, nil
	}
	s.peer.acquire()
	c, err := s.peer.call(s, in)
	if err != nil {
		s.peer.release()
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
	case methodSubscribe:
		if len(s.subscribed) < maxSubscriptions {
			s.subscribed.add(uri)
		}
	case methodUnsubscribe:
		s.subscribed.remove(uri)
		local = s.bridge.Shared
	case methodSetLevel:
		local = s.bridge.Shared
	}
	s.peer.mu.Unlock()
	if !local {
		return nil, false
	}
	c := newCall(s.peer, s, in)
	c.queue.put(Item{Message: result(c.clientID), Final: true})
	return c, true
}

// result is an empty answer to the request of that id.
func result(id []byte) []byte {
	b := append([]byte(`{"jsonrpc":"2.0","id":`), id...)
	return append(b, `,"result":{}}`...)
}

// Notify sends a notification.
func (s *Session) Notify(in Incoming) error {
	switch in.Envelope.Method {
	case methodInitialized:
		if !s.peer.hello.confirm() {
			return nil // another session, or the bridge, has said so
		}
	case methodCancelled:
		return s.cancel(in)
	case methodRootsChanged:
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
	raw := string(in.Envelope.RequestID.Of(in.Message))
	s.peer.mu.Lock()
	var found *Call
	for _, c := range s.peer.calls {
		if c.session == s && string(c.clientID) == raw {
			found = c
		}
	}
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
