package protocol

// MessageNoClient refuses a server's request where no client could answer it.
const MessageNoClient = "No client is connected that could answer."

// Implementation builds the value by which a program names itself.
func Implementation(name, version string) []byte {
	return Object(StringMember("name", name), StringMember("version", version))
}

// InitializeParams builds the params of a session that the gateway begins in its own
// name. capabilities are those of the client that it begins the session for; nil are none,
// where no client could answer a server's requests.
func InitializeParams(version string, info, capabilities []byte) []byte {
	return Object(StringMember("protocolVersion", version), Member("capabilities", orNone(capabilities)), Member("clientInfo", info))
}

// DiscoverParams builds the params of the gateway's own server/discover.
func DiscoverParams(info []byte) []byte {
	return Object(Member("_meta", Object(ClientMeta(info, nil)...)))
}

// ClientMeta builds the members of _meta that every request of the stateless era must
// have. info names the client, and may be empty. capabilities are the client's; nil are
// none, where no client could answer what a server asks.
func ClientMeta(info, capabilities []byte) [][]byte {
	meta := make([][]byte, 0, 4)
	meta = append(meta, StringMember(MetaProtocolVersion, VersionStateless))
	if len(info) > 0 {
		meta = append(meta, Member(MetaClientInfo, info))
	}
	return append(meta, Member(MetaClientCapabilities, orNone(capabilities)))
}

// orNone returns the capabilities, or those of a client without any.
func orNone(capabilities []byte) []byte {
	if len(capabilities) == 0 {
		return []byte("{}")
	}
	return capabilities
}
