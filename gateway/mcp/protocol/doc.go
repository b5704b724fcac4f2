// Package protocol holds the words of the Model Context Protocol and of JSON-RPC
// that the gateway uses: methods, error codes, headers, protocol versions, keys of
// _meta. It also builds the messages that the gateway sends in its own name. No other
// package puts JSON together.
//
// The packages below it read and change messages:
//
//   - jsonscan steps over JSON text without building values.
//   - envelope reads one message strictly, once, and finds its parts. It
//     also has the reader of objects that guards keys, and the splicer.
//   - names joins the names of many servers, and takes them apart again.
//   - rewrite changes names in messages, and merges lists.
//   - itemlist cuts denied items out of lists.
//   - sse reads and writes streams of server-sent events.
//
// None of them knows clients, servers or grants.
package protocol
