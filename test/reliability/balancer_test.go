package reliability

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strings"
	"sync/atomic"
	"testing"

	"vault-plugin-secrets-mcp/test/harness"
)

// balancer spreads requests over gateways, one after the other, as a load
// balancer without stickiness does. One that does not take connections is passed
// over.
type balancer struct {
	url  string
	next atomic.Int64
}

func newBalancer(t *testing.T, gateways ...*harness.Gateway) *balancer {
	t.Helper()
	b := &balancer{}
	transport := &http.Transport{
		DisableKeepAlives: true, // so that each request is given to the next one
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			var conn net.Conn
			var err error
			for range gateways {
				g := gateways[int(b.next.Add(1))%len(gateways)]
				if conn, err = (&net.Dialer{}).DialContext(ctx, network, strings.TrimPrefix(g.URL, "http://")); err == nil {
					return conn, nil
				}
			}
			return nil, err
		},
	}
	proxy := &httputil.ReverseProxy{
		Transport:     transport,
		FlushInterval: -1,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "http", r.In.Host
		},
		ErrorLog:     log.New(io.Discard, "", 0), // gateways are killed on purpose
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	server := httptest.NewServer(proxy)
	b.url = server.URL
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return b
}
