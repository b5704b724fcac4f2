package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
)

// upstreamSession is the id of every session of the upstream, which stores none.
const upstreamSession = "bench-session"

// serveUpstream answers until it is killed. The answer depends on the path:
//
//	/json    each message with one of the same size, as JSON
//	/list    the same, but its list of tools is long
//	/fifty   the same with fifty tools, as a large server has
//	/sse     the same as a stream with one event
//	GET      a stream on which nothing ever happens
func serveUpstream(address string, files ...string) error {
	secure, err := tlsOf(files)
	if err != nil {
		return err
	}
	return listen(address, secure, serveUpstreamConn)
}

// listen serves each connection in its own goroutine.
func listen(address string, secure *tls.Config, serve func(net.Conn) error) error {
	listener, err := listenOn(address, secure)
	if err != nil {
		return err
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			_ = serve(conn) // a client that goes away is not an error
		}()
	}
}

func serveUpstreamConn(conn net.Conn) error {
	reader := bufio.NewReaderSize(conn, 4<<10)
	var body, answer []byte
	for {
		m, err := readHead(reader)
		if err != nil {
			return err
		}
		if m.method == "GET" {
			_, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
			if err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, reader) // until the client goes
			return err
		}
		if body, err = m.readBody(reader, body); err != nil {
			return err
		}
		answer = appendAnswer(answer[:0], &m, body)
		if _, err := conn.Write(answer); err != nil {
			return err
		}
	}
}

// appendAnswer appends the whole answer to one message.
func appendAnswer(b []byte, m *message, body []byte) []byte {
	id := idOf(body)
	if m.method != "POST" || len(id) == 0 { // the end of a session, or a notification
		return append(b, "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"...)
	}
	stream := strings.HasPrefix(m.path, "/sse")
	b = append(b, "HTTP/1.1 200 OK\r\nContent-Type: "...)
	if stream {
		b = append(b, "text/event-stream\r\nTransfer-Encoding: chunked\r\n"...)
	} else {
		b = append(b, "application/json\r\n"...)
	}
	if m.session != "" || isMethod(body, "initialize") {
		b = append(b, "Mcp-Session-Id: "+upstreamSession+"\r\n"...)
	}
	message := result(m.path, body, id)
	if !stream {
		b = fmt.Appendf(b, "Content-Length: %d\r\n\r\n", len(message))
		return append(b, message...)
	}
	const before, after = "event: message\ndata: ", "\n\n"
	b = append(b, "\r\n"...)
	b = strconv.AppendInt(b, int64(len(before)+len(message)+len(after)), 16)
	b = append(b, "\r\n"+before...)
	b = append(b, message...)
	return append(b, after+"\r\n0\r\n\r\n"...)
}

// beginning is the part of a message in which the rig looks for id and method. ending is
// the part after everything else in which the id may be, too. All clients of the rig put
// them there.
const (
	beginning = 256
	ending    = 64
)

// idOf is a message's id as in the message; empty for a notification.
func idOf(body []byte) []byte {
	key := []byte(`"id":`)
	_, id, found := bytes.Cut(body[:min(len(body), beginning)], key)
	if !found {
		_, id, found = bytes.Cut(body[max(len(body)-ending, 0):], key)
	}
	if !found {
		return nil
	}
	end := bytes.IndexAny(id, ",}")
	return id[:max(end, 0)]
}

func isMethod(body []byte, method string) bool {
	return bytes.Contains(body[:min(len(body), beginning)], []byte(`"method":"`+method+`"`))
}

// fillings has the bytes that fill results.
var fillings = bytes.Repeat([]byte("x"), 2<<20)

// Results with long lists: a hundred tools of about 1 KB, and fifty of about 450 bytes.
var longList, fifty = listOf(100, 900), listOf(50, 350)

// listOf is a result with so many tools, whose descriptions have that length.
func listOf(tools, description int) []byte {
	var b bytes.Buffer
	b.WriteString(`,"result":{"tools":[`)
	for i := range tools {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"name":"tool_%d","description":"%s","inputSchema":{"type":"object","properties":{"text":{"type":"string"}}}}`,
			i, fillings[:description])
	}
	b.WriteString(`],"ttlMs":60000,"cacheScope":"public","resultType":"complete"}}`)
	return b.Bytes()
}

const (
	resultBefore = `,"result":{"content":[{"type":"text","text":"`
	resultAfter  = `"}]}}`
	initialized  = `,"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"bench","version":"1"}}}`
	listed       = `,"result":{"tools":[{"name":"echo","description":"Answers with as much text as it is sent.","inputSchema":{"type":"object"}}],"ttlMs":60000,"cacheScope":"public","resultType":"complete"}}`
	discovered   = `,"result":{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"serverInfo":{"name":"bench","version":"1"},"resultType":"complete"}}`
)

// result is the answer to a request: a tool's, of about the request's own size.
func result(path string, body, id []byte) []byte {
	answer := make([]byte, 0, len(body)+len(initialized)+beginning)
	answer = append(append(answer, `{"jsonrpc":"2.0","id":`...), id...)
	switch {
	case isMethod(body, "initialize"):
		return append(answer, initialized...)
	case isMethod(body, "server/discover"):
		return append(answer, discovered...)
	case isMethod(body, "tools/list") && strings.HasPrefix(path, "/list"):
		return append(answer, longList...)
	case isMethod(body, "tools/list") && strings.HasPrefix(path, "/fifty"):
		return append(answer, fifty...)
	case isMethod(body, "tools/list"):
		return append(answer, listed...)
	}
	answer = append(answer, resultBefore...)
	fill := max(len(body)-len(answer)-len(resultAfter), 1)
	answer = append(answer, fillings[:min(fill, len(fillings))]...)
	return append(answer, resultAfter...)
}
