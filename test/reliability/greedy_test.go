package reliability

import (
	"bufio"
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vault-plugin-secrets-mcp/test/harness"
)

const (
	greedy = 20 // clients of each kind

	// held is the number of bytes of an answer that the gateway and the kernel, at both
	// ends of two connections, may hold while the client reads nothing; taken is the
	// number of bytes of a body that they may take before its sender finds that it is
	// refused. The most of both is the kernel's buffers.
	held  = 24 << 20
	taken = 64 << 20

	// headerTimeout, bodyTimeout and writeTimeout are the gateway's own: for a
	// request's header, for all of it, and for a client that takes nothing.
	headerTimeout = 10 * time.Second
	bodyTimeout   = time.Minute
	writeTimeout  = 30 * time.Second
)

// TestClientsAreSlowOrGreedy has clients send a header or a body a byte at a time,
// a body without end, and not take an answer without end. Others do not notice,
// the gateway stays small, and each is cut off in time. With LOAD_SESSIONS set,
// also those that have a minute are waited for.
func TestClientsAreSlowOrGreedy(t *testing.T) {
	s := newStage(t)
	var written atomic.Int64 // by the server whose answers have no end
	upstream := s.StartUpstream(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		chunk := []byte("data: \"" + strings.Repeat("x", 32<<10) + "\"\n\n")
		for {
			n, err := w.Write(chunk)
			written.Add(int64(n))
			if err != nil {
				return
			}
		}
	}))
	s.Write("mcp/servers/endless", harness.Map{"transport": "http", "url": upstream.URL})
	g := s.StartGateway(harness.GatewayOptions{})
	token, other := s.CreateClient("greedy", harness.Map{"allowed_servers": "*"}), s.client("other")
	c := newCaller(t, g)
	s.becomes(t, c, other, http.StatusOK, impatience)
	s.introduce(t, token, g) // at rest: lookups have a second
	before := usageOf(t, g)
	p := c.probe(t, "another client's calls meanwhile", other)
	long := os.Getenv("LOAD_SESSIONS") != ""

	var clients sync.WaitGroup
	each := func(what string, do func() error) {
		for range greedy {
			clients.Go(func() {
				if err := do(); err != nil {
					t.Errorf("%s: %v", what, err)
				}
			})
		}
	}
	head := "POST /servers/endless/mcp HTTP/1.1\r\nHost: " + strings.TrimPrefix(g.URL, "http://") + "\r\nAuthorization: Bearer " + token +
		"\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\n"
	each("a header that drips", func() error { return cutOff(t.Context(), g, "POST / HTTP/1.1\r\nX: ", headerTimeout) })
	each("a body without end", func() error { return refusedBody(t.Context(), g, head+"Transfer-Encoding: chunked\r\n\r\n") })
	each("a body that would be huge", func() error {
		_, err := answerTo(t.Context(), g, head+"Content-Length: 10000000000\r\n\r\n", http.StatusRequestEntityTooLarge)
		return err
	})
	call := fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(initialize), initialize)
	each("an answer that is not taken", func() error {
		conn, err := answerTo(t.Context(), g, head+call, http.StatusOK)
		if err != nil {
			return err
		}
		defer conn.Close()
		wait := headerTimeout
		if long {
			wait = writeTimeout + headerTimeout
		}
		<-time.After(wait) // and nothing is read
		return nil
	})
	if long {
		each("a body that drips", func() error {
			return cutOff(t.Context(), g, head+"Content-Length: 1000\r\n\r\n", bodyTimeout)
		})
	}
	<-time.After(headerTimeout / 2)
	during := usageOf(t, g)
	most := int64(greedy * held)
	if n := written.Load(); n > most {
		t.Errorf("the server could write %d MB that nobody takes", n>>20)
	} else {
		t.Logf("the server could write %d MB for %d clients that take nothing", n>>20, greedy)
	}
	clients.Wait()
	if long && usageOf(t, g).inFlight > 1 {
		t.Error("answers that nobody takes are still in flight")
	}
	p.stop()
	p.neverFailed(t)
	after := s.settled(t, g)
	t.Logf("the gateway: %+v before, %+v meanwhile, %+v after", before, during, after)
	// All bodies as far as max_body, and half as much of garbage.
	if during.resident > before.resident+(noise+greedy*4*1.5)*weight(t, s.Programs.Gateway) {
		t.Errorf("the gateway has grown from %.0f MB to %.0f", before.resident, during.resident)
	}
	if after.goroutines > before.goroutines+8 || after.files > before.files+8 {
		t.Errorf("the gateway has kept something: %+v, and had %+v", after, before)
	}
}

