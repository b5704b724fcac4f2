// Package rewrite changes names and URIs in the messages between one client and many
// servers, so that they are unique among all servers. In requests it changes the
// client's form to the server's, in all other messages the server's form to the
// client's. It also reads lists, and merges those of many servers into one.
//
// It works on the messages' bytes. It keeps every byte that is not part of a name, even
// the spelling of numbers and unknown members. So client and server can speak any
// version of the protocol.
//
// Parsers could differ about which member is the name (if it occurs twice, or in
// capitals). Rewrite reports such a message as an error, and leaves such an entry out of
// its list. See [vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope] for the reason.
package rewrite
