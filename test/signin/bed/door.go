package bed

import (
	"crypto/tls"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"

	"vault-plugin-secrets-mcp/test/harness"
)

// Door is the public URL: a proxy before the gateways, in the test's own process. It gives
// each request to the next gateway in turn, and passes on the source that a request names,
// so that every browser has an address of its own.
type Door struct {
	// URL is the public URL, without a path.
	URL string

	server    *httptest.Server
	authority *harness.Authority // nil: plain HTTP
	turn      atomic.Int64

	mu       sync.Mutex
	backends []http.Handler
	urls     []string
	meddle   func(w http.ResponseWriter, r *http.Request, behind http.Handler)
}

func newDoor(t *testing.T, secure bool) *Door {
	t.Helper()
	d := &Door{}
	d.server = httptest.NewUnstartedServer(d)
	if secure {
		d.authority = harness.NewAuthority(t)
		d.server.TLS = &tls.Config{Certificates: []tls.Certificate{d.authority.Pair(t)}, MinVersion: tls.VersionTLS12}
		d.server.StartTLS()
	} else {
		d.server.Start()
	}
	t.Cleanup(func() {
		d.server.CloseClientConnections() // streams would hold Close
		d.server.Close()
	})
	d.URL = d.server.URL
	return d
}

// open puts gateways behind the door.
func (d *Door) open(t *testing.T, gateways []*harness.Gateway) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, g := range gateways {
		target, err := url.Parse(g.URL)
		if err != nil {
			t.Fatal(err)
		}
		d.urls = append(d.urls, g.URL)
		d.backends = append(d.backends, &httputil.ReverseProxy{
			FlushInterval: -1, // streams
			ErrorLog:      log.New(io.Discard, "", 0),
			Rewrite: func(r *httputil.ProxyRequest) {
				r.SetURL(target) // the gateway sees its own address as Host
				if from := r.In.Header.Get(source); from != "" {
					r.Out.Header.Set(source, from)
				}
			},
			// Many tests wait for a gateway to cut a request.
			ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
		})
	}
}

// source is the header that names where a request comes from.
const source = "X-Forwarded-For"

// ServeHTTP implements [http.Handler].
func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	backends, meddle := d.backends, d.meddle
	d.mu.Unlock()
	if len(backends) == 0 {
		http.Error(w, "no gateway is there yet", http.StatusBadGateway)
		return
	}
	behind := backends[int(d.turn.Add(1))%len(backends)]
	if meddle != nil {
		meddle(w, r, behind)
		return
	}
	behind.ServeHTTP(w, r)
}

// Set sends every request from now on through meddle; nil ends it.
func (d *Door) Set(meddle func(w http.ResponseWriter, r *http.Request, behind http.Handler)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.meddle = meddle
}

// Inner are the addresses behind the door, which nobody outside may learn.
func (d *Door) Inner() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string{}, d.urls...)
}

// client trusts the door's authority, keeps no connection, and follows no redirect.
func (d *Door) client() *http.Client {
	transport := &http.Transport{DisableKeepAlives: true, DisableCompression: true}
	if d.authority != nil {
		transport.TLSClientConfig = &tls.Config{RootCAs: d.authority.Pool(), MinVersion: tls.VersionTLS12}
	}
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
