package protocol

// Error codes of JSON-RPC.
const (
	CodeParseError     = -32700
	CodeInvalidRequest = -32600
	CodeMethodNotFound = -32601
	CodeInvalidParams  = -32602
	CodeInternalError  = -32603
)

// Error codes of MCP.
const (
	CodeResourceNotFound = -32002 // in versions with sessions; later ones have CodeInvalidParams

	// CodeHeaderMismatch says that a request's headers contradict its body. It goes
	// with status 400.
	CodeHeaderMismatch = -32020

	CodeMissingCapability  = -32021
	CodeUnsupportedVersion = -32022
)

// The protocol has a session id that is not the client's answered with 404, by which
// clients start a new session. Many clients go by the code and the words of the
// TypeScript SDK as well, whatever kind of message they have sent.
const (
	CodeNoSession    = -32001
	MessageNoSession = "Session not found: initialize a new one."
)
