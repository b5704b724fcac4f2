package protocol

// MessageNoClient answers what a server asks of a client where none could answer.
const MessageNoClient = "No client is connected that could answer."

// Implementation builds the value by which a program says who it is.
func Implementation(name, version string) []byte {
	return Object(StringMember("name", name), StringMember("version", version))
}

// InitializeParams builds the params by which the gateway begins a session in its own
// name. It offers no capabilities: a server has nothing that it could ask for.
func InitializeParams(version string, info []byte) []byte {
	return Object(StringMember("protocolVersion", version), Member("capabilities", []byte("{}")), Member("clientInfo", info))
}

// DiscoverParams builds the params by which the gateway asks a server for what it
// supports.
func DiscoverParams(info []byte) []byte {
	return Object(Member("_meta", Object(ClientMeta(info)...)))
}

// ClientMeta builds the members of _meta that every request of a version without
// sessions must have. info says who the client is; nothing without it. There are no
// capabilities: a server has nothing that it could ask for.
func ClientMeta(info []byte) [][]byte {
	meta := make([][]byte, 0, 4)
	meta = append(meta, StringMember(MetaProtocolVersion, VersionStateless))
	if len(info) > 0 {
		meta = append(meta, Member(MetaClientInfo, info))
	}
	return append(meta, Member(MetaClientCapabilities, []byte("{}")))
}
