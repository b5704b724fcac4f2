package direct

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// memory counts who uses a message.
type memory struct{ uses, most atomic.Int32 }

func (m *memory) Retain() {
	m.most.Store(max(m.most.Load(), m.uses.Add(1)))
}
func (m *memory) Release() { m.uses.Add(-1) }

func TestMessagesArriveWholeOverOneConnection(t *testing.T) {
	for way, secure := range ways {
		t.Run(way, func(t *testing.T) {
			var got []string
			p := newAnsweringPeer(t, secure, func(w io.Writer, body string) bool {
				got = append(got, body)
				answerWith(w, "", pong)
				return true
			})
			var want []string
			for _, size := range []int{0, 1, headSize - 200, headSize, headSize + 1, sendPiece, sendPiece + 1, 1 << 20, 4 << 20} {
				want = append(want, strings.Repeat("m", size))
				body, err := p.ask(t.Context(), want[len(want)-1])
				require.NoError(t, err)
				require.Equal(t, pong, body)
			}
			require.Equal(t, want, got)
			require.Equal(t, 1, p.accepted())
		})
	}
}

// TestALongMessageNeedsNobodyElseUnlessTheServerTakesNoMore, and whoever sends the rest holds it.
func TestALongMessageNeedsNobodyElseUnlessTheServerTakesNoMore(t *testing.T) {
	for way, secure := range ways {
		for name, blocks := range map[string]bool{"a server that reads": false, "a server that does not": true} {
			t.Run(name+" "+way, func(t *testing.T) {
				goOn := make(chan struct{})
				p := newPeer(t, secure, func(conn net.Conn) {
					reader := bufio.NewReader(conn)
					r, err := http.ReadRequest(reader)
					if err != nil {
						return
					}
					if blocks {
						_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n")
						<-goOn
					}
					n, _ := io.Copy(io.Discard, r.Body)
					if blocks && n == r.ContentLength {
						_, _ = io.WriteString(conn, "0\r\n\r\n")
					} else if n == r.ContentLength {
						answerWith(conn, "", "ok")
					}
					_, _ = io.Copy(io.Discard, conn)
				})
				size := 64 << 10
				if blocks {
					size = 16 << 20
				}
				m := new(memory)
				response, err := p.Send(t.Context(), &Request{Method: http.MethodPost, Header: http.Header{}, Body: make([]byte, size), Memory: m})
				require.NoError(t, err)
				defer response.Body.Close()
				if blocks {
					require.Equal(t, int32(1), m.uses.Load(), "somebody sends it")
					AwaitSent(response)
					require.Equal(t, int32(1), m.uses.Load(), "and still does")
					close(goOn)
				}
				body, err := io.ReadAll(response.Body)
				require.NoError(t, err)
				require.Equal(t, "ok", string(body))
				eventually(t, "the message to be free", func() bool { return m.uses.Load() == 0 })
				require.Equal(t, blocks, m.most.Load() > 0)
				require.Equal(t, 1, p.idle.count(), "all was sent, and the answer read: the connection serves others")
			})
		}
	}
}

func TestAMessageMayBeRefusedBeforeItsEnd(t *testing.T) {
	for way, secure := range ways {
		t.Run(way, func(t *testing.T) {
			p := newPeer(t, secure, func(conn net.Conn) {
				if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
					_, _ = io.WriteString(conn, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
				}
				_, _ = io.Copy(io.Discard, conn) // until the gateway gives up
			})
			response, err := p.send(t.Context(), strings.Repeat("m", 32<<20))
			require.NoError(t, err)
			require.Equal(t, http.StatusRequestEntityTooLarge, response.StatusCode)
			require.NoError(t, response.Body.Close())
		})
	}
}

// TestWhatEndsARequest: its context, at any time, and the server's silence.
func TestWhatEndsARequest(t *testing.T) {
	cut := errors.New("cut")
	long := strings.Repeat("m", 16<<20)
	serve := map[string]func(conn net.Conn, reader *bufio.Reader){
		"that answers nothing": func(net.Conn, *bufio.Reader) {},
		"that answers half a header": func(conn net.Conn, _ *bufio.Reader) {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nX: y\r\n")
		},
		"that answers half a body": func(conn net.Conn, _ *bufio.Reader) {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{\"json")
		},
		"that answers half its chunks": func(conn net.Conn, _ *bufio.Reader) {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
		},
	}
	for name, answer := range serve {
		for way, secure := range ways {
			for _, message := range []string{"short", long} {
				for _, cutAfter := range []time.Duration{0, 2 * watchAfter} {
					t.Run(name+" "+way, func(t *testing.T) {
						t.Parallel()
						gone := make(chan struct{})
						p := newPeer(t, secure, func(conn net.Conn) {
							reader := bufio.NewReader(conn)
							if r, err := http.ReadRequest(reader); err == nil && message != long {
								_, _ = io.Copy(io.Discard, r.Body)
							}
							answer(conn, reader)
							if message == long && cutAfter > 0 {
								<-t.Context().Done() // it reads nothing
							}
							_, _ = io.Copy(io.Discard, reader)
							close(gone)
						})
						ctx, cancel := context.WithCancelCause(t.Context())
						defer cancel(nil)
						if cutAfter > 0 {
							time.AfterFunc(cutAfter, func() { cancel(cut) })
						} else {
							p.options.HeaderTimeout = 50 * time.Millisecond
						}
						started := time.Now()
						response, err := p.send(ctx, message)
						if err == nil {
							Hurry(response, p.options.HeaderTimeout)
							_, err = io.ReadAll(response.Body)
							_ = response.Body.Close()
						}
						require.Less(t, time.Since(started), 4*time.Second)
						if cutAfter > 0 {
							require.ErrorIs(t, err, cut)
						} else {
							var timeout net.Error
							require.ErrorAs(t, err, &timeout)
							require.True(t, timeout.Timeout(), err)
						}
						if message != long {
							select { // the server learns of it
							case <-gone:
							case <-time.After(5 * time.Second):
								t.Fatal("the connection is open")
							}
						}
						require.Zero(t, p.idle.count())
					})
				}
			}
		}
	}
}

