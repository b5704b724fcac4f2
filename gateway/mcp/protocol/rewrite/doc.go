// Package rewrite changes names and URIs in the messages between one client and
// many servers, so that they are unique among all the servers: in requests from
// the client's form to the server's, in everything else the other way round. It
// also takes lists apart and merges those of many servers into one.
//
// It works on the messages' bytes: what it does not rename stays what it was,
// down to the spelling of numbers and the members that nobody knows. So what a
// message says is up to client and server, in whatever version of the protocol
// they speak.
//
// Where parsers could differ about which member is the name (two of a kind, one
// in capitals) nothing is renamed: such a message must not be passed on, such an
// entry is left out of its list. See [vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope]
// for why.
package rewrite
