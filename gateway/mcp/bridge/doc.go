// Package bridge connects many HTTP requests to servers that have a single channel
// for all messages in both directions: child processes on stdio, and servers of the
// older HTTP+SSE transport.
//
// On such a channel only the JSON-RPC ids show which messages belong together, and
// all clients count their ids from zero. So the bridge gives every request a new id,
// and puts the client's id back into the answer. It does the same for progress
// tokens, subscription ids, and the ids in cancellations. It changes no other byte of
// a message.
//
// In the session era, the whole channel is one session for the server, and the
// handshake (MCP's initialize) begins it. Sessions of one client whose handshakes are
// equal, byte by byte, share a channel, and get the answer to the first handshake. A
// session with other capabilities gets another channel. In the stateless era
// ([Bridge.Call]) a client's requests share one channel.
//
// A channel has one connection: a child process, or a stream of events. It lives with the
// credentials that it was started with. Where these are leased, a successor with newer ones
// is started before they end, in the bridge's own name: it gets the handshake, the level of
// log messages and the subscriptions that the server has. Then it takes the connection's
// place, and sessions do not notice. Requests in flight stay on the connection that they
// were sent over. Where the credentials come to their end and there are no others yet, the
// sessions stay, and the next request that comes with other credentials has a successor
// started.
//
// A channel belongs to one client, unless the server is registered as shared. On a
// shared channel nothing shows which client a server's own message is for. So the
// bridge offers the server no client capabilities, and forwards only those
// notifications that reveal nothing about another client.
package bridge
