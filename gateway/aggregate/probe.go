package aggregate

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"time"

	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
)

// errNoEra: the server speaks no version of the protocol that could be used.
var errNoEra = errors.New("the server speaks no version of the protocol that can be used here")

// way returns the way to the part's server, and makes it ready.
func (x *exchange) way(p *part) (*way, error) {
	if x.session != nil {
		return x.session.way(p)
	}
	stateless, err := p.statelessEra()
	if err != nil {
		return nil, err
	}
	if stateless {
		d, _ := p.known().describe()
		return &way{kind: direct, server: p.server().Name, has: d.has}, nil
	}
	if x.own != nil {
		return x.own.way(p)
	}
	s, err := x.hiddenSession()
	if err != nil {
		return nil, err
	}
	defer s.release()
	return s.way(p)
}

// statelessEra reports whether the server speaks the era without sessions. It is
// asked where that is not known.
func (p *part) statelessEra() (bool, error) {
	stateless, _ := p.known().eras(time.Now())
	if stateless != unknown {
		return stateless == spoken, nil
	}
	ask := p.x.part(p.context, p.x.partID(p.server().Name), http.MethodPost, p.server().Name)
	defer ask.end()
	if ask.refusal != nil {
		return false, ask.refusal
	}
	header := p.x.ownHeader()
	header[protocol.HeaderVersion] = []string{protocol.VersionStateless}
	header[protocol.HeaderMethod] = []string{protocol.MethodDiscover}
	answer, err := ask.ask(header, p.x.handler.discoverMessage())
	var refused *serverError
	switch {
	case err == nil && answer.status == http.StatusAccepted:
		refused = &serverError{} // it takes the question for something else
	case err == nil:
		d, err := describe(answer.body)
		if err != nil {
			return false, err
		}
		if supportsStateless(answer.body) {
			p.known().learn(spoken, unknown, &d)
			return true, nil
		}
		refused = &serverError{}
	case errors.Is(err, errNoAnswer):
		refused = &serverError{} // it takes the question for something else
	case !errors.As(err, &refused), refused.code == 0 && teachesNothing(refused.status):
		return false, err
	}
	if refused.code == protocol.CodeHeaderMismatch || refused.code == protocol.CodeMissingCapability ||
		refused.code == protocol.CodeUnsupportedVersion && supportsStateless(answer.body) {
		p.known().learn(spoken, unknown, nil)
		return true, nil
	}
	p.known().learn(unspoken, unknown, nil)
	return false, nil
}

// supportsStateless reports whether the era's version is among those that a
// server says that it supports: in its answer, or in an error.
func supportsStateless(message []byte) bool {
	var m struct {
		Result struct{ SupportedVersions []string }
		Error  struct{ Data struct{ Supported []string } }
	}
	return json.Unmarshal(message, &m) == nil &&
		(slices.Contains(m.Result.SupportedVersions, protocol.VersionStateless) ||
			slices.Contains(m.Error.Data.Supported, protocol.VersionStateless))
}

// info is what the gateway calls itself.
func (h *Handler) info() []byte {
	return protocol.Implementation("mcp-gateway", h.options.Version)
}

// discoverMessage asks a server which versions it speaks.
func (h *Handler) discoverMessage() []byte {
	return protocol.Request([]byte(`"discover"`), protocol.MethodDiscover, protocol.DiscoverParams(h.info()))
}

// helloMessage begins a session that the gateway holds for a client that knows
// none. It offers nothing that a server could ask for.
func (h *Handler) helloMessage() []byte {
	return protocol.Request([]byte(`"initialize"`), protocol.MethodInitialize, protocol.InitializeParams(protocol.LatestSessionVersion, h.info()))
}
