package conformance

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"testing"
)

// front stands before the gateway and adds the token, since the runners cannot
// send one. Everything else stays what it is: Host and Origin, and each byte of
// the answers, in the pieces in which they come; but for the names, before a
// gateway that serves the server as one of many. (httputil.ReverseProxy is not
// good enough: through it alone, without a gateway, the runner hangs now and
// then.)
type front struct {
	URL  string // without a path
	ways atomic.Pointer[way]
}

// way is where the front passes requests to.
type way struct {
	*url.URL
	token string
	names *names // nil: they stay
}

func newFront(t *testing.T) *front {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	f := &front{URL: "http://" + listener.Addr().String()}
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go f.serve(client)
		}
	}()
	return f
}

// to has requests go to one of the gateway's URLs, with a token, and returns the
// front's own.
func (f *front) to(t *testing.T, target, token string, names *names) string {
	t.Helper()
	to, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	f.ways.Store(&way{to, token, names})
	return f.URL + "/"
}

// serve passes one connection's requests on, until either side hangs up.
func (f *front) serve(client net.Conn) {
	defer client.Close()
	way := f.ways.Load()
	gateway, err := net.Dial("tcp", way.Host) // ends with the client's connection
	if err != nil {
		return
	}
	defer gateway.Close()
	go func() {
		if way.names == nil {
			_, _ = io.Copy(client, gateway)
		} else {
			way.names.answers(client, gateway)
		}
		_ = client.Close()
	}()
	requests := bufio.NewReader(client)
	for {
		request, err := http.ReadRequest(requests)
		if err != nil {
			return
		}
		request.URL = way.URL
		request.Header.Set("Authorization", "Bearer "+way.token)
		if way.names != nil && way.names.request(request) != nil {
			return
		}
		if request.Write(gateway) != nil {
			return
		}
	}
}
