// Package direct speaks HTTP/1.1 with a server on the goroutine of whoever asks it, in the clear and
// over TLS. http.Transport has one goroutine write and another one read for each connection; waking
// them takes longer than all else that the gateway does with a small message. A server that offers
// HTTP/2 is spoken to by http.Transport all the same.
//
// The connections are shared by all clients of the gateway, so an answer must never be taken for that
// to another request. A connection serves another request only if the one before was sent to its last
// byte, its answer had one framing and was read to its end, nothing was left behind it, and nothing has
// come since ([conn.free], [conn.quiet]). Over TLS the layer itself is asked: tickets and key updates
// pass, anything else ends the connection.
//
// Sending. The head and a small body are one write, a large body is one vector. Nobody waits for a
// server that takes no more: after [blockPatience] a goroutine sends the rest, and the answer is read
// meanwhile, since there may be one already. TLS cannot go on after a write that was interrupted, so
// its records are held in memory until they are on the socket.
//
// Deadlines. The reader notes until when it has patience, and the socket keeps whatever earlier
// deadline it has: an alarm that comes too early now and then costs less than deadlines for each
// request. The first alarm after [watchAfter] also has the request's context watched, so that most
// requests, which are over before, need no watch. Whoever reads on looks at the context itself.
package direct
