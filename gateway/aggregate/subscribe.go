package aggregate

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"time"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/aggregate/messages"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/mcp"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/names"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/rewrite"
	"vault-plugin-secrets-mcp/gateway/mcp/serverside"
)

// maxSubscriptions bounds the resources that a session subscribes to on each server without
// sessions, and those of one subscriptions/listen.
const maxSubscriptions = 1024

// listen serves a subscriptions/listen of a client without sessions.
func (x *exchange) listen() *access.Refusal {
	if !x.stream {
		return serverside.NeedsStream(x.id())
	}
	wanted, err := rewrite.ReadListen(&x.message.Envelope, x.message.Data)
	if err != nil {
		return x.invalidParams(access.ReasonBadRequest, err.Error(), "params.notifications cannot be read.")
	}
	if len(wanted.Resources)+len(wanted.Tasks) > maxSubscriptions {
		return x.tooLong()
	}
	if len(wanted.Tasks) > 0 {
		if f := x.needsTasks(); f != nil {
			return f
		}
	}
	servers, refusal := x.request.Servers()
	if refusal != nil {
		return refusal
	}
	if f := x.request.Allow(); f != nil {
		return f
	}
	// Servers with sessions send the notifications in a session that only this stream has.
	x.ownSession = x.handler.newImplicitSession(x.request.Grant, 0) // nobody calls there, so nothing can be asked
	defer x.endOwnSession()

	c := x.newClientStream(x.ownSession.watcher)
	s := &subscription{
		id:        x.id(),
		lists:     messages.Choose(wanted.ToolsListChanged, wanted.PromptsListChanged, wanted.ResourcesListChanged),
		resources: wanted.Resources,
		tasks:     wanted.Tasks,
	}
	c.announces, c.announce, c.wants = s.lists, s.notification, s.notificationsOf
	c.filter = func(r *route) toClient { return s.filter(x, r) }
	c.listenToAll()
	c.awaitListeners()
	c.serve(s.acknowledgement(x, servers))
	return nil
}

// awaitListeners waits for those servers whose streams can be opened in time: what happens
// after the acknowledgement must reach the client.
func (c *clientStream) awaitListeners() {
	c.mu.Lock()
	waiting := make([]*streamListener, 0, len(c.listeners))
	for _, l := range c.listeners {
		waiting = append(waiting, l)
	}
	c.mu.Unlock()
	timer := time.NewTimer(c.x.handler.usualWait())
	defer timer.Stop()
	for _, l := range waiting {
		select {
		case <-l.ready:
		case <-timer.C:
			return
		case <-c.context.Done():
			return
		}
	}
}

// endOwnSession ends the session of this request alone, and its sessions with servers.
func (x *exchange) endOwnSession() {
	x.ownSession.end()
	ctx, cancel := x.afterRequest(cancelTimeout)
	defer cancel()
	x.endRoutes(ctx, x.ownSession)
}

// subscription is what one subscriptions/listen asks for.
type subscription struct {
	id        []byte // of the request
	lists     messages.Changes
	resources []rewrite.Resource
	tasks     []rewrite.Task
}

// notificationsOf returns the notifications of one server that the client wants.
func (s *subscription) notificationsOf(server string) messages.NotificationSet {
	n := messages.NotificationSet{Lists: s.lists}
	for _, r := range s.resources {
		if r.Server == server {
			n.Resources = append(n.Resources, r.URI)
		}
	}
	for _, t := range s.tasks {
		if t.Server == server {
			n.Tasks = append(n.Tasks, t.ID)
		}
	}
	return n
}

// meta is the member of _meta that names the subscription.
func (s *subscription) meta() []byte {
	return protocol.Member(protocol.MetaSubscriptionID, s.id)
}

// notification builds a notification of the gateway's own.
func (s *subscription) notification(method string) []byte {
	return protocol.Notification(method, protocol.Object(protocol.Member("_meta", protocol.Object(s.meta()))))
}

