package aggregate

import (
	"context"
	"strconv"

	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
)

// interest is what a client wants to hear of one server.
type interest struct {
	lists     changes
	resources []string // URIs on the server
}

func (i interest) empty() bool { return i.lists == 0 && len(i.resources) == 0 }

// listenMessage asks a server without sessions for what a client wants to hear
// of it: in the client's own message, if it has sent one.
func (x *exchange) listenMessage(wants interest) ([]byte, error) {
	filter := protocol.Object(
		flag("toolsListChanged", wants.lists&changedTools != 0),
		flag("promptsListChanged", wants.lists&changedPrompts != 0),
		flag("resourcesListChanged", wants.lists&changedResources != 0),
		uris("resourceSubscriptions", wants.resources))
	if x.session != nil {
		message := protocol.Request([]byte(`"listen"`), protocol.MethodListen, protocol.Object(protocol.Member("notifications", filter)))
		return raise(message, x.session.info)
	}
	params, err := members(x.message.Data, x.message.Params)
	if err != nil {
		return nil, err
	}
	added := protocol.Member("notifications", filter)
	return envelope.Replace(nil, x.message.Data, envelope.Part{
		Span: x.message.Params, Text: protocol.Object(append(texts(params, "notifications"), added)...),
	}), nil
}

// flag is a member that is true; nothing if it is not set.
func flag(key string, set bool) []byte {
	if !set {
		return nil
	}
	return protocol.Member(key, []byte("true"))
}

// uris is a member with a list of strings; nothing without any.
func uris(key string, list []string) []byte {
	if len(list) == 0 {
		return nil
	}
	return protocol.Member(key, protocol.Strings(list))
}

// subscribe has a server with sessions tell of changes of the resources.
func (x *exchange) subscribe(ctx context.Context, v *way, resources []string) {
	for _, uri := range resources {
		id := strconv.AppendInt(nil, v.leg.lastID.Add(1), 10)
		message := protocol.Request(id, protocol.MethodSubscribe, protocol.Object(protocol.StringMember("uri", uri)))
		if err := x.tell(ctx, v, message); err != nil {
			x.handler.log.Debug("a resource cannot be subscribed to", "server", v.server, "error", err)
		}
	}
}

// changes are the lists that a server with these capabilities has.
func (c capabilities) changes() changes {
	var all changes
	if c.tools {
		all |= changedTools
	}
	if c.prompts {
		all |= changedPrompts
	}
	if c.resources {
		all |= changedResources
	}
	return all
}
