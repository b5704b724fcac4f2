package aggregate

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"unique"

	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/rewrite"
)

// capabilities are those of a server that /mcp passes on.
type capabilities struct {
	tools, prompts, resources, subscribe, completions, logging bool
}

// or returns the capabilities that at least one of both has.
func (c capabilities) or(d capabilities) capabilities {
	return capabilities{
		tools: c.tools || d.tools, prompts: c.prompts || d.prompts,
		resources: c.resources || d.resources, subscribe: c.subscribe || d.subscribe,
		completions: c.completions || d.completions, logging: c.logging || d.logging,
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
	return description{
		has: capabilities{
			tools: c.Tools != nil, prompts: c.Prompts != nil,
			resources: c.Resources != nil, subscribe: c.Resources != nil && c.Resources.Subscribe,
			completions: c.Completions != nil, logging: c.Logging != nil,
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
		if d, described := state.description(x.client()); described {
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
		asker = x.client()
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

func (d *descriptions) add(server string, one description) {
	d.has = d.has.or(one.has)
	text := one.instructions.Value()
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
	members := append(slices.Clone(first), protocol.Member("capabilities", protocol.Object(has...)))
	if d.instructions.Len() > 0 {
		members = append(members, protocol.StringMember("instructions", d.instructions.String()))
	}
	return protocol.Object(members...)
}
