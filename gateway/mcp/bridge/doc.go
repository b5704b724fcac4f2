// Package bridge lets many HTTP requests speak to servers that have a single
// channel for all messages, in both directions: child processes on stdio, and
// servers of the older HTTP+SSE transport.
//
// On such a channel nothing but the JSON-RPC ids tells what belongs to what, and
// clients all count their ids from zero. So the bridge gives every request an
// id of its own, and puts the client's back into the answer. The same goes for
// progress tokens, subscription ids, and the ids in cancellations; all other
// bytes of a message stay what they are.
//
// A server that knows sessions makes one of its whole channel, at the handshake.
// Clients that shake hands in the same way, byte by byte, share a channel, and
// hear the answer that the first of them got; one with other capabilities gets a
// channel of its own. Without sessions ([Bridge.Call] without a [Session]) a
// client's requests share one channel.
//
// A channel is one client's alone, unless the server is registered as shared.
// On a shared one, what the server says of its own accord cannot be told to be
// meant for one client rather than another: so it is offered no client
// capabilities, and of its notifications only those pass that tell nothing.
package bridge