// acknowledgement tells the client which notifications it will get: of those servers that
// it may reach.
func (s *subscription) acknowledgement(x *exchange, servers []*grants.Server) []byte {
	wanted := messages.NotificationSet{Lists: s.lists}
	sends := func(server string, has func(messages.Capabilities) bool) bool {
		i := slices.IndexFunc(servers, func(s *grants.Server) bool { return s.Name == server })
		if i < 0 {
			return false
		}
		d, described := x.stateOf(servers[i]).description(gatewayItself)
		return !described || has(d.Has)
	}
	for _, r := range s.resources {
		if x.mayHave(r.Server, r.URI) && sends(r.Server, func(has messages.Capabilities) bool { return has.Subscribe }) {
			wanted.Resources = append(wanted.Resources, names.JoinURI(r.Server, r.URI))
		}
	}
	for _, t := range s.tasks {
		if sends(t.Server, func(has messages.Capabilities) bool { return has.TasksExtension }) {
			wanted.Tasks = append(wanted.Tasks, names.Prefix(t.Server)+t.ID)
		}
	}
	return protocol.Notification(protocol.MethodAcknowledged, protocol.Object(
		protocol.Member("_meta", protocol.Object(s.meta())), wanted.Member()))
}

// filter passes those notifications that the client has asked for. A server with sessions
// does not know what that is.
func (s *subscription) filter(x *exchange, r *route) toClient {
	if r.mode != modeImplicitSession {
		return r.notificationFilter(nil)
	}
	wanted := s.notificationsOf(r.server)
	return func(m *mcp.Message) ([]byte, error) {
		if m.Kind == envelope.Request {
			x.answerServer(r, m)
		}
		if m.Kind != envelope.Notification || !wanted.Includes(&m.Envelope, m.Data) {
			return nil, nil
		}
		marked, err := messages.MarkSubscription(m.Data, m.Params, s.meta())
		if err != nil {
			return nil, err
		}
		return r.rename(&m.Envelope, marked)
	}
}

// listenMessage asks a server without sessions for notifications: in the client's own
// message if it has sent one.
func (x *exchange) listenMessage(wanted messages.NotificationSet) ([]byte, error) {
	if x.session != nil {
		meta := protocol.Member("_meta", protocol.Object(protocol.ClientMeta(x.session.info, nil)...))
		return protocol.Request([]byte(`"listen"`), protocol.MethodListen, protocol.Object(wanted.Member(), meta)), nil
	}
	params, err := messages.ReadObject(x.message.Data, x.message.Params, "notifications")
	return envelope.Replace(nil, x.message.Data, envelope.Part{
		Span: x.message.Params, Text: protocol.Object(append(params.Others, wanted.Member())...),
	}), err
}

// subscribe asks a server with sessions for notifications about the resources.
func (x *exchange) subscribe(ctx context.Context, r *route, resources []string) {
	for _, uri := range resources {
		id := strconv.AppendInt(nil, r.upstream.lastID.Add(1), 10)
		message := protocol.Request(id, protocol.MethodSubscribe, protocol.Object(protocol.StringMember("uri", uri)))
		if err := x.send(ctx, r, message); err != nil {
			x.handler.log.Debug("a resource cannot be subscribed to", "server", r.server, "error", err)
		}
	}
}

// notificationsOf returns the notifications of one server that the session's client wants.
func (s *session) notificationsOf(server string) messages.NotificationSet {
	s.mu.Lock()
	defer s.mu.Unlock()
	return messages.NotificationSet{Lists: messages.ChangedAll, Resources: slices.Clone(s.subscribed[server])}
}

// subscribeStateless notes that a client with a session subscribes to a resource of a
// server without sessions, or does so no longer. The server learns it with its next stream.
func (x *exchange) subscribeStateless(sub *subRequest, r *route, target rewrite.Target, message *mcp.Message) *access.Refusal {
	if !r.has.Subscribe {
		return x.refuse(&access.Refusal{
			Status: http.StatusOK, Reason: reasonMethod, Message: "The server has no subscriptions.",
		}, protocol.CodeMethodNotFound)
	}
	if len(target.Name) > maxURI {
		return x.tooLong()
	}
	if !sub.admit(r, target, message) {
		return nil
	}
	s := x.session
	s.mu.Lock()
	list := s.subscribed[target.Server]
	i := slices.Index(list, target.Name)
	changed := true
	switch subscribes := x.message.Method == protocol.MethodSubscribe; {
	case subscribes && i < 0 && len(list) < maxSubscriptions:
		list = append(slices.Clone(list), target.Name)
	case !subscribes && i >= 0:
		list = slices.Delete(slices.Clone(list), i, i+1)
	default:
		changed = false
	}
	s.subscribed[target.Server] = list
	stream := s.stream
	s.mu.Unlock()
	if changed && stream != nil {
		stream.reopen(target.Server)
	}
	x.freeID()
	x.answerResult([]byte("{}"))
	sub.request.Outcome(http.StatusOK, 0, nil)
	return nil
}
