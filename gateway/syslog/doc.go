// Package syslog sends messages to a syslog server: in the form of RFC 5424, over TCP and
// TLS with octet counting (RFC 6587 section 3.4.1, RFC 5425), over a stream of a unix socket
// with a line feed at each message's end, as the receivers there read it, and as datagrams of
// a unix socket.
//
// The protocol has no acknowledgement. That a message was sent means that the operating system
// has taken it for a connection that is alive as far as this side can know: the server has not
// closed it, and has confirmed earlier bytes, by TCP, within a few seconds.
package syslog
