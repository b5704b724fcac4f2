// Package http2 serves HTTP/2 (RFC 9113) on connections over TLS whose clients have chosen it. The
// implementation is net/http's; the package adds bounds that it lacks.
//
// net/http bounds the streams of a connection and the handlers that run for it, the header list,
// the frames that wait to be written, and the time without a stream. It reads as many frames as a
// client sends: streams that are reset as soon as they are open (CVE-2023-44487), or whose reset
// the client provokes (CVE-2025-8671), and frames that ask for nothing (CVE-2019-9511 to 9518). So
// a [conn] between TLS and net/http reads the head of each frame that passes, and keeps two
// accounts. Where streams are reset too often, the connection is left in good order: the streams
// in flight finish, since they may be other clients' of the same proxy. Where too many frames
// bring nothing, the connection ends at once. It does as well where a header does not come to its
// end in time.
//
// Only a connection that is not a [tls.Conn] lets something stand between: net/http serves
// HTTP/2 there without TLS's negotiation, which is over by then.
package http2
