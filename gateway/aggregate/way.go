package aggregate

import (
	"net/http"
	"sync/atomic"

	"vault-plugin-secrets-mcp/gateway/mcp"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/rewrite"
)

// kind tells the four ways from a client to a server apart.
type kind uint8

const (
	direct kind = iota // neither has sessions
	paired             // both have: the client's stands for one with each server
	hidden             // the server has: the gateway holds one for the client
	raised             // the client has: the server is told anew each time
)

// way is how messages of a client get to a server, and back.
type way struct {
	kind    kind
	server  string
	session string // the server's session, sealed; "" if it has given none
	version string // of that session
	leg     *leg   // nil where there is no session
	has     capabilities

	attendance    attendance  // of a session that the gateway holds
	wantsListener atomic.Bool // the server has a use for somebody who listens there

	// Guarded by leg.mu.
	uses      int  // requests that are in the session
	abandoned bool // another session is begun instead

	// listening is for what the server says of its own accord, where that is
	// another way: a server may speak both eras, and remember no sessions.
	listening *way
}

// heardOn is the way for what the server says of its own accord.
func (v *way) heardOn() *way {
	if v.listening != nil {
		return v.listening
	}
	return v
}

// back turns a message of the server into one for the client; nil is one that
// is not for the client.
type back func(m *mcp.Message) ([]byte, error)

// header returns the header of a request to the server. name is what it acts on,
// there; "" if nothing.
func (v *way) header(x *exchange, method, name string) http.Header {
	if v.kind == hidden {
		return v.ownHeader(x) // what else its client says means nothing in the older era
	}
	header, named := x.requestHeader(), hasName(method)
	switch v.kind {
	case direct:
		if header[protocol.HeaderName] != nil && named {
			header[protocol.HeaderName] = []string{envelope.EncodeName(name)}
		}
		return header
	case raised:
		header[protocol.HeaderVersion] = []string{protocol.VersionStateless}
		delete(header, protocol.HeaderMethod)
		delete(header, protocol.HeaderName)
		if method != "" {
			header[protocol.HeaderMethod] = []string{method}
		}
		if named {
			header[protocol.HeaderName] = []string{envelope.EncodeName(name)}
		}
		return header
	case paired:
		if header[protocol.HeaderName] != nil && named {
			header[protocol.HeaderName] = []string{envelope.EncodeName(name)}
		}
	}
	delete(header, protocol.HeaderVersion)
	v.address(header)
	return header
}

// ownHeader is the header of a request that is the gateway's own.
func (v *way) ownHeader(x *exchange) http.Header {
	header := x.ownHeader()
	if v.kind == direct || v.kind == raised {
		header[protocol.HeaderVersion] = []string{protocol.VersionStateless}
	}
	v.address(header)
	return header
}

// address names the session and its version.
func (v *way) address(header http.Header) {
	if v.version != "" {
		header[protocol.HeaderVersion] = []string{v.version}
	}
	if v.session != "" {
		header[protocol.HeaderSession] = []string{v.session}
	}
}

// hasName reports whether requests of the method repeat in a header what they
// act on.
func hasName(method string) bool {
	switch method {
	case protocol.MethodToolsCall, protocol.MethodPromptsGet, protocol.MethodResourcesRead:
		return true
	}
	return false
}

// crossing is one request of a client on its way to a server.
type crossing struct {
	message *mcp.Message // what the server gets
	back    back         // for what it answers
	own     []byte       // the request's id there, if it is not the client's
}

// cross turns a request of the client, in which names are the server's already,
// into one for the server.
func (v *way) cross(x *exchange, m *mcp.Message) (crossing, error) {
	switch v.kind {
	case hidden:
		h := &hiding{x: x, way: v, method: x.message.Method}
		message, err := h.hide(m)
		return crossing{message: message, back: h.back, own: h.own}, err
	case raised:
		message, err := raise(m.Data, x.session.info)
		if err != nil {
			return crossing{}, err
		}
		m, err = mcp.ParseMessage(message)
		return crossing{message: m, back: v.replies(x)}, err
	}
	return crossing{message: m, back: v.replies(x)}, nil
}

// answer renames what the server names.
func (v *way) answer(message []byte) ([]byte, error) { return rewrite.Answer(message, v.server) }
