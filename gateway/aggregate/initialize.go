package aggregate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/mcp"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
)

// maxInstructions bounds what is passed on of the servers' instructions, in
// bytes: clients put them before a model.
const maxInstructions = 32 << 10

// initialize begins a session.
func (x *exchange) initialize() *access.Refusal {
	var params struct {
		ProtocolVersion string          `json:"protocolVersion"`
		ClientInfo      json.RawMessage `json:"clientInfo"`
	}
	if !x.message.Params.None() {
		if err := json.Unmarshal(x.message.Params.Of(x.message.Data), &params); err != nil {
			return x.rpc(&access.Refusal{
				Status: http.StatusOK, Reason: access.ReasonBadRequest, Detail: "params of initialize", Message: "params cannot be read.",
			}, protocol.CodeInvalidParams)
		}
	}
	if len(x.message.Data) > maxHello {
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
	s := x.handler.newSession(x.request.Grant, bytes.Clone(x.message.Data), params.ClientInfo)
	if err := x.handler.sessions.add(s); err != nil {
		s.end()
		return x.full(err)
	}
	defer s.release()
	x.session = s
	x.request.Session = mcp.HashSession(s.id)
	if f := x.decide(); f != nil {
		x.handler.sessions.end(s)
		return f
	}
	d := x.describeAll(servers)
	x.w.Header()[protocol.HeaderSession] = []string{s.id}
	x.answerResult(d.result(false,
		protocol.StringMember("protocolVersion", version),
		protocol.Member("serverInfo", x.handler.info())))
	return nil
}

// Bounds of what a session keeps of its client's messages, in bytes.
const (
	maxHello = 64 << 10
	maxLevel = 4 << 10
	maxURI   = 8 << 10
)

// tooLong refuses a message of which a session would have to keep too much.
func (x *exchange) tooLong() *access.Refusal {
	const message = "The message is too long for its method."
	return x.rpc(&access.Refusal{
		Status: http.StatusOK, Reason: access.ReasonBadRequest, Detail: message, Message: message,
	}, protocol.CodeInvalidParams)
}

func (x *exchange) full(err error) *access.Refusal {
	message := "This gateway has too many sessions in use."
	if errors.Is(err, errFullOfClient) {
		message = "This client has too many sessions in use."
	}
	return x.rpc(&access.Refusal{
		Status:     http.StatusServiceUnavailable,
		Reason:     reasonFull,
		Detail:     err.Error(),
		Message:    message,
		RetryAfter: retryAfter,
	}, protocol.CodeInternalError)
}

// terminate ends a session at the client's wish, and those with the servers.
func (x *exchange) terminate() *access.Refusal {
	if f := x.enter(); f != nil {
		return f
	}
	defer x.session.release()
	if f := x.decide(); f != nil {
		return f
	}
	ctx, cancel := context.WithTimeout(x.r.Context(), x.handler.wait())
	defer cancel()
	x.endAll(ctx, x.session)
	x.handler.sessions.end(x.session)
	x.w.WriteHeader(http.StatusNoContent)
	x.request.Outcome(http.StatusNoContent, 0, nil)
	return nil
}

// endAll ends a session's sessions with the servers.
func (x *exchange) endAll(ctx context.Context, s *session) {
	var all sync.WaitGroup
	for _, v := range s.ready() {
		if v.session == "" {
			continue
		}
		all.Go(func() { x.deleteSession(ctx, v) })
	}
	all.Wait()
}

// discover answers a client without sessions that asks what there is.
func (x *exchange) discover() *access.Refusal {
	servers, f := x.request.Servers()
	if f != nil {
		return f
	}
	if f := x.decide(); f != nil {
		return f
	}
	d := x.describeAll(servers)
	x.answerResult(d.result(true,
		protocol.StringMember("resultType", "complete"),
		protocol.Member("supportedVersions", protocol.Strings([]string{protocol.VersionStateless})),
		protocol.Member("ttlMs", []byte("0")),
		protocol.StringMember("cacheScope", "private"),
		protocol.Member("_meta", protocol.Object(protocol.Member(protocol.MetaServerInfo, x.handler.info())))))
	return nil
}

// descriptions are what all servers say of themselves.
type descriptions struct {
	has          capabilities
	instructions strings.Builder
}

// maxHelloWaits bounds the wait for the first server that says what it has, in
// usual waits: clients give up a connection sooner than a list.
const maxHelloWaits = 5

// describeAll asks servers what they have, where that is not known yet. Those
// that do not say it in time are left out.
func (x *exchange) describeAll(servers []*grants.Server) *descriptions {
	x.shared = true
	w, there := x.handler.waits(), false
	for _, server := range servers {
		_, described := x.handler.servers.of(server.ID).describe()
		there = there || described
	}
	if w.first = min(w.first, maxHelloWaits*w.usual); there {
		w.first = 0
	}
	arrivals := make(chan bool, len(servers))
	late := make(map[*known]<-chan struct{})
	for _, server := range servers {
		known := x.handler.servers.of(server.ID)
		if _, ok := known.describe(); ok || there && known.isSlow(x.client(), time.Now()) {
			continue
		}
		done := make(chan struct{})
		late[known] = done
		go x.describeSoon(server, known, w.usual, done, arrivals)
	}
	w.await(x.r.Context(), len(late), there, arrivals)
	for known, done := range late {
		select {
		case <-done:
		default:
			known.timed(x.client(), false, time.Now())
		}
	}
	all := &descriptions{}
	for _, server := range servers {
		if d, ok := x.handler.servers.of(server.ID).describe(); ok {
			all.add(server.Name, d)
		}
	}
	return all
}

// describeSoon has one server say what it has. That may take longer than the
// client waits, which then hears that lists have changed.
func (x *exchange) describeSoon(server *grants.Server, known *known, usual time.Duration, done chan<- struct{}, arrivals chan<- bool) {
	began := time.Now()
	x.describe(server)
	close(done)
	d, ok := known.describe()
	arrivals <- ok
	if ok && time.Since(began) > usual {
		known.timed(x.client(), true, time.Now())
		x.handler.watchers.tell(x.client(), d.has.changes())
	}
}

// describe has one server say what it has.
func (x *exchange) describe(server *grants.Server) {
	ctx, cancel := x.detached()
	defer cancel()
	p := x.part(ctx, x.partID(server.Name), http.MethodPost, server.Name)
	defer p.end()
	if p.refusal != nil {
		return
	}
	if _, err := x.way(p); err != nil && !errors.Is(err, context.Canceled) {
		x.handler.log.Warn("a server does not say what it has, and is left out for now", "server", server.Name, "error", err)
	}
}

func (d *descriptions) add(server string, one description) {
	d.has = d.has.or(one.has)
	if one.instructions == "" || d.instructions.Len()+len(one.instructions) > maxInstructions {
		return
	}
	if d.instructions.Len() > 0 {
		d.instructions.WriteString("\n\n")
	}
	d.instructions.WriteString("# " + server + "\n\n" + one.instructions)
}

// result is the answer, with more members before. Lists may change at any time,
// as the client's access does, so that is always announced.
func (d *descriptions) result(stateless bool, more ...[]byte) []byte {
	changing := protocol.Member("listChanged", []byte("true"))
	has := [][]byte{protocol.Member("tools", protocol.Object(changing))}
	if d.has.prompts {
		has = append(has, protocol.Member("prompts", protocol.Object(changing)))
	}
	if d.has.resources || d.has.subscribe {
		has = append(has, protocol.Member("resources", protocol.Object(flag("subscribe", d.has.subscribe), changing)))
	}
	if d.has.completions {
		has = append(has, protocol.Member("completions", protocol.Object()))
	}
	if d.has.logging && !stateless {
		has = append(has, protocol.Member("logging", protocol.Object()))
	}
	members := append(slices.Clone(more), protocol.Member("capabilities", protocol.Object(has...)))
	if d.instructions.Len() > 0 {
		members = append(members, protocol.StringMember("instructions", d.instructions.String()))
	}
	return protocol.Object(members...)
}
