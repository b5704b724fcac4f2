package harness

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
)

// Front is a proxy before a real Vault, or a real gateway. It sees every request, and a
// test can change requests and answers there.
type Front struct {
	// URL is where it answers.
	URL string

	mu       sync.Mutex
	requests []*http.Request
	meddle   func(w http.ResponseWriter, r *http.Request, behind http.Handler)
}

// NewFront starts a front that forwards everything to an address.
func NewFront(t testing.TB, address string) *Front {
	t.Helper()
	target, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	behind := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }}
	f := &Front{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.requests = append(f.requests, r.Clone(r.Context()))
		meddle := f.meddle
		f.mu.Unlock()
		if meddle == nil {
			behind.ServeHTTP(w, r)
			return
		}
		meddle(w, r, behind)
	}))
	t.Cleanup(server.Close)
	f.URL = server.URL
	return f
}

// Set sends every request from now on through meddle; nil ends it.
func (f *Front) Set(meddle func(w http.ResponseWriter, r *http.Request, behind http.Handler)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.meddle, f.requests = meddle, nil
}

// Seen are the requests since the last Set.
func (f *Front) Seen() []*http.Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]*http.Request{}, f.requests...)
}
