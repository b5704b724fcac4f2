package test

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// front is a proxy before a real Vault, or a real gateway: it sees every request,
// and may change what becomes of it.
type front struct {
	url string

	mu       sync.Mutex
	requests []*http.Request
	meddle   func(w http.ResponseWriter, r *http.Request, behind http.Handler)
}

// newFront starts a front that passes everything on to an address.
func newFront(t *testing.T, address string) *front {
	t.Helper()
	target, err := url.Parse(address)
	require.NoError(t, err)
	behind := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }}
	f := &front{}
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
	f.url = server.URL
	return f
}

// set has every request from now on go through meddle; nil ends it.
func (f *front) set(meddle func(w http.ResponseWriter, r *http.Request, behind http.Handler)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.meddle, f.requests = meddle, nil
}

// seen are the requests since the last set.
func (f *front) seen() []*http.Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]*http.Request{}, f.requests...)
}

// isWrite tells whether a request may change something in Vault.
func isWrite(r *http.Request) bool {
	return r.Method != http.MethodGet && r.Method != http.MethodHead && r.Method != "LIST" && r.URL.Path != "/v1/mcp/lookup"
}

// cut ends the connection without an answer.
func cut() { panic(http.ErrAbortHandler) }
