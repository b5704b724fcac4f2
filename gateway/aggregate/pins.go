package aggregate

import (
	"vault-plugin-secrets-mcp/backend/pin"
	"vault-plugin-secrets-mcp/gateway/aggregate/messages"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/rewrite"
	"vault-plugin-secrets-mcp/gateway/pins"
)

// A server's answer has come through its own endpoint, where its pins cut definitions without
// approval. But this package keeps lists and instructions, and shows them later, when less may be
// approved, or more. So it judges them again whenever it shows them, by the pins of then: entries
// of lists by the digests of the server's own texts, and instructions by their text.

// judge returns the judge by the present pins of the server; nil, with which everything passes, if
// it has none.
func (h *Handler) judge(server *grants.Server) *pins.Judge {
	if server == nil {
		return nil // the sub-request to it is refused
	}
	return h.options.Pins.Of(server)
}

// listJudge returns the judge of a server's list, and the kind of definition of its entries. ok is
// false if the list needs no judge: in observe mode, too, since definitions without approval were
// told when the list came.
func (h *Handler) listJudge(server *grants.Server, list rewrite.Kind) (judge *pins.Judge, kind pin.Kind, ok bool) {
	judge, kind = h.judge(server), list.Definition()
	return judge, kind, kind != "" && judge.Enforces(kind)
}

// digests returns the function for the digests of the entries of a server's list; nil if the list
// needs no judge.
func (h *Handler) digests(server *grants.Server, list rewrite.Kind) func(entry []byte) (pin.Digest, bool) {
	judge, kind, ok := h.listJudge(server, list)
	if !ok {
		return nil
	}
	return func(entry []byte) (pin.Digest, bool) { return judge.Digest(kind, entry) }
}

// approves returns the function that judges the entries of a server's list by their digests; nil if
// the list needs no judge. A list that has come before it was pinned has none, and shows nothing until the
// server has answered again.
func (h *Handler) approves(server *grants.Server, list rewrite.Kind) func(name string, digest pin.Digest) bool {
	judge, kind, ok := h.listJudge(server, list)
	if !ok {
		return nil
	}
	return func(name string, digest pin.Digest) bool { return judge.Approves(kind, name, digest) }
}

// instructions returns those of a server that the client may have now. They are judged as the client
// gets them, however the server has spelled them.
func (x *exchange) instructions(server *grants.Server, d messages.Description) string {
	text, judge := d.Instructions.Value(), x.handler.judge(server)
	if text == "" || judge.Approved(pin.Instructions, protocol.AppendString(nil, text)) {
		return text
	}
	x.request.Unapproved(1)
	if judge.Enforces(pin.Instructions) {
		return ""
	}
	return text
}

// mayHave reports whether the client's present rules and the server's present pins let the client
// have the resource.
func (x *exchange) mayHave(server, uri string) bool {
	return x.request.Rules(server).Resources.Allows(uri) &&
		x.handler.judge(x.handler.options.Registry.Servers()[server]).Admits(pin.Resource, uri)
}
