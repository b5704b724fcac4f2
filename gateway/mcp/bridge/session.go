package bridge

import (
	"container/list"
	"context"
	"crypto/rand"
	"errors"
	"time"

	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
)

// Session is one client's session on a channel. Its messages go to any of its HTTP
// answers that is open.
type Session struct {
	ID string // 130 random bits

	bridge    *Bridge
	channel   *channel
	principal grants.Principal

	// Guarded by bridge.mu.
	accessors   set
	dropped     bool
	uses        int           // requests that use it
	unused      time.Time     // since when there are none
	idleElement *list.Element // in its client's idle list; nil while it is in use
	timer       *time.Timer   // of its expiry

	// Guarded by channel.mu.
	calls        map[string]*Call // in flight, by the client's ids
	stream       *queue           // of the client's GET; nil without one
	backlog      []Item           // messages that wait for a stream
	backlogBytes int              // bytes of it
	ended        error            // why the session has ended; nil while it goes on
	subscribed   set              // resources, by URI as in the request
}

const (
	// maxBacklog bounds the messages that wait for a stream.
	maxBacklog      = 64
	maxBacklogBytes = 1 << 20
	// maxSubscriptions bounds the resources that one session subscribes to.
	maxSubscriptions = 1024
)

// Initialize starts a session. The Call returns the server's answer to the handshake.
// If it is an error, end the session. Close the Call.
func (b *Bridge) Initialize(ctx context.Context, o Owner, in Incoming) (*Session, *Call, error) {
	key := channelKey{principal: o.Principal, handshake: handshakeOf(in.Envelope, in.Message)}
	if b.Shared {
		key = channelKey{handshake: sharedHandshake}
	}
	s, err := b.begin(ctx, key, o)
	for range 2 {
		if !errors.Is(err, ErrGone) && !(errors.Is(err, ErrUnsent) && !haveEnded(o.Credentials)) {
			break
		}
		s, err = b.begin(ctx, key, o) // the channel has ended just now
	}
	if err != nil {
		return nil, nil, err
	}
	c, err := s.channel.initialize(ctx, s, in)
	if err != nil {
		s.End()
		s.Release()
		return nil, nil, err
	}
	return s, c, nil
}

// begin makes a session on the channel of that key, and marks it as used.
func (b *Bridge) begin(ctx context.Context, key channelKey, o Owner) (*Session, error) {
	ch, err := b.channel(ctx, key, o)
	if err != nil {
		return nil, err
	}
	s := &Session{
		ID: rand.Text(), bridge: b, channel: ch, principal: o.Principal,
		accessors: make(set), subscribed: make(set), calls: make(map[string]*Call),
	}
	if err := b.addSession(s, o); err != nil {
		ch.release()
		return nil, err
	}
	return s, nil
}

// Session returns the client's session. Release it.
func (b *Bridge) Session(o Owner, id string) (*Session, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.sessions[id]
	if s == nil || s.principal != o.Principal {
		return nil, ErrNoSession
	}
	if _, err := b.watch(o); err != nil {
		return nil, err
	}
	if !b.Shared {
		s.channel.accessors.add(o.Accessor)
	}
	s.accessors.add(o.Accessor)
	s.channel.acquire() // if the channel has ended, the next call on it says so
	s.channel.noteCredentials(o.Credentials)
	s.markUsed()
	return s, nil
}

// End ends the session, and its channel if no other session has it.
func (s *Session) End() {
	s.bridge.mu.Lock()
	empty := s.bridge.remove(s)
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
	if c := b.clients[s.principal]; c != nil {
		delete(c.sessions, s)
		if s.idleElement != nil {
			c.idle.Remove(s.idleElement)
			s.idleElement = nil
		}
	}
	if s.timer != nil {
		s.timer.Stop()
	}
	s.channel.mu.Lock()
	defer s.channel.mu.Unlock()
	delete(s.channel.members, s)
	s.backlog, s.ended = nil, ErrNoSession
	if s.stream != nil {
		s.stream.close(ErrNoSession)
	}
	for _, r := range s.channel.serverRequests {
		if r.session == s {
			s.channel.dropRequest(r)
		}
	}
	for _, c := range s.calls {
		c.queue.close(ErrNoSession)
	}
}

// Offer has the session's channel use the credentials where its own have ended.
func (s *Session) Offer(c Credentials) { s.channel.noteCredentials(c) }

