package http1

import (
	"bytes"
	"math/rand/v2"
	"strconv"
	"strings"
)

// generator makes streams of requests: some valid in an odd way, others wrong in one place or
// two. The same seed and number make the same stream.
type generator struct{ *rand.Rand }

func newGenerator(seed, number uint64) generator {
	return generator{rand.New(rand.NewPCG(seed, number))}
}

func pick[T any](g generator, from ...T) T { return from[g.IntN(len(from))] }

// often is a choice with its weight: the first of two is taken n times in n + 1.
func often[T any](g generator, n int, usual, other T) T {
	if g.IntN(n+1) == 0 {
		return other
	}
	return usual
}

// stream is up to four requests, with up to three mutations.
func (g generator) stream() []byte {
	var b []byte
	for range 1 + g.IntN(4) {
		if g.IntN(8) == 0 {
			b = append(b, pick(g, seeds()...)...)
		} else {
			b = g.request(b)
		}
	}
	for range max(0, g.IntN(6)-2) {
		b = g.mutate(b)
	}
	return b
}

var (
	ends    = []string{"\n", "\r", "\r\r\n", "\n\r", "\r\n\r\n", "\r\n ", "\r\n\t", " \r\n", "\r\n\x00", "\x0b\r\n", "\r\n\n", "\x85\r\n"}
	odd     = []string{"\x00", "\t", "\n", "\r", " ", ":", ";", ",", "0", "9", "a", "F", "x", "X", "\x0b", "\x0c", "\x7f", "\x80", "\xa0", "\xff", "\"", "\\", "%", "#", "+", "-", "_", ".", "?", "/", "*", "(", "=", "\x1f"}
	framing = []string{
		"Content-Length: 0", "Content-Length: 5", "content-length: 3", "Content-Length:5", "Content-Length: 005", "Content-Length: +5",
		"Content-Length: 5,5", "Content-Length: 5, 6", "Content-Length: 5 5", "Content-Length: -1", "Content-Length: 0x5", "Content-Length: 5_0",
		"Content-Length : 5", "Content-Length\t: 5", " Content-Length: 5", "Content-Length:", "Content-Length: 5;a", "Content-Length: \t5\t ",
		"Content_Length: 5", "Content-Length: 5\x0b", "Content-Length: 18446744073709551616", "Content-Length: 9223372036854775807", "Content-Length\x00: 5",
		"Transfer-Encoding: chunked", "transfer-encoding: CHUNKED", "Transfer-Encoding:chunked", "Transfer-Encoding : chunked", "Transfer-Encoding: chunked,",
		"Transfer-Encoding: xchunked", "Transfer-Encoding: chunked, chunked", "Transfer-Encoding: identity", "Transfer-Encoding: gzip, chunked",
		"Transfer-Encoding: chunked, identity", "Transfer-Encoding: \x0bchunked", "Transfer-Encoding: \"chunked\"", "Transfer-Encoding: chunked;q=1",
		"Transfer-Encoding:\tchunked\t", "Transfer-Encoding", "Transfer-Encoding:", "X: y\rTransfer-Encoding: chunked", "X: y\nTransfer-Encoding: chunked",
		"Transfer-Encoding\r\n : chunked", "Transfer-Encoding: chun\r\n ked", "Transfer-Encoding: chunked\r\n ", "Transfer_Encoding: chunked",
	}
	fieldLines = []string{
		"X: y", "x: Y", "X:  y \t", "X:", "X: \t", "X-A-b: 1", "x-a-B: 2", "Accept: */*", "Accept: a, b", "Cookie: a=b", "Cookie: c", "Trailer: X", "TE: trailers",
		"Connection: close", "connection: Close", "Connection: keep-alive", "Connection: keep-alive, close", "Connection: Upgrade", "Connection: x,close,y",
		"Connection: TE, x", "Proxy-Connection: close", "Proxy-Connection: keep-alive", "Keep-Alive: 5", "Upgrade: h2c", "Upgrade: websocket", "HTTP2-Settings: AAA",
		"Expect: 100-continue", "expect: 100-Continue", "Expect: x", "Pragma: no-cache", "Cache-Control: no-store", "Authorization: Bearer x",
		"Host: b", "host: [::1]:80", "Host:", "Host: a b", "Host: a\\b", "Forwarded: for=x", "!#$%&'*+-.^_`|~9: token", "X: \xc3\xa4\xff", "X: a:b: c", "X: \"q\\\"\"",
		"Mcp-Session-Id: 1", "Sec-WebSocket-Key: x", "Content-Type: application/json", "X_Y: z", "X.Y: z", "X: a\x00b", "X: a\x7f", "X(y): z", ": x", "nothing", "é: x",
	}
	methods    = []string{"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "QUERY", "M-SEARCH", "TRACE", "LINK", "SOURCE", "PURGE", "CONNECT", "get", "PRI", "X", "GETX", "DESCRIBE", "G(T"}
	targets    = []string{"/", "/a", "/a/b?c=d&e", "/a%2fb%20", "//a//b", "/../a/./b", "*", "http://b/c", "http://b:81/c?d", "https://u:p@b/", "HTTP://B", "http://[::1]:1/", "/a;b=c", "/?q=http://x/", "/a?b?c", "/a#b", "a", "a:b", "mailto:x", "b:443", "/\xc3\xa4", "/\"<>\\^`{|}", "/%", "/%zz", "http:///a", "http://", "x://y", "?a", "/a b", "http:/a", "http://b?c", "http://a@b@c/", "/\t", "http://b:x/", "h1+.-://b"}
	versions   = []string{"HTTP/1.0", "HTTP/1.1 ", "HTTP/1.2", "HTTP/2.0", "http/1.1", "HTTP/1.10", "HTTP/01.1", "HTTP/0.9", "HTTP/1", "HTTP/1,1", "RTSP/1.1", "ICE/1.0", "HTTP /1.1", ""}
	extensions = []string{";a", ";a=b", ";a;b=c", ";a=\"b\"", "; a=b", ";", ";a=", " ", "\t", " ;a", ";a\nb", ";a\rb", "\x00", ",a", ";a=b;", ";a==b", ";\xff", ";a=\"\r\n\""}
	trailers   = []string{"X: y", "Trailer: x", "X:", "Content-Length: 5", "Transfer-Encoding: chunked", "Host: b", "Connection: close", "Connection: upgrade", "X : y", " x", "X: a\x00", "Upgrade: x", "Content-Length: 0", "transfer-encoding: x", "Authorization: x", "X: \xff", "nothing", ":"}
)

// request appends one request, with its body.
func (g generator) request(b []byte) []byte {
	b = append(b, often(g, 12, "", pick(g, "\r\n", "\r\n\r\n", "\n", "\r", " "))...)
	b = append(b, often(g, 6, pick(g, "GET", "POST", "HEAD", "PUT"), pick(g, methods...))+" "...)
	b = append(b, often(g, 3, pick(g, "/", "/mcp", "/a?b"), pick(g, targets...))+" "...)
	b = append(b, often(g, 15, "HTTP/1.1", pick(g, versions...))...)
	lines := []string{"Host: a"}
	for range g.IntN(4) {
		lines = append(lines, pick(g, fieldLines...))
	}
	if g.IntN(200) == 0 {
		for i := range 20 + g.IntN(250) {
			lines = append(lines, "F"+strconv.Itoa(i%50)+": "+strconv.Itoa(i))
		}
	}
	body := strings.Repeat("abc\r\n0\r\n\r\n", g.IntN(4))
	if g.IntN(3) == 0 {
		body = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
	}
	switch g.IntN(8) {
	case 0, 1, 2:
		lines = append(lines, "Content-Length: "+strconv.Itoa(len(body)))
	case 3, 4, 5:
		lines, body = append(lines, often(g, 4, "Transfer-Encoding: chunked", "transfer-encoding: Chunked")), g.chunks(body)
	case 6:
		lines = append(lines, pick(g, framing...))
	default:
		body = ""
	}
	if g.IntN(12) == 0 {
		lines = append(lines, pick(g, framing...))
	}
	g.Shuffle(len(lines), func(i, k int) { lines[i], lines[k] = lines[k], lines[i] })
	for _, line := range lines {
		b = append(append(b, "\r\n"...), line...)
	}
	return append(append(b, "\r\n\r\n"...), body...)
}

// chunks is a body in chunks.
func (g generator) chunks(body string) string {
	var b strings.Builder
	for body != "" {
		n := 1 + g.IntN(len(body))
		if g.IntN(20) == 0 {
			n = min(len(body), 10+g.IntN(8))
		}
		g.chunkLine(&b, n)
		b.WriteString(body[:n] + often(g, 60, "\r\n", pick(g, "\n", "\r", "", "x\r\n", "\r\n\r\n")))
		body = body[n:]
	}
	g.chunkLine(&b, 0)
	for range max(0, g.IntN(20)-18) {
		b.WriteString(pick(g, trailers...) + "\r\n")
	}
	b.WriteString(often(g, 60, "\r\n", pick(g, "\n", "\r", "", "x\r\n")))
	return b.String()
}

func (g generator) chunkLine(b *strings.Builder, n int) {
	size := strconv.FormatInt(int64(n), 16)
	switch g.IntN(12) {
	case 0:
		size = strings.ToUpper(size)
	case 1:
		size = strings.Repeat("0", 1+g.IntN(18)) + size
	case 2:
		size = often(g, 3, size, pick(g, "0x", "+", "-", " ", "1000000000000000", "_")+size)
	case 3, 4:
		size += often(g, 1, pick(g, extensions[:3]...), pick(g, extensions...))
	}
	b.WriteString(size + often(g, 60, "\r\n", pick(g, ends...)))
}

// mutate changes a stream in one place.
func (g generator) mutate(b []byte) []byte {
	if len(b) == 0 {
		return append(b, pick(g, odd...)...)
	}
	i := g.IntN(len(b))
	switch g.IntN(11) {
	case 0:
		return splice(b, i, i+1, pick(g, odd...))
	case 1:
		return splice(b, i, i, pick(g, odd...))
	case 2:
		return splice(b, i, min(len(b), i+1+g.IntN(3)), "")
	case 3:
		if 'a' <= b[i]|0x20 && b[i]|0x20 <= 'z' {
			b[i] ^= 0x20
		}
		return b
	case 4: // another end of a line
		if at := findFrom(b, i, "\r\n"); at >= 0 {
			return splice(b, at, at+2, pick(g, ends...))
		}
	case 5: // one line more
		if at := findFrom(b, i, "\r\n"); at >= 0 {
			return splice(b, at, at, "\r\n"+pick(g, pick(g, framing, fieldLines, trailers)...))
		}
	case 6: // a line twice, or never
		if at := findFrom(b, i, "\r\n"); at >= 0 {
			if end := findFrom(b, at+2, "\r\n"); end >= at+2 {
				return splice(b, at, end, strings.Repeat(string(b[at:end]), pick(g, 0, 2, 2, 3)))
			}
		}
	case 7: // another number
		return g.renumber(b, i)
	case 8: // an end within
		if g.IntN(2) == 0 {
			return b[:i]
		}
		return splice(b, i, i, string(g.request(nil)))
	case 9: // a part elsewhere
		end := min(len(b), i+1+g.IntN(40))
		at := g.IntN(len(b))
		return splice(b, at, at, string(b[i:end]))
	default:
		return splice(b, i, i, pick(g, extensions...))
	}
	return b
}

// renumber changes the first number from a place on.
func (g generator) renumber(b []byte, from int) []byte {
	start := bytes.IndexAny(b[from:], "0123456789")
	if start < 0 {
		return b
	}
	start += from
	end := start + 1
	for end < len(b) && '0' <= b[end] && b[end] <= '9' {
		end++
	}
	old := string(b[start:end])
	n, _ := strconv.Atoi(old)
	return splice(b, start, end, pick(g, strconv.Itoa(n+1), strconv.Itoa(max(0, n-1)), strconv.Itoa(n+g.IntN(100)), "0"+old, "+"+old, "-"+old, "0x"+old,
		old+" ", old+"\t", old+",", old+";", old+"_0", old+old, strconv.FormatInt(int64(n), 16), "4294967296", "18446744073709551617", "ffffffffffffffff", ""))
}

func findFrom(b []byte, from int, what string) int {
	at := bytes.Index(b[from:], []byte(what))
	if at < 0 {
		return -1
	}
	return from + at
}

// splice is b with the bytes from start to end replaced.
func splice(b []byte, start, end int, by string) []byte {
	return append(append(append(make([]byte, 0, len(b)+len(by)), b[:start]...), by...), b[end:]...)
}
