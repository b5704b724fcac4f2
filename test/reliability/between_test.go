package reliability

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// line is a TCP proxy before a server. It can be made slow, and be led to another
// server, as a load balancer's address is.
type line struct {
	url    string
	delay  atomic.Int64 // of every chunk in either direction, in nanoseconds
	target atomic.Pointer[string]

	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

func newLine(t *testing.T, target string) *line {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &line{url: "http://" + listener.Addr().String(), conns: map[net.Conn]struct{}{}}
	l.lead(target)
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() { l.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		l.cut()
		running.Wait()
	})
	return l
}

// lead has further connections lead to another server, and ends those there are.
func (l *line) lead(target string) {
	address := strings.TrimPrefix(target, "http://")
	l.target.Store(&address)
	l.cut()
}

// cut ends every connection.
func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for conn := range l.conns {
		_ = conn.Close()
	}
}

func (l *line) serve(from net.Conn) {
	to, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", *l.target.Load())
	if err != nil {
		_ = from.Close()
		return
	}
	l.mu.Lock()
	l.conns[from], l.conns[to] = struct{}{}, struct{}{}
	l.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { l.copy(to, from) })
	both.Go(func() { l.copy(from, to) })
	both.Wait()
	l.mu.Lock()
	delete(l.conns, from)
	delete(l.conns, to)
	l.mu.Unlock()
}

// copy carries the bytes of one side to the other, and ends both when it ends.
func (l *line) copy(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if delay := time.Duration(l.delay.Load()); delay > 0 {
			<-time.After(delay)
		}
		if _, writeErr := to.Write(buffer[:n]); err != nil || writeErr != nil {
			return
		}
	}
}

// feedCutter is an HTTP proxy before Vault that can drop requests for changes,
// and them alone.
type feedCutter struct {
	url string
	off atomic.Bool

	mu      sync.Mutex
	pending map[*http.Request]context.CancelFunc
}

func newFeedCutter(t *testing.T, target string) *feedCutter {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	c := &feedCutter{pending: map[*http.Request]context.CancelFunc{}}
	proxy := &httputil.ReverseProxy{
		Rewrite:      func(r *httputil.ProxyRequest) { r.SetURL(u) },
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/changes") {
			proxy.ServeHTTP(w, r)
			return
		}
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		if !c.enter(r, cancel) {
			panic(http.ErrAbortHandler)
		}
		defer c.leave(r)
		proxy.ServeHTTP(w, r.WithContext(ctx))
	}))
	server.Config.ErrorLog = nil
	c.url = server.URL
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return c
}

func (c *feedCutter) enter(r *http.Request, cancel context.CancelFunc) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.off.Load() {
		return false
	}
	c.pending[r] = cancel
	return true
}

func (c *feedCutter) leave(r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.pending, r)
}

// cut drops requests for changes from now on, those that are held too.
func (c *feedCutter) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.off.Store(true)
	for _, cancel := range c.pending {
		cancel()
	}
}

func (c *feedCutter) mend() { c.off.Store(false) }