// Call sends a request. Close the Call.
func (s *Session) Call(ctx context.Context, in Incoming) (*Call, error) {
	s.acquire()
	if answer, local := s.answerLocally(in); local {
		return answer, nil
	}
	c, err := s.channel.callInSession(ctx, s, in)
	if err != nil {
		s.Release()
		return nil, err
	}
	return c, nil
}

// answerLocally answers requests that must not reach a shared server, since they would
// count for all clients: the end of a subscription that others still have, and the
// level of log messages, which the bridge does not forward there.
func (s *Session) answerLocally(in Incoming) (*Call, bool) {
	method := in.Envelope.Method
	if !s.bridge.Shared || method != protocol.MethodUnsubscribe && method != protocol.MethodSetLevel {
		return nil, false
	}
	s.channel.mu.Lock()
	s.noteSubscription(method, &in)
	s.channel.mu.Unlock()
	c := newCall(s.channel, s, in)
	c.queue.put(Item{Message: protocol.EmptyResult(c.clientID), Final: true})
	return c, true
}

// note remembers what a server that takes this one's place has to be told. channel.mu is
// held.
func (s *Session) note(in *Incoming) {
	switch method := in.Envelope.Method; method {
	case protocol.MethodSubscribe, protocol.MethodUnsubscribe:
		s.noteSubscription(method, in)
	case protocol.MethodSetLevel:
		if s.channel.current.credentials != nil {
			s.channel.level = in.clone()
		}
	}
}

// noteSubscription notes that the session subscribes to a resource, or does so no longer.
// channel.mu is held.
func (s *Session) noteSubscription(method string, in *Incoming) {
	if in.Envelope.URI.None() {
		return
	}
	uri := string(in.Envelope.URI.Of(in.Message))
	switch method {
	case protocol.MethodSubscribe:
		if len(s.subscribed) < maxSubscriptions {
			s.subscribed.add(uri)
		}
	case protocol.MethodUnsubscribe:
		s.subscribed.remove(uri)
	}
}

// Notify sends a notification.
func (s *Session) Notify(ctx context.Context, in Incoming) error {
	return s.channel.withConnection(ctx, func() error { return s.notify(in) })
}

func (s *Session) notify(in Incoming) error {
	switch in.Envelope.Method {
	case protocol.MethodInitialized:
		return s.channel.confirm(in.Message) // unless another session, or the bridge, has sent it
	case protocol.MethodCancelled:
		return s.cancel(in)
	case protocol.MethodProgress:
		return s.progress(in)
	case protocol.MethodRootsChanged:
		if s.bridge.Shared {
			return nil // the handshake offered no roots
		}
	}
	return s.channel.notify(in.Message)
}

// cancel forwards a client's cancellation of one of its requests.
func (s *Session) cancel(in Incoming) error {
	if in.Envelope.RequestID.None() {
		return nil
	}
	s.channel.mu.Lock()
	found := s.calls[string(in.Envelope.RequestID.Of(in.Message))]
	if found != nil {
		found.connection.users++
	}
	s.channel.mu.Unlock()
	if found == nil {
		return nil // answered by now
	}
	defer found.connection.done()
	if s.bridge.Shared {
		// A new message: nothing in it may name the request of another client.
		return found.connection.send(cancelled(found.id))
	}
	return found.connection.send(envelope.Replace(nil, in.Message,
		envelope.Part{Span: in.Envelope.RequestID, Text: idText(found.id)}))
}

// progress forwards what a client tells about a request of the server, to the connection
// that the request came over.
func (s *Session) progress(in Incoming) error {
	var over *connection
	if token := in.Envelope.ProgressToken; !token.None() {
		over = s.channel.askedWith(s, token.Of(in.Message))
	}
	if over == nil {
		return s.channel.notify(in.Message)
	}
	defer over.done()
	return over.send(in.Message)
}

// Respond sends the client's answer to a request of the server.
func (s *Session) Respond(in Incoming) error {
	s.channel.mu.Lock()
	r := s.channel.serverRequests[string(in.Envelope.ID.Of(in.Message))]
	if r == nil || r.session != s {
		s.channel.mu.Unlock()
		return nil // the server does not wait for it
	}
	s.channel.dropRequest(r)
	r.connection.users++
	s.channel.mu.Unlock()
	defer r.connection.done()
	return r.connection.send(envelope.Replace(nil, in.Message, envelope.Part{Span: in.Envelope.ID, Text: r.id}))
}
