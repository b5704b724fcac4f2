package mcp

import (
	"io"
	"net/http"

	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/mcp/bridge"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
	"vault-plugin-secrets-mcp/gateway/usage"
)

// ToolLists takes servers' lists of tools: [usage.Recorder].
type ToolLists interface {
	// WantsList reports whether to give it the answer to a request for the server's tools.
	WantsList(registration string) bool
	// Listed takes such an answer, or a stream of events with it, and keeps the bytes.
	Listed(registration string, data []byte, events bool)
}

// wantsList reports whether the answer to the request is a list whose names become known.
func (x *exchange) wantsList(h *Handler) bool {
	return x.message.Method == protocol.MethodToolsList && x.message.Kind == envelope.Request &&
		h.toolLists != nil && h.toolLists.WantsList(x.server.ID)
}

// listBody is the body of an answer with a list of tools, which it copies as it passes.
type listBody struct {
	io.ReadCloser
	lists  ToolLists
	server *grants.Server
	events bool
	copied []byte
	over   bool // it is read to its end, or too long
}

// copyList has the names in the response's list become known.
func (a *Answer) copyList(response *http.Response) {
	if a.wantsList(a.handler) {
		response.Body = &listBody{ReadCloser: response.Body, lists: a.handler.toolLists, server: a.server, events: a.Stream}
	}
}

func (b *listBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.over {
		return n, err
	}
	if len(b.copied)+n > usage.MaxList {
		b.copied, b.over = nil, true
		return n, err
	}
	b.copied = append(b.copied, p[:n]...)
	if err != nil {
		b.pass()
	}
	return n, err
}

// Close passes on what was read: a body whose length is known is not read to its end.
func (b *listBody) Close() error {
	b.pass()
	return b.ReadCloser.Close()
}

func (b *listBody) pass() {
	if !b.over && len(b.copied) > 0 {
		b.lists.Listed(b.server.ID, b.copied, b.events)
	}
	b.copied, b.over = nil, true
}

// copyList has the names in the channel's answer become known.
func (c *conversation) copyList(item *bridge.Item) {
	if item.Final && len(item.Message) <= usage.MaxList && c.wantsList(c.handler) {
		c.handler.toolLists.Listed(c.server.ID, append([]byte(nil), item.Message...), false)
	}
}
