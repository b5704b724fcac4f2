package aggregate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"
	"unique"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/mcp"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/rewrite"
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
	message, err := withoutTasks(x.message.Data, x.message.Params)
	if err != nil {
		return x.invalidParams(access.ReasonBadRequest, "params of initialize", "params cannot be read.")
	}
	s := x.handler.newSession(x.request.Grant, bytes.Clone(message), params.ClientInfo)
	s.version, s.questions = version, questionsIn(params.Capabilities)
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
	x.answerResult(d.result(false,
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
	x.answerResult(d.result(true,
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
func (x *exchange) describeAll(servers []*grants.Server) *descriptions {
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
				x.handler.watchers.notify(x.principal(), d.has.changes())
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
	all := &descriptions{}
	for _, server := range servers {
		if d, described := x.description(server); described {
			all.add(server.Name, d.has, x.instructions(server, d))
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

// capabilities are those of a server that /mcp passes on.
type capabilities struct {
	tools, prompts, resources, subscribe, completions, logging bool

	apps, tasksExtension             bool // extensions
	tasks, tasksList, tasksCancelled bool // those of 2025-11-25: of tools, and what can be done with them
}

// or returns the capabilities that at least one of both has.
func (c capabilities) or(d capabilities) capabilities {
	return capabilities{
		tools: c.tools || d.tools, prompts: c.prompts || d.prompts,
		resources: c.resources || d.resources, subscribe: c.subscribe || d.subscribe,
		completions: c.completions || d.completions, logging: c.logging || d.logging,
		apps: c.apps || d.apps, tasksExtension: c.tasksExtension || d.tasksExtension,
		tasks: c.tasks || d.tasks, tasksList: c.tasksList || d.tasksList, tasksCancelled: c.tasksCancelled || d.tasksCancelled,
	}
}

// list reports whether the server has such a list. All servers are asked for tools, which
// most have, whatever they declare.
func (c capabilities) list(kind rewrite.Kind) bool {
	switch kind {
	case rewrite.Tools:
		return true
	case rewrite.Prompts:
		return c.prompts
	case rewrite.Tasks:
		return c.tasksList
	default:
		return c.resources
	}
}

// description is a server's answer to initialize or server/discover.
type description struct {
	has          capabilities
	version      string                // of the session
	instructions unique.Handle[string] // most clients are told the same
}

// maxVersion bounds a server's protocol version, which is kept with each session and is
// sent with each request.
const maxVersion = 64

var errLongVersion = errors.New("the server's protocol version is longer than any")

// readDescription reads a response to initialize or server/discover.
func readDescription(message []byte) (description, error) {
	var m struct {
		Result struct {
			ProtocolVersion string `json:"protocolVersion"`
			Instructions    string `json:"instructions"`
			Capabilities    struct {
				Tools, Prompts, Completions, Logging *struct{}
				Resources                            *struct{ Subscribe bool }
				Extensions                           map[string]json.RawMessage
				Tasks                                struct {
					List, Cancel *struct{}
					Requests     struct{ Tools struct{ Call *struct{} } }
				}
			} `json:"capabilities"`
		} `json:"result"`
	}
	if err := json.Unmarshal(message, &m); err != nil {
		return description{}, err
	}
	if len(m.Result.ProtocolVersion) > maxVersion {
		return description{}, errLongVersion
	}
	if len(m.Result.Instructions) > maxInstructions {
		m.Result.Instructions = "" // they would be left out anyway
	}
	c := m.Result.Capabilities
	session := m.Result.ProtocolVersion != "" // which has the tasks of 2025-11-25, and not the extension's
	return description{
		has: capabilities{
			tools: c.Tools != nil, prompts: c.Prompts != nil,
			resources: c.Resources != nil, subscribe: c.Resources != nil && c.Resources.Subscribe,
			completions: c.Completions != nil, logging: c.Logging != nil,
			apps: c.Extensions[protocol.ExtensionApps] != nil, tasksExtension: !session && c.Extensions[protocol.ExtensionTasks] != nil,
			tasks: session && c.Tasks.Requests.Tools.Call != nil, tasksList: c.Tasks.List != nil, tasksCancelled: c.Tasks.Cancel != nil,
		},
		version:      m.Result.ProtocolVersion,
		instructions: unique.Make(m.Result.Instructions),
	}, nil
}

// description returns how the server has described itself to the client, or else to the
// gateway. Requests without a session ask it in the gateway's name.
func (x *exchange) description(server *grants.Server) (description, bool) {
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
func (x *exchange) capabilities(server *grants.Server) (has capabilities, known bool) {
	asker := gatewayItself
	if x.session != nil {
		if r := x.session.readyRoute(server.Name); r != nil && r.upstream.server.ID == server.ID {
			return r.has, true
		}
		asker = x.principal()
	}
	d, known := x.stateOf(server).description(asker)
	return d.has, known
}

// maxInstructions bounds the servers' instructions in bytes: clients show them to a model.
const maxInstructions = 32 << 10

// descriptions are those of all servers, as one.
type descriptions struct {
	has          capabilities
	instructions strings.Builder
}

func (d *descriptions) add(server string, has capabilities, text string) {
	d.has = d.has.or(has)
	if text == "" || d.instructions.Len()+len(text) > maxInstructions {
		return
	}
	if d.instructions.Len() > 0 {
		d.instructions.WriteString("\n\n")
	}
	d.instructions.WriteString("# " + server + "\n\n" + text)
}

// result is the answer, with further members in front. All lists are announced as changing,
// since the client's access may change at any time.
func (d *descriptions) result(stateless bool, first ...[]byte) []byte {
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
	if d.has.tasks && !stateless {
		has = append(has, protocol.Member("tasks", protocol.Object(
			empty("list", d.has.tasksList), empty("cancel", d.has.tasksCancelled),
			protocol.Member("requests", protocol.Object(protocol.Member("tools", protocol.Object(empty("call", true))))))))
	}
	if tasks := d.has.tasksExtension && stateless; d.has.apps || tasks {
		has = append(has, protocol.Member("extensions", protocol.Object(
			empty(protocol.ExtensionApps, d.has.apps), empty(protocol.ExtensionTasks, tasks))))
	}
	members := append(slices.Clone(first), protocol.Member("capabilities", protocol.Object(has...)))
	if d.instructions.Len() > 0 {
		members = append(members, protocol.StringMember("instructions", d.instructions.String()))
	}
	return protocol.Object(members...)
}
