package aggregate

import (
	"encoding/json"
	"net/http"
	"slices"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/rewrite"
)

// maxSubscriptions bounds the resources that a session subscribes to on each
// server without sessions, and those that one stream listens to.
const maxSubscriptions = 1024

// interestIn is what the session's client wants to hear of one server.
func (s *session) interestIn(server string) interest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return interest{lists: changedAll, resources: slices.Clone(s.subscribed[server])}
}

// subscribeRaised notes that a client with a session subscribes to a resource of
// a server that knows none, or does so no longer: that server hears of it with
// the next stream.
func (x *exchange) subscribeRaised(p *part, v *way, target rewrite.Target) *access.Refusal {
	if !v.has.subscribe {
		return x.rpc(&access.Refusal{
			Status: http.StatusOK, Reason: reasonMethod, Message: "The server has no subscriptions.",
		}, protocol.CodeMethodNotFound)
	}
	if len(target.Name) > maxURI {
		return x.tooLong()
	}
	p.request.Method = x.message.Method
	if err := p.request.Decide(access.Decision{Allow: true, Reason: access.ReasonAllowed}); err != nil {
		return access.AuditRefusal()
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
	f := s.feed
	s.mu.Unlock()
	if changed && f != nil {
		f.renew(target.Server)
	}
	x.free()
	x.answerResult([]byte("{}"))
	p.request.Outcome(http.StatusOK, 0, nil)
	return nil
}

// stringOf is the value of a JSON string; "" if it is none.
func stringOf(raw []byte) string {
	var text string
	if json.Unmarshal(raw, &text) != nil {
		return ""
	}
	return text
}
