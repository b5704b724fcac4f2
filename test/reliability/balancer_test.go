package reliability

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vault-plugin-secrets-mcp/test/harness"
)

// balancer spreads requests over gateways, one after the other, as a load
// balancer without stickiness does. One that is not ready, or does not take
// connections, is passed over.
type balancer struct {
	url      string
	gateways []*harness.Gateway
	ready    []atomic.Bool
	next     atomic.Int64
}

// look asks the gateways whether they are ready, again and again.
func (b *balancer) look(ctx context.Context) {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for ctx.Err() == nil {
		for i, g := range b.gateways {
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, g.Admin+"/readyz", http.NoBody)
			if err != nil {
				return
			}
			response, err := http.DefaultClient.Do(request)
			if err == nil {
				_ = response.Body.Close()
			}
			b.ready[i].Store(err == nil && response.StatusCode == http.StatusOK)
		}
		<-tick.C
	}
}

// dial connects to the next gateway.
func (b *balancer) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	err := errors.New("no gateway is ready")
	for range 2 * len(b.gateways) {
		i := int(b.next.Add(1)) % len(b.gateways)
		if !b.ready[i].Load() {
			continue
		}
		var conn net.Conn
		if conn, err = (&net.Dialer{}).DialContext(ctx, network, strings.TrimPrefix(b.gateways[i].URL, "http://")); err == nil {
			return conn, nil
		}
	}
	return nil, err
}

func newBalancer(t *testing.T, gateways ...*harness.Gateway) *balancer {
	t.Helper()
	b := &balancer{gateways: gateways, ready: make([]atomic.Bool, len(gateways))}
	for i := range b.ready {
		b.ready[i].Store(true)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var looking sync.WaitGroup
	looking.Go(func() { b.look(ctx) })
	t.Cleanup(func() {
		cancel()
		looking.Wait()
	})
	proxy := &httputil.ReverseProxy{
		// Each request is given to the next one.
		Transport:     &http.Transport{DisableKeepAlives: true, DialContext: b.dial},
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
