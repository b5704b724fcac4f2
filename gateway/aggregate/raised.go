package aggregate

import (
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
)

// raise has a request of a session say what the era without sessions says in
// each: the version, and who the client is. Of its capabilities it says none:
// what a server would ask for in an answer, a client of the older era could not
// give.
func raise(message, info []byte) ([]byte, error) {
	meta := protocol.ClientMeta(info)

	top, err := members(message, whole(message))
	if err != nil {
		return nil, err
	}
	params, found := find(top, "params")
	if !found || !isObject(params.raw) {
		added := protocol.Member("params", protocol.Object(protocol.Member("_meta", protocol.Object(meta...))))
		return protocol.Object(append(texts(top, "params"), added)...), nil
	}
	inner, err := members(message, params.at)
	if err != nil {
		return nil, err
	}
	if old, found := find(inner, "_meta"); found && isObject(old.raw) {
		list, err := members(message, old.at)
		if err != nil {
			return nil, err
		}
		kept := texts(list, protocol.MetaProtocolVersion, protocol.MetaClientInfo, protocol.MetaClientCapabilities)
		return envelope.Replace(nil, message, envelope.Part{Span: old.at, Text: protocol.Object(append(meta, kept...)...)}), nil
	}
	added := protocol.Member("_meta", protocol.Object(meta...))
	return envelope.Replace(nil, message,
		envelope.Part{Span: params.at, Text: protocol.Object(append(texts(inner, "_meta"), added)...)}), nil
}

// texts returns the members but those of the given keys.
func texts(list []member, but ...string) [][]byte {
	kept := make([][]byte, 0, len(list)+1)
next:
	for _, m := range list {
		for _, key := range but {
			if m.key == key {
				continue next
			}
		}
		kept = append(kept, m.text)
	}
	return kept
}