// TestAnAnswerToARequestThatWasCutHasNoOrderlyEnd: a part of it would look like the whole.
func TestAnAnswerToARequestThatWasCutHasNoOrderlyEnd(t *testing.T) {
	cut := errors.New("cut")
	p := newAnsweringPeer(t, false, func(w io.Writer, body string) bool {
		_, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\n\r\n"+body)
		return false
	})
	ctx, cancel := context.WithCancelCause(t.Context())
	response, err := p.send(ctx, "message")
	require.NoError(t, err)
	eventually(t, "the end to be there", func() bool { return isThere(response.Body.(*body).c) })
	cancel(cut)
	_, err = io.ReadAll(response.Body)
	require.ErrorIs(t, err, cut)

	through := &throughBody{ReadCloser: io.NopCloser(strings.NewReader(`{"jsonrpc"`)), ctx: ctx, cancel: cancel}
	got, err := io.ReadAll(through)
	require.Empty(t, got)
	require.ErrorIs(t, err, cut)
}

// Rules may have changed, or a token may have ended: what the server says then is not for the client,
// though the connection is still open.
func TestNothingPassesThatComesAfterARequestWasCut(t *testing.T) {
	t.Parallel()
	for way, secure := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			p := newAnsweringPeer(t, secure, func(w io.Writer, _ string) bool {
				_, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nbefore\r\n")
				return true
			})
			for range 5 {
				ctx, cancel := context.WithCancelCause(t.Context())
				response, err := p.Open(ctx, &Request{Method: http.MethodPost, Header: http.Header{}, Body: []byte("{}")})
				require.NoError(t, err)
				part := make([]byte, 100)
				n, err := response.Body.Read(part)
				require.NoError(t, err)
				require.Equal(t, "before", string(part[:n]))
				go func() {
					<-time.After(watchAfter / 4) // by then it is being read
					cancel(io.ErrNoProgress)
					p.mu.Lock()
					defer p.mu.Unlock()
					_, _ = io.WriteString(p.conns[len(p.conns)-1], "5\r\nafter\r\n")
				}()
				n, err = response.Body.Read(part)
				require.ErrorIs(t, err, io.ErrNoProgress)
				require.Zero(t, n, "%s", part[:n])
				require.NoError(t, response.Body.Close())
			}
		})
	}
}

func TestARequestIsWrittenAsNetHTTPWritesIt(t *testing.T) {
	header := http.Header{
		"Accept": {"application/json", "text/event-stream"}, "X-Secret": {" value\twith spaces "}, "X-Two": {"a\r\nInjected: b\x00", "\n"},
		"Bad Name": {"x"}, "Bad:": {"x"}, "": {"x"}, "Host": {"other"}, "Content-Length": {"9"}, "Transfer-Encoding": {"chunked"}, "User-Agent": {"x"},
	}
	for name, r := range map[string]Request{
		"a message":    {Method: http.MethodPost, Header: header, Body: []byte("message")},
		"no message":   {Method: http.MethodPost, Header: header},
		"a stream":     {Method: http.MethodGet, Header: header},
		"a session":    {Method: http.MethodDelete, Header: http.Header{"Mcp-Session-Id": {"x"}}},
		"empty values": {Method: http.MethodGet, Header: http.Header{"A": {""}, "B": {}, "C": nil}},
	} {
		t.Run(name, func(t *testing.T) {
			tr := New(optionsFor(t, "example.com:8080", false))
			ours := append(question{Request: &r, target: tr.target}.appendHead(nil), r.Body...)
			like, err := http.NewRequestWithContext(t.Context(), r.Method, tr.options.URL.String(), bytes.NewReader(r.Body))
			require.NoError(t, err)
			like.Header = r.Header.Clone()
			if like.Header["User-Agent"] == nil {
				like.Header["User-Agent"] = nil
			}
			var theirs bytes.Buffer
			require.NoError(t, like.Write(&theirs))
			require.Equal(t, read(t, theirs.Bytes()), read(t, ours))
			require.NotContains(t, string(ours), "\nInjected")
		})
	}
}

// read reads a request without interpreting its header, whose values come without spaces around them.
func read(t *testing.T, b []byte) []any {
	t.Helper()
	reader := textproto.NewReader(bufio.NewReader(bytes.NewReader(b)))
	line, err := reader.ReadLine()
	require.NoError(t, err)
	fields := map[string][]string{}
	for {
		text, err := reader.ReadLine()
		require.NoError(t, err)
		if text == "" {
			break
		}
		name, value, _ := strings.Cut(text, ": ")
		fields[name] = append(fields[name], strings.ReplaceAll(strings.TrimSpace(value), "\x00", " "))
	}
	rest, err := io.ReadAll(reader.R)
	require.NoError(t, err)
	for name, values := range fields {
		for i := range values {
			fields[name][i] = strings.TrimSpace(values[i])
		}
	}
	return []any{line, fields, string(rest)}
}
