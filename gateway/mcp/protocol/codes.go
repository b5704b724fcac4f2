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

	// CodeHeaderMismatch: a request's headers contradict its body. The status is
	// 400.
	CodeHeaderMismatch = -32020

	CodeMissingCapability  = -32021
	CodeUnsupportedVersion = -32022
)

// The protocol wants 404 for a session id that is not the client's, and clients then
// start a new session. Many clients also look at the code and the words of the
// TypeScript SDK, for any kind of message.
const (
	CodeNoSession    = -32001
	MessageNoSession = "Session not found: initialize a new one."
)
