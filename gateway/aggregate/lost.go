package aggregate

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
)

// The protocol wants 404 for a session that a server does not know. Many servers
// answer with something else, above all after a restart. So any failing answer
// puts the session in doubt, and the next request begins another one: a session
// that was lost costs one request, and not all of them.

// verdict is what an answer says of the session in which it was given.
type verdict uint8

const (
	holds   verdict = iota // nothing
	doubted                // it may have ended
	gone                   // the server does not know it: the request was not carried out
)

// judge says what an answer means for the session. The reason is that of the
// gateway's own refusal; "" if the answer is the server's.
func judge(status int, reason string, body []byte) verdict {
	switch {
	case status == http.StatusNotFound && (reason == "" || reason == reasonSession):
		return gone
	case reason == reasonUnreachable, reason == reasonUpstreamStatus:
		return doubted
	case reason != "" || teachesNothing(status) && status != http.StatusForbidden:
		return holds
	case status == http.StatusBadRequest && bytes.Contains(bytes.ToLower(body), []byte("session")):
		return gone
	case status >= http.StatusBadRequest, deniesSession(body):
		return doubted
	}
	return holds
}

// teachesNothing reports whether the status is about one request alone: how
// large it is, how often there is one, and whether its client may.
func teachesNothing(status int) bool {
	switch status {
	case http.StatusForbidden, http.StatusRequestTimeout, http.StatusRequestEntityTooLarge, http.StatusTooManyRequests,
		http.StatusRequestHeaderFieldsTooLarge:
		return true
	}
	return false
}

// maxDenial bounds the errors that are read: what is longer is about something
// else.
const maxDenial = 4 << 10

// denials are words in which servers say that they do not know a session.
var denials = []string{
	"not found", "not exist", "not initialized", "not valid", "no valid", "no such", "no active", "invalid", "missing",
	"unknown", "expired", "terminated", "closed",
}

// deniesSession reports whether a message is an error that says that there is no
// such session.
func deniesSession(body []byte) bool {
	if len(body) > maxDenial || !bytes.Contains(body, []byte(`"error"`)) {
		return false
	}
	var m struct{ Error struct{ Message string } }
	if json.Unmarshal(body, &m) != nil {
		return false
	}
	text := strings.ToLower(m.Error.Message)
	if !strings.Contains(text, "session") {
		return strings.Contains(text, "server not initialized")
	}
	for _, words := range denials {
		if strings.Contains(text, words) {
			return true
		}
	}
	return false
}

// isRepeatable reports whether a request may be carried out twice: it only
// reads.
func isRepeatable(method string) bool { return method != protocol.MethodToolsCall }

// drop has the next request begin another session, where the verdict is that
// this one may have ended.
func (v *way) drop(x *exchange, of verdict, status int, reason string) {
	if of == holds || v.session == "" {
		return
	}
	v.lost()
	if v.kind == hidden && of == gone {
		x.handler.servers.of(v.leg.server.ID).endsSessions.Store(true)
	}
	if log := x.handler.log; x.handler.losses.Allow() {
		log.Info("a server has refused a request in a session that the gateway holds with it: the next request begins another session",
			"server", v.server, "client", x.request.Grant.Client, "status", status, "reason", reason, "session_unknown", of == gone)
	}
	if of == doubted {
		v.leg.mu.Lock()
		defer v.leg.mu.Unlock()
		v.abandoned = true // released by a request that is in it
	}
}

// use counts a request in the way's session.
func (v *way) use() {
	if v.leg == nil {
		return
	}
	v.leg.mu.Lock()
	defer v.leg.mu.Unlock()
	v.uses++
}

// release undoes use. The last one ends a session that was abandoned.
func (v *way) release(x *exchange) {
	if v.leg == nil {
		return
	}
	v.leg.mu.Lock()
	v.uses--
	last := v.uses == 0 && v.abandoned
	v.leg.mu.Unlock()
	if last {
		go x.endSession(v)
	}
}

// endSession tells the server that its session is not needed any more.
func (x *exchange) endSession(v *way) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(x.r.Context()), cancelTimeout)
	defer cancel()
	x.deleteSession(ctx, v)
}

// deleteSession ends the session with the server. Servers need not allow it.
func (x *exchange) deleteSession(ctx context.Context, v *way) {
	p := x.part(ctx, x.partID(v.server), http.MethodDelete, v.server)
	defer p.end()
	if p.refusal == nil {
		_, _ = p.ask(v.ownHeader(x), nil)
	}
}
