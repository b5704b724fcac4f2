// Package http1 serves HTTP/1.1 to an [http.Handler] with one goroutine for each connection.
// net/http starts another for each request, to notice that its client goes; these wake-ups cost more
// than all parsing. So it is the one exception to "a kept library beats our own code".
//
// Reading. A connection has one buffer of 4 KB, which holds a header and a small body after one
// read. The header is read by lines until the empty one. Its bytes are counted, and bare LFs
// refused, before anything is parsed; fields are bounded in number, too. All strings of a request
// are parts of one copy of its header. What RFC 9112 leaves to lenience is refused: see head_test.go.
// Where a body ends is decided in one place, [head.framing]. Large reads of a body bypass the
// buffer. What follows a request stays in the buffer until the handler has returned, so requests in
// a row are answered in order.
//
// Deadlines. The reader notes until when it has patience ([input.until]), and sets the connection's
// deadline only if that has none, or a later one. So an alarm may come too early, and is then set
// again; a busy connection does that every ten seconds, and not for each request. A connection that
// has waited so long for a request gives its buffer away, and reads a single byte first. Writes are
// bounded by the connection that the listener returns, and by the handler's own deadlines.
//
// The client's going. The lookout sees every 10 ms which connections have a request in flight. One
// that it sees twice is watched by epoll for the end of its client's side, without a goroutine or a
// read. So its context ends within 20 ms, and the time that goroutines wait. A client that has
// ended its own side alone has gone, as for net/http; what it has asked is answered nevertheless, if
// the handler is quick or does not mind its context. A write that fails cancels its request as well.
//
// Answers. Up to 4 KB wait for more. A short answer goes out by one write, with its length; a long
// one by one writev. Flush sends what waits, and gives away the answer's buffers and the
// connection's, so that a stream holds none between two events. HTTP/1.0 gets no chunks and no
// second request; an answer that breaks off there is reset. Whatever a handler sets, the framing
// is ours, and no value has CR, LF or NUL.
//
// Bodies. Another goroutine than the handler's may read a body, and may outlive the handler. What
// is left of one is read before the answer, up to 256 KB; else the connection ends.
//
// The end. [Server.Shutdown] closes the listener. Each answer from then on ends its connection. One
// that waits is read for 50 ms more: its deadline is moved, nothing is closed from outside, so no
// request that has arrived is dropped. A connection whose client still sends is read for half a
// second, so that the answer is not lost by a reset.
package http1
