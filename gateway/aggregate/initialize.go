package aggregate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/aggregate/messages"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/mcp"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
)

// Bounds of a client's messages of which a session keeps something, in bytes.
const (
	maxInitialize = 64 << 10
	maxLevel      = 4 << 10
	maxURI        = 8 << 10
)

// initialize opens a session.
func (x *exchange) initialize() *access.Refusal {
	var params struct {
		ProtocolVersion string          `json:"protocolVersion"`
		ClientInfo      json.RawMessage `json:"clientInfo"`
		Capabilities    json.RawMessage `json:"capabilities"`
	}
	if !x.message.Params.None() {
		if err := json.Unmarshal(x.message.Params.Of(x.message.Data), &params); err != nil {
			return x.invalidParams(access.ReasonBadRequest, "params of initialize", "params cannot be read.")
		}
	}
	if len(x.message.Data) > maxInitialize {
		return x.tooLong()
	}
	version := params.ProtocolVersion
	if !protocol.IsSessionVersion(version) {
		version = protocol.LatestSessionVersion
	}
	servers, f := x.request.Servers()
	if f != nil {
		return f
	}
	message, err := messages.WithoutTasks(x.message.Data, x.message.Params)
	if err != nil {
		return x.invalidParams(access.ReasonBadRequest, "params of initialize", "params cannot be read.")
	}
	s := x.handler.newSession(x.request.Grant, bytes.Clone(message), params.ClientInfo)
	s.version, s.questions = version, messages.QuestionsIn(params.Capabilities)
	if err := x.handler.sessions.add(s); err != nil {
		s.end()
		return x.tooManySessions(err)
	}
	defer s.release()
	x.session = s
	if x.r.Context().Err() != nil { // the token may have ended before the session was there to end with it
		x.handler.sessions.end(s)
		return access.CutCause(x.r.Context())
	}
	x.request.Session = mcp.HashSession(s.id)
	if f := x.request.Allow(); f != nil {
		x.handler.sessions.end(s)
		return f
	}
	d := x.describeAll(servers)
	x.w.Header()[protocol.HeaderSession] = []string{s.id}
	x.answerResult(d.Result(false,
		protocol.StringMember("protocolVersion", version),
		protocol.Member("serverInfo", x.handler.info())))
	return nil
}

// terminate ends the client's session, and its sessions with servers.
func (x *exchange) terminate() *access.Refusal {
	if f := x.request.Allow(); f != nil {
		return f
	}
	ctx, cancel := context.WithTimeout(x.r.Context(), x.handler.usualWait())
	defer cancel()
	x.endRoutes(ctx, x.session)
	x.handler.sessions.end(x.session)
	x.w.WriteHeader(http.StatusNoContent)
	x.request.Outcome(http.StatusNoContent, 0, nil)
	return nil
}

// discover answers a server/discover.
func (x *exchange) discover() *access.Refusal {
	servers, f := x.request.Servers()
	if f != nil {
		return f
	}
	if f := x.request.Allow(); f != nil {
		return f
	}
	d := x.describeAll(servers)
	x.answerResult(d.Result(true,
		protocol.StringMember("resultType", protocol.ResultComplete),
		protocol.Member("supportedVersions", protocol.Strings([]string{protocol.VersionStateless})),
		protocol.Member("ttlMs", []byte("0")),
		protocol.StringMember("cacheScope", "private"),
		protocol.Member("_meta", protocol.Object(protocol.Member(protocol.MetaServerInfo, x.handler.info())))))
	return nil
}

// maxFirstWaits bounds the wait for the first server's description, in usual waits: clients
// give up a connection sooner than a list.
const maxFirstWaits = 5

// describeAll asks those servers for their descriptions that have not been asked. Servers
// that do not answer in time are left out.
func (x *exchange) describeAll(servers []*grants.Server) *messages.Descriptions {
	x.shared = true
	w, there := x.handler.waits(), false
	for _, server := range servers {
		_, described := x.description(server)
		there = there || described
	}
	if w.first = min(w.first, maxFirstWaits*w.usual); there {
		w.first = 0
	}
	arrivals := make(chan bool, len(servers))
	asked := make(map[*serverState]<-chan struct{})
	for _, server := range servers {
		state := x.stateOf(server)
		if _, described := x.description(server); described || there && state.isSlow(x.principal(), time.Now()) {
			continue
		}
		done := make(chan struct{})
		asked[state] = done
		go func() {
			began := time.Now()
			x.describe(server)
			close(done)
			d, described := x.description(server)
			arrivals <- described
			if described && time.Since(began) > w.usual { // the client may not have waited
				state.noteTime(x.principal(), true, time.Now())
				x.handler.watchers.notify(x.principal(), d.Has.Changes())
			}
		}()
	}
	w.wait(x.r.Context(), len(asked), there, arrivals)
	for state, done := range asked {
		select {
		case <-done:
		default:
			state.noteTime(x.principal(), false, time.Now())
		}
	}
	all := &messages.Descriptions{}
	for _, server := range servers {
		if d, described := x.description(server); described {
			all.Add(server.Name, d.Has, x.instructions(server, d))
		}
	}
	return all
}

// describe makes the route to one server ready, which gets its description.
func (x *exchange) describe(server *grants.Server) {
	ctx, cancel := x.background(fetchTimeout)
	defer cancel()
	s := x.oneOfMany(ctx, http.MethodPost, server.Name)
	defer s.end()
	if s.refusal != nil {
		return
	}
	if _, err := x.route(s); err != nil && !errors.Is(err, context.Canceled) {
		x.handler.log.Warn("a server does not say what it has, and is left out for now", "server", server.Name, "error", err)
	}
}

// description returns how the server has described itself to the client, or else to the
// gateway. Requests without a session ask it in the gateway's name.
func (x *exchange) description(server *grants.Server) (messages.Description, bool) {
	state := x.stateOf(server)
	if x.session != nil {
		if d, described := state.description(x.principal()); described {
			return d, true
		}
	}
	return state.description(gatewayItself)
}

// capabilities returns those of the server, if they are known without asking: in the
// client's session, what the server has said in it, or else in another one of the client.
func (x *exchange) capabilities(server *grants.Server) (has messages.Capabilities, known bool) {
	asker := gatewayItself
	if x.session != nil {
		if r := x.session.readyRoute(server.Name); r != nil && r.upstream.server.ID == server.ID {
			return r.has, true
		}
		asker = x.principal()
	}
	d, known := x.stateOf(server).description(asker)
	return d.Has, known
}
