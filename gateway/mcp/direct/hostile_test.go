package direct

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestNoClientReadsTheAnswerToAnother: servers do what they can to leave an answer to one request
// where the next one would find it. Each body says whose request it answers.
func TestNoClientReadsTheAnswerToAnother(t *testing.T) {
	whole := func(of string) string { return fmt.Sprintf("Content-Length: %d\r\n\r\nto %s", len(of)+3, of) }
	const ok = "HTTP/1.1 200 OK\r\n"
	tricks := map[string]func(of string) string{
		"twice":                         func(of string) string { return ok + whole(of) + ok + whole(of) },
		"with more than it announces":   func(of string) string { return ok + whole(of) + "\r\n" + ok + whole(of) },
		"with a line before it":         func(of string) string { return "\r\n" + ok + whole(of) + ok + whole(of) },
		"with two lengths":              func(of string) string { return ok + "Content-Length: 0\r\n" + whole(of) },
		"with one length twice":         func(of string) string { return ok + "Content-Length: 8\r\n" + whole(of) + ok + whole(of) },
		"with a list of lengths":        func(of string) string { return ok + "Content-Length: 0, 8\r\n\r\n" + ok + whole(of) },
		"with a length that has a sign": func(of string) string { return ok + "Content-Length: +0\r\n\r\n" + ok + whole(of) },
		"with a length and chunks": func(of string) string {
			return ok + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + ok + whole(of)
		},
		"with chunks that are not the last": func(of string) string {
			return ok + "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + ok + whole(of)
		},
		"with two codings": func(of string) string {
			return ok + "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + ok + whole(of)
		},
		"with chunks of HTTP/1.0": func(of string) string {
			return "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + ok + whole(of)
		},
		"with an extension of a chunk": func(of string) string {
			return ok + "Transfer-Encoding: chunked\r\n\r\n0;a=\"\r\n\r\n\"\r\n\r\n" + ok + whole(of)
		},
		"with an extension and a bare LF": func(of string) string { return ok + "Transfer-Encoding: chunked\r\n\r\n0;\n\r\n\r\n" + ok + whole(of) },
		"with trailers": func(of string) string {
			return ok + "Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 0\r\n\r\n" + ok + whole(of)
		},
		"with a body where none may be":    func(of string) string { return "HTTP/1.1 204 No Content\r\n" + whole(of) + ok + whole(of) },
		"with a body that is not modified": func(of string) string { return "HTTP/1.1 304 Not Modified\r\n" + whole(of) + ok + whole(of) },
		"with a body of a hint": func(of string) string {
			return "HTTP/1.1 103 Early Hints\r\n" + whole("") + ok + whole(of) + ok + whole(of)
		},
		"with another protocol":         func(of string) string { return "HTTP/1.1 101 Switching Protocols\r\n\r\n" + ok + whole(of) },
		"with a line that ends with LF": func(of string) string { return ok + "A: b\nContent-Length: 0\r\n\r\n" + ok + whole(of) },
		"with a line that goes on":      func(of string) string { return ok + "A: b\r\n Content-Length: 0\r\n" + whole(of) + ok + whole(of) },
		"with a space before a colon":   func(of string) string { return ok + "Content-Length : 0\r\n" + whole(of) + ok + whole(of) },
		"with a return in a value":      func(of string) string { return ok + "A: b\rContent-Length: 0\r\n" + whole(of) + ok + whole(of) },
		"with an end":                   func(of string) string { return ok + "Connection: close\r\n" + whole(of) + ok + whole(of) },
	}
	for trick, answer := range tricks {
		for way, secure := range ways {
			t.Run(trick+" "+way, func(t *testing.T) {
				t.Parallel()
				p := newAnsweringPeer(t, secure, func(w io.Writer, body string) bool {
					_, _ = io.WriteString(w, answer(body))
					return true
				})
				for i := range 4 {
					client := fmt.Sprint("client", i)
					got, _ := p.ask(t.Context(), client)
					if i%2 == 1 { // what comes late has come by then
						p.idle.mu.Lock()
						for _, c := range p.idle.conns {
							eventually(t, "the rest to arrive", func() bool { return isThere(c) })
						}
						p.idle.mu.Unlock()
					}
					require.NotContains(t, strings.ReplaceAll(got, "to "+client, ""), "client")
				}
			})
		}
	}
}

// TestAServerThatAnswersBeforeItIsAskedIsNotBelieved, whether it does so at once or between requests.
func TestAServerThatAnswersBeforeItIsAskedIsNotBelieved(t *testing.T) {
	for way, secure := range ways {
		t.Run(way, func(t *testing.T) {
			p := newAnsweringPeer(t, secure, func(w io.Writer, body string) bool {
				answerWith(w, "", body)
				answerWith(w, "", "kept for the next")
				return true
			})
			for i := range 3 {
				message := fmt.Sprint("message ", i)
				got, err := p.ask(t.Context(), message)
				require.NoError(t, err)
				require.Equal(t, message, got)
				// It may come behind the answer, or a little later.
				eventually(t, "the connection to be of no use", func() bool {
					c := p.idle.take()
					if c != nil {
						p.idle.put(c)
					}
					return c == nil
				})
			}
			require.Equal(t, 3, p.accepted())
		})
	}
}

// TestAConnectionOnWhichAMessageWaitsServesNoOther: the rest of it would be read as the next request.
func TestAConnectionOnWhichAMessageWaitsServesNoOther(t *testing.T) {
	for way, secure := range ways {
		t.Run(way, func(t *testing.T) {
			release := make(chan struct{})
			defer close(release)
			p := newPeer(t, secure, func(conn net.Conn) {
				if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
					answerWith(conn, "", "early")
				}
				<-release // nothing more is read
			})
			got, err := p.ask(t.Context(), strings.Repeat("m", 16<<20))
			require.NoError(t, err)
			require.Equal(t, "early", got)
			require.Zero(t, p.idle.count())
		})
	}
}
