package protocol

// MessageNoClient refuses a server's request where no client could answer it.
const MessageNoClient = "No client is connected that could answer."

// Implementation builds the value by which a program names itself.
func Implementation(name, version string) []byte {
	return Object(StringMember("name", name), StringMember("version", version))
}

// InitializeParams builds the params of a session that the gateway begins in its own
// name. It offers no capabilities, since no client could answer a server's requests.
func InitializeParams(version string, info []byte) []byte {
	return Object(StringMember("protocolVersion", version), Member("capabilities", []byte("{}")), Member("clientInfo", info))
}

// DiscoverParams builds the params of the gateway's own server/discover.
func DiscoverParams(info []byte) []byte {
	return Object(Member("_meta", Object(ClientMeta(info)...)))
}

// ClientMeta builds the members of _meta that every request of the stateless era must
// have. info names the client, and may be empty. There are no capabilities, since no
// client could answer a server's requests.
func ClientMeta(info []byte) [][]byte {
	meta := make([][]byte, 0, 4)
	meta = append(meta, StringMember(MetaProtocolVersion, VersionStateless))
	if len(info) > 0 {
		meta = append(meta, Member(MetaClientInfo, info))
	}
	return append(meta, Member(MetaClientCapabilities, []byte("{}")))
}
