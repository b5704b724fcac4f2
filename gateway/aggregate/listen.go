package aggregate

import (
	"context"
	"net/http"
	"slices"
	"time"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/mcp"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/names"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/rewrite"
)

// listen serves a stream of what a client without sessions wants to hear of.
func (x *exchange) listen() *access.Refusal {
	if !x.stream {
		return x.plain(http.StatusNotAcceptable, "Accept must list text/event-stream.")
	}
	wants, err := rewrite.ReadListen(&x.message.Envelope, x.message.Data)
	if err != nil {
		return x.rpc(&access.Refusal{
			Status: http.StatusOK, Reason: access.ReasonBadRequest, Detail: err.Error(), Message: "params.notifications cannot be read.",
		}, protocol.CodeInvalidParams)
	}
	if len(wants.Resources) > maxSubscriptions {
		return x.tooLong()
	}
	servers, refusal := x.request.Servers()
	if refusal != nil {
		return refusal
	}
	if f := x.decide(); f != nil {
		return f
	}
	// What such a client hears of a server with sessions, it hears in a session
	// that is this stream's alone.
	h := x.handler
	x.own = h.newSession(x.request.Grant, h.helloMessage(), h.info())
	x.own.isHidden = true
	defer x.leave(x.own)

	f := x.newFeed(x.own.watcher)
	s := &subscription{id: x.id(), lists: listsOf(&wants), resources: wants.Resources}
	f.announces, f.announce, f.wants = s.lists, s.notification, s.interestIn
	f.backOf = func(v *way) back { return s.backOf(x, v) }
	f.followAll()
	x.awaitOpen(f)
	f.serve(s.acknowledgement(f, servers))
	return nil
}

// awaitOpen waits until the servers listen that do so in time: what happens when
// the client knows that it is listening must reach it.
func (x *exchange) awaitOpen(f *feed) {
	f.mu.Lock()
	waiting := make([]*follower, 0, len(f.followed))
	for _, l := range f.followed {
		waiting = append(waiting, l)
	}
	f.mu.Unlock()
	timer := time.NewTimer(x.handler.wait())
	defer timer.Stop()
	for _, l := range waiting {
		select {
		case <-l.tried:
		case <-timer.C:
			return
		case <-f.context.Done():
			return
		}
	}
}

// leave ends a session that was one request's alone, with the servers too.
func (x *exchange) leave(s *session) {
	s.end()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(x.r.Context()), cancelTimeout)
	defer cancel()
	x.endAll(ctx, s)
}

// subscription is what one subscriptions/listen asks for.
type subscription struct {
	id        []byte // of the request
	lists     changes
	resources []rewrite.Resource
}

func listsOf(wants *rewrite.Listen) changes {
	var lists changes
	if wants.ToolsListChanged {
		lists |= changedTools
	}
	if wants.PromptsListChanged {
		lists |= changedPrompts
	}
	if wants.ResourcesListChanged {
		lists |= changedResources
	}
	return lists
}

// interestIn is what the client wants to hear of one server.
func (s *subscription) interestIn(server string) interest {
	i := interest{lists: s.lists}
	for _, r := range s.resources {
		if r.Server == server {
			i.resources = append(i.resources, r.URI)
		}
	}
	return i
}

// meta names the subscription in a notification.
func (s *subscription) meta() []byte {
	return protocol.Member(protocol.MetaSubscriptionID, s.id)
}

// notification is one of the gateway's own.
func (s *subscription) notification(method string) []byte {
	return protocol.Notification(method, protocol.Object(protocol.Member("_meta", protocol.Object(s.meta()))))
}

// acknowledgement tells what the client will hear of. Resources of servers that
// it may not reach are not among it.
func (s *subscription) acknowledgement(f *feed, servers []*grants.Server) []byte {
	var resources []string
	for _, r := range s.resources {
		known := func(server *grants.Server) bool { return server.Name == r.Server }
		i := slices.IndexFunc(servers, known)
		if i < 0 {
			continue
		}
		if d, ok := f.x.handler.servers.of(servers[i].ID).describe(); !ok || d.has.subscribe {
			resources = append(resources, names.JoinURI(r.Server, r.URI))
		}
	}
	return protocol.Notification(protocol.MethodAcknowledged, protocol.Object(
		protocol.Member("_meta", protocol.Object(s.meta())),
		protocol.Member("notifications", protocol.Object(
			flag("toolsListChanged", s.lists&changedTools != 0),
			flag("promptsListChanged", s.lists&changedPrompts != 0),
			flag("resourcesListChanged", s.lists&changedResources != 0),
			uris("resourceSubscriptions", resources)))))
}

// backOf turns what a server with sessions says into what the client has asked
// to hear: that server does not know what that is.
func (s *subscription) backOf(x *exchange, v *way) back {
	if v.kind != hidden {
		return v.back(nil)
	}
	wants := s.interestIn(v.server)
	return func(m *mcp.Message) ([]byte, error) {
		if m.Kind == envelope.Request {
			x.answerServer(v, m)
		}
		if m.Kind != envelope.Notification || !wants.includes(&m.Envelope, m.Data) {
			return nil, nil
		}
		message, err := v.answer(m.Data)
		if err != nil {
			return nil, err
		}
		return s.mark(message)
	}
}

// includes reports whether the notification is among what the client wants.
func (i interest) includes(e *envelope.Envelope, message []byte) bool {
	for _, n := range notifications {
		if n.method == e.Method {
			return i.lists&n.change != 0
		}
	}
	return e.Method == protocol.MethodUpdated && !e.URI.None() && slices.Contains(i.resources, stringOf(e.URI.Of(message)))
}

// mark puts the subscription's id into a notification.
func (s *subscription) mark(message []byte) ([]byte, error) {
	top, err := members(message, whole(message))
	if err != nil {
		return nil, err
	}
	params, found := find(top, "params")
	if !found || !isObject(params.raw) {
		added := protocol.Member("params", protocol.Object(protocol.Member("_meta", protocol.Object(s.meta()))))
		return protocol.Object(append(texts(top, "params"), added)...), nil
	}
	inner, err := members(message, params.at)
	if err != nil {
		return nil, err
	}
	var kept [][]byte
	if meta, found := find(inner, "_meta"); found && isObject(meta.raw) {
		list, err := members(message, meta.at)
		if err != nil {
			return nil, err
		}
		kept = texts(list, protocol.MetaSubscriptionID)
	}
	added := protocol.Member("_meta", protocol.Object(append(kept, s.meta())...))
	return envelope.Replace(nil, message, envelope.Part{
		Span: params.at, Text: protocol.Object(append(texts(inner, "_meta"), added)...),
	}), nil
}
