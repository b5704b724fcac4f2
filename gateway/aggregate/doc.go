// Package aggregate serves /mcp: all servers that a client may reach, as one.
//
// It decides nothing. What a client asks of one server becomes a request to
// that server's own endpoint, in process: admitted there by the allow-list, the
// policy and the tool rules, recorded in the audit log and cut by a revocation
// like any other. All that is changed on the way are names: of a tool or prompt
// (server__name), of a resource (mcp://server/…), and the ids under which
// servers ask something of the client. All other bytes stay what they are.
//
// Lists are asked of all servers at once, and merged. A server that is slow or
// dead costs its own entries alone.
//
// A [way] is how messages of one client get to one server. Where both belong to
// the same of the protocol's two eras they pass as they are. Otherwise the
// gateway stands in for what one side does not know: it holds a session with
// the server for a client that knows none, or says with each request what a
// client has said at the start of its session.
package aggregate
