package reliability

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"vault-plugin-secrets-mcp/bootstrap/demo"
	"vault-plugin-secrets-mcp/test/harness"
)

// badTimeout is how long the gateway of these tests waits for an answer.
const badTimeout = time.Second

// behaviour is a server's treatment of a connection, after it has read a request.
type behaviour func(conn net.Conn)

// badServer is a server that misbehaves, on one address, as long as it is told
// to. Without a behaviour nobody listens there.
type badServer struct {
	t       *testing.T
	address string

	mu       sync.Mutex
	listener net.Listener
	running  sync.WaitGroup
}

func newBadServer(t *testing.T) *badServer {
	t.Helper()
	b := &badServer{t: t, address: harness.FreeAddress(t)}
	t.Cleanup(b.stop)
	return b
}

func (b *badServer) listen() net.Listener {
	b.t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(b.t.Context(), "tcp", b.address)
	if err != nil {
		b.t.Fatal(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.listener = listener
	return listener
}

// behave has the server do so with every connection from now on.
func (b *badServer) behave(what behaviour) {
	b.t.Helper()
	b.stop()
	if what == nil {
		return
	}
	listener := b.listen()
	ctx, cancel := context.WithCancel(context.Background())
	b.running.Go(func() {
		defer cancel()
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			b.running.Go(func() {
				defer conn.Close()
				defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
				request, err := http.ReadRequest(bufio.NewReader(conn))
				if err != nil {
					return
				}
				// All of it: unread bytes would end the connection too early.
				if _, err := io.Copy(io.Discard, request.Body); err == nil {
					what(conn)
				}
			})
		}
	})
}

// repair has a good server listen there.
func (b *badServer) repair() {
	b.t.Helper()
	b.stop()
	listener := b.listen()
	server := &http.Server{Handler: demo.Handler(demo.Calculator()), ReadHeaderTimeout: time.Minute}
	server.SetKeepAlivesEnabled(false) // no request meets a connection that is being closed
	b.running.Go(func() {
		if err := server.Serve(listener); !errors.Is(err, net.ErrClosed) && !errors.Is(err, http.ErrServerClosed) {
			b.t.Error(err)
		}
		_ = server.Close()
	})
}

func (b *badServer) stop() {
	b.mu.Lock()
	listener := b.listener
	b.listener = nil
	b.mu.Unlock()
	if listener != nil {
		_ = listener.Close()
	}
	b.running.Wait()
}

// says writes something, and ends the connection. An answer that is complete must say
// so, lest another request is sent meanwhile.
func says(text string) behaviour {
	return func(conn net.Conn) { _, _ = io.WriteString(conn, text) }
}

// hangs says something, and then nothing, until the gateway gives up.
func hangs(text string) behaviour {
	return func(conn net.Conn) {
		_, _ = io.WriteString(conn, text)
		_, _ = io.Copy(io.Discard, conn)
	}
}

// endless says something, and then repeats something else until the gateway
// takes no more.
func endless(text, again string) behaviour {
	return func(conn net.Conn) {
		chunk := []byte(strings.Repeat(again, 1+(32<<10)/len(again)))
		_, err := io.WriteString(conn, text)
		for err == nil {
			_, err = conn.Write(chunk)
		}
	}
}

// drips says something a byte at a time, for longer than anybody waits.
func drips(text string) behaviour {
	return func(conn net.Conn) {
		tick := time.NewTicker(pace)
		defer tick.Stop()
		for i := range len(text) {
			<-tick.C
			if _, err := io.WriteString(conn, text[i:i+1]); err != nil {
				return
			}
		}
	}
}

const (
	jsonHead   = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
	streamHead = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
	badResult  = `{"jsonrpc":"2.0","id":1,"result":{"content":[]}}`
)

// misbehaviours: the answer to the client, without tool rules and with them. With rules
// the gateway has to read the answer; without, it passes the bytes on as they come.
var misbehaviours = []struct {
	name          string
	does          behaviour
	status, ruled int  // 0: the same
	cut           bool // the answer begins, and then it is cut, or ends with an error
}{
	{name: "nobody listens", status: 502},
	{name: "it hangs", does: hangs(""), status: 504},
	{name: "it ends the connection without an answer", does: says(""), status: 502},
	{name: "it answers garbage", does: says("\x16\x03\x01 no HTTP at all\r\n\r\n"), status: 502},
	{name: "its header has no end", does: endless("HTTP/1.1 200 OK\r\n", "X: y\r\n"), status: 502},
	{name: "its header drips", does: drips("HTTP/1.1 200 OK\r\nX-Header: " + strings.Repeat("slow", 1000)), status: 504},
	{name: "it answers with a page of its own", does: says("HTTP/1.1 500 Oops\r\nConnection: close\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\noops"), status: 502},
	{name: "its answer is shorter than it says", does: says(jsonHead + "Content-Length: 1000\r\n\r\n{"), status: 502},
	{name: "its answer is no JSON", does: says(jsonHead + "Connection: close\r\nContent-Length: 7\r\n\r\ngarbage"), status: 200, ruled: 502},
	{name: "its answer has no end", does: endless(jsonHead+"\r\n{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":\"", "x"), status: 200, ruled: 502, cut: true},
	{name: "it ends a stream in the middle", does: says(streamHead + "data: {\"json"), status: 200},
	{name: "it breaks a chunked stream off", does: says("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: {}\n\r\n"), status: 200, cut: true},
	{name: "an event has no end", does: endless(streamHead+"data: \"", "x"), status: 200, cut: true},
}

// TestAServerMisbehaves makes a server fail in every way. Its callers get an answer in
// time, calls to other servers do not notice, and the next call after the failure
// succeeds.
func TestAServerMisbehaves(t *testing.T) {
	s := newStage(t)
	bad := newBadServer(t)
	s.Write("mcp/servers/bad", harness.Map{"transport": "http", "url": "http://" + bad.address + demo.Path})
	g := s.StartGateway(harness.GatewayOptions{Blocks: map[string]string{
		`upstream "bad"`: fmt.Sprintf("timeout = %q", badTimeout),
	}})
	both := calculator + ",bad"
	free := s.CreateClient("free", harness.Map{"allowed_servers": both})
	ruled := s.CreateClient("ruled", harness.Map{"allowed_servers": both, "denied_tools": "bad/divide"})
	neighbour := newCaller(t, g)
	s.becomes(t, neighbour, free, http.StatusOK, impatience)
	p := neighbour.probe(t, "calls of another server meanwhile", free)

	for _, m := range misbehaviours {
		t.Run(m.name, func(t *testing.T) {
			bad.behave(m.does)
			for token, status := range map[string]int{free: m.status, ruled: max(m.ruled, m.status)} {
				got := askBad(t, g, token)
				if got.status != status {
					t.Errorf("answered %d, want %d: %s", got.status, status, got.body)
				}
				if got.took > badTimeout+2*time.Second {
					t.Errorf("answered after %s", got.took)
				}
				if status != http.StatusOK && !strings.Contains(got.body, `"request_id":"`) {
					t.Errorf("the refusal names no request id: %s", got.body)
				}
				if status == http.StatusOK && m.cut && got.err == nil && !strings.Contains(got.body, `"request_id":"`) {
					t.Errorf("the answer looks complete: %.100s", got.body)
				}
			}
			bad.repair()
			if got := askBad(t, g, free); got.status != http.StatusOK || !strings.Contains(got.body, "42") {
				t.Errorf("after it was repaired: %d %s", got.status, got.body)
			}
		})
	}
	p.stop()
	p.neverFailed(t)
}

// badAnswer is the part of an answer that a client has read.
type badAnswer struct {
	status int
	body   string
	err    error         // of reading the answer
	took   time.Duration // to the end; of one without, to its beginning
}

// enough is how much of an endless answer the client reads.
const enough = 16 << 20

func askBad(t *testing.T, g *harness.Gateway, token string) badAnswer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), impatience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, g.ServerURL("bad"), strings.NewReader(harness.CallBody("add", `{"a":40,"b":2}`)))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"Authorization": "Bearer " + token, "Content-Type": "application/json", "Accept": "application/json, text/event-stream",
		"Mcp-Protocol-Version": harness.StatelessEra, "Mcp-Method": "tools/call", "Mcp-Name": "add",
	} {
		request.Header.Set(name, value)
	}
	started := time.Now()
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	defer response.Body.Close()
	var body bytes.Buffer
	took := time.Since(started)
	n, err := io.Copy(&body, io.LimitReader(response.Body, enough))
	if n == enough {
		err = errors.New("it does not end") // nor is the time that the client took for it the gateway's
	} else {
		took = time.Since(started)
	}
	return badAnswer{status: response.StatusCode, body: body.String(), err: err, took: took}
}
