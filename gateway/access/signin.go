package access

import (
	"context"
	"net/http"
	"net/netip"
	"time"
)

// SignIn serves the endpoints of sign-in that are for browsers and OAuth clients, beside the
// MCP endpoints under [SignInPath]. The gate has made its checks of connection, framing, host,
// form and size by then, but not of a token, and not of the page's origin.
type SignIn interface {
	http.Handler
	// Serves reports whether the path is one of the handler's.
	Serves(path string) bool
}

// maxSignInBody bounds the body of a request to [SignIn]: forms, and registrations.
const maxSignInBody = 64 << 10

// Visit returns the request id and the client's address of a request to [SignIn].
func Visit(ctx context.Context) (id string, source netip.Addr) {
	r := FromContext(ctx)
	if r == nil {
		return "", netip.Addr{}
	}
	return r.ID, r.Source
}

// servesSignIn reports whether the request is for the endpoints of sign-in.
func (g *Gate) servesSignIn(r *http.Request) bool {
	return g.options.SignIn != nil && r.URL.RawPath == "" && g.options.SignIn.Serves(r.URL.Path)
}

// isRoot reports whether a browser asks for the gateway's own page.
func (g *Gate) isRoot(r *http.Request) bool {
	return g.options.Root != nil && r.URL.Path == "/" && r.URL.RawPath == "" &&
		(r.Method == http.MethodGet || r.Method == http.MethodHead)
}

// servePage hands a request that needs no token to its handler, or refuses it.
func (g *Gate) servePage(w http.ResponseWriter, r *http.Request, next http.Handler) {
	req := &Request{
		ID:         g.ids.new(),
		Start:      time.Now(),
		Source:     g.proxies.source(r),
		httpMethod: r.Method,
		sink:       g.auditor,
		gate:       g,
	}
	if g.options.Observer != nil {
		g.options.Observer.RequestStarted()
	}
	outcome := ReasonAborted // unless the handler returns
	defer func() { g.observe(req, outcome) }()
	if f := g.checkPage(r); f != nil {
		refuse(w, req, f)
		outcome = f.Reason
		return
	}
	conn := connection(r.Context())
	conn.serve(req)
	defer conn.serve(nil)
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = &body{ReadCloser: r.Body, request: r, left: maxSignInBody}
	}
	next.ServeHTTP(w, r.WithContext(req.carriedBy(r.Context())))
	outcome = ReasonPage
}

// checkPage makes the checks of a request that needs no token. Pages of every origin may ask:
// the handlers say which of them may read the answer, and which may change something.
func (g *Gate) checkPage(r *http.Request) *Refusal {
	if f := g.checkTransport(r); f != nil {
		return f
	}
	return checkForm(r, maxSignInBody)
}
