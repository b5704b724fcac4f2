// Package aggregate serves /mcp: all servers that a client may reach, as one.
//
// It is a client of the proxy. A request to /mcp becomes one sub-request to the server
// that it names, or one to each server. Each sub-request goes to the server's own
// endpoint, in process: the allow-list, the policy and the rules admit it, the audit
// log records it, and a revocation cancels it. This package decides nothing itself,
// but leaves resources that the rules deny out of what it subscribes to for the client.
//
// On the way only names change: of a tool or a prompt (server__name), of a resource
// (mcp://server/…), and the ids under which servers ask the client something. All other
// bytes stay as they are.
//
// A list asks all servers at once and merges their answers. A server that is slow or dead
// costs only its own entries.
//
// A [route] is how messages get from a client to one server and back. If both have
// sessions, or neither, messages pass. Otherwise the gateway translates: for a client
// without sessions it keeps an implicit session with the server, and for a server without
// sessions it adds to each request the _meta that such servers need. What a server asks its client
// in the middle of a call is translated, too: a call of a client without sessions waits for the
// answer, and a client with a session gets requests (questions.go).
//
// Where to read first: exchange.go dispatches a request, call.go sends one to one server,
// list.go asks all servers, stream.go sends notifications of all servers to one client.
package aggregate