// weight is how many bytes a program needs for each that it uses: with the race
// detector it keeps a record beside its memory.
func weight(t *testing.T, program string) float64 {
	t.Helper()
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	for _, setting := range info.Settings {
		if setting.Key == "-race" && setting.Value == "true" {
			return 5
		}
	}
	return 1
}

// dialGateway opens a connection that ends with the context.
func dialGateway(ctx context.Context, g *harness.Gateway) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "tcp", strings.TrimPrefix(g.URL, "http://"))
}

// cutOff sends something, and then a byte now and then, until the gateway ends the
// connection, which it must in time.
func cutOff(ctx context.Context, g *harness.Gateway, text string, within time.Duration) error {
	conn, err := dialGateway(ctx, g)
	if err != nil {
		return err
	}
	defer conn.Close()
	started := time.Now()
	_, err = io.WriteString(conn, text)
	tick := time.NewTicker(4 * pace)
	defer tick.Stop()
	for err == nil && time.Since(started) < within+5*time.Second {
		<-tick.C
		_, err = io.WriteString(conn, "x")
	}
	if took := time.Since(started); err == nil {
		return fmt.Errorf("it goes on after %s", took)
	} else if took < within-time.Second {
		return fmt.Errorf("it was cut off after %s: %w", took, err)
	}
	return nil
}

// refusedBody sends a body without end, until it is refused.
func refusedBody(ctx context.Context, g *harness.Gateway, head string) error {
	conn, err := dialGateway(ctx, g)
	if err != nil {
		return err
	}
	defer conn.Close()
	answered := make(chan error, 1)
	go func() {
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err == nil {
			_ = response.Body.Close()
			// Or there is no room for another one of the client's.
			if response.StatusCode != http.StatusRequestEntityTooLarge && response.StatusCode != http.StatusTooManyRequests {
				err = fmt.Errorf("answered %s", response.Status)
			}
		}
		answered <- err
	}()
	_, err = io.WriteString(conn, head)
	sent, chunk := 0, "8000\r\n"+strings.Repeat("x", 0x8000)+"\r\n"
	for err == nil && sent < taken {
		_, err = io.WriteString(conn, chunk)
		sent += len(chunk)
	}
	if err == nil {
		return fmt.Errorf("the gateway has taken %d MB", sent>>20)
	}
	// The answer may be lost with a connection that is ended while it is written to.
	if err := <-answered; err != nil && !isReset(err) {
		return err
	}
	return nil
}

func isReset(err error) bool {
	var network net.Error
	return errors.As(err, &network) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)
}

// answerTo sends a request, and reads no more than the header of the answer.
func answerTo(ctx context.Context, g *harness.Gateway, text string, status int) (net.Conn, error) {
	conn, err := dialGateway(ctx, g)
	if err != nil {
		return nil, err
	}
	if _, err := io.WriteString(conn, text); err != nil {
		return conn, err
	}
	response, err := http.ReadResponse(bufio.NewReaderSize(conn, 512), nil)
	if err != nil {
		return conn, err
	}
	if response.StatusCode != status {
		return conn, fmt.Errorf("answered %s", response.Status)
	}
	return conn, nil
}
