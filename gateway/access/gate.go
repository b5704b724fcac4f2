package access

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"vault-plugin-secrets-mcp/backend/policy"
	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/usage"
)

// Observer counts requests, for metrics.
type Observer interface {
	// RequestStarted is called at the start of every request.
	RequestStarted()
	// RequestDone is called at its end. server is the name of a
	// registered server, or ""; method is the JSON-RPC method as the client
	// wrote it; outcome is the reason of a refusal, or "allowed".
	RequestDone(server, method, outcome string, took time.Duration)
}

// Options of a Gate.
type Options struct {
	Broker   *grants.Broker
	Audit    *AuditLog
	Listener config.Listener
	Limits   config.Limits
	Memory   *Memory         // nil: no bound
	Rates    *ClientRates    // nil: of this gate alone
	Observer Observer        // nil: none
	Tracer   Tracer          // nil: no traces
	Usage    *usage.Recorder // nil: what is used is not noted

	// Next serves requests that have passed, to /servers/{name}/mcp. Its
	// context carries the Request, and ends when access is taken away.
	Next http.Handler

	// Aggregate serves those to /mcp, which name no server yet: see
	// [Request.SubRequest]. Nil: there is no such endpoint.
	Aggregate http.Handler

	// SignIn serves the pages and endpoints of sign-in. With it, and a public URL, the
	// endpoints of Next and Aggregate are there once more under [SignInPath], for tokens that
	// were got there. Nil: there is no sign-in at this gateway.
	SignIn SignIn

	// Root serves the page at "/". Nil: there is none.
	Root http.Handler
}

// Gate is the middleware.
type Gate struct {
	options Options
	ids     *requestIDs
	auditor *auditor
	hosts   *hosts
	proxies proxies
	origins *origins
	base    string // of the URLs of resources; "": there are none

	draining atomic.Bool
}

// New returns the gate to options.Next.
func New(options Options) *Gate {
	g := &Gate{
		options: options,
		ids:     newRequestIDs(),
		auditor: newAuditor(options.Audit),
		hosts:   newHosts(options.Listener),
		proxies: options.Listener.TrustedProxies,
		origins: newOrigins(options.Listener.AllowedOrigins),
	}
	if options.Rates == nil {
		g.options.Rates = new(ClientRates)
	}
	if options.SignIn != nil {
		g.base = Base(options.Listener.PublicURL)
	}
	return g
}

// Drain has every answer from now on end its connection, so that clients go
// elsewhere for their next request.
func (g *Gate) Drain() { g.draining.Store(true) }

// Close writes the counted refusals to the audit log.
func (g *Gate) Close() {
	g.auditor.refusals.flush()
	g.auditor.limited.flush()
}

// ServeHTTP checks the request, and hands it on or refuses it.
func (g *Gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if g.draining.Load() {
		w.Header().Set("Connection", "close")
	}
	dropAmbiguousHeaders(r.Header)
	next, name, resource := g.route(r)
	switch {
	case next != nil:
	case g.servesSignIn(r):
		g.servePage(w, r, g.options.SignIn)
		return
	case g.isRoot(r):
		g.servePage(w, r, g.options.Root)
		return
	}
	preflight := g.admitPage(w, r)
	if next == nil {
		if preflight {
			answerPreflight(w, r)
		} else {
			g.notFound(w, r.URL.Path)
		}
		return
	}
	req := &Request{
		ID:         g.ids.new(),
		Start:      time.Now(),
		Source:     g.proxies.source(r),
		httpMethod: r.Method,
		serverName: name,
		sink:       g.auditor,
		gate:       g,
		next:       next,
		preflight:  preflight,
		Resource:   resource,
	}
	if resource != "" {
		req.typed = strings.Clone(r.URL.Path) // the request may be kept for longer than its header
	}
	if g.options.Observer != nil {
		g.options.Observer.RequestStarted()
	}
	if g.options.Tracer != nil {
		var ctx context.Context
		ctx, req.span = g.options.Tracer.Start(r)
		r = r.WithContext(ctx)
	}
	outcome := ReasonAborted // unless serve returns
	defer func() { g.observe(req, outcome) }()
	outcome = g.serve(w, r, req)
}

// serve returns the outcome for metrics.
func (g *Gate) serve(w http.ResponseWriter, r *http.Request, req *Request) string {
	if f := g.checkRequest(r); f != nil {
		refuse(w, req, f)
		return f.Reason
	}
	if req.preflight {
		req.status = http.StatusNoContent
		answerPreflight(w, r)
		return req.outcome()
	}
	f := checkForm(r, g.options.Limits.MaxBody)
	if f == nil && req.Resource == "" {
		f = checkMethod(r)
	}
	if f != nil {
		refuse(w, req, f)
		return f.Reason
	}
	token, f := bearer(r.Header)
	if f != nil {
		refuse(w, req, f)
		return f.Reason
	}
	ctx, f := g.admit(r.Context(), req, token)
	if f != nil {
		refuse(w, req, f)
		return f.Reason
	}
	defer req.hold.Release()
	defer req.releaseMemory()
	if f := checkMethod(r); f != nil { // of a resource, which says on every method how to get a token
		refuse(w, req, f)
		return f.Reason
	}
	conn := connection(ctx)
	conn.serve(req)
	defer conn.serve(nil)
	next := r.WithContext(req.carriedBy(ctx))
	if r.Body != nil && r.Body != http.NoBody {
		req.body = body{ReadCloser: r.Body, request: r, left: g.options.Limits.MaxBody, hold: req.hold}
		next.Body = &req.body
	}
	defer finish(ctx, req)
	req.next.ServeHTTP(w, next)
	return req.outcome()
}

// finish writes the outcome of an allowed request that has none yet.
func finish(ctx context.Context, req *Request) {
	req.Outcome(0, 0, context.Cause(ctx))
}

// checkRequest makes the checks that come before a page's preflight is answered.
func (g *Gate) checkRequest(r *http.Request) *Refusal {
	if f := g.checkTransport(r); f != nil {
		return f
	}
	return g.checkOrigin(r)
}

// checkTransport makes sure that the request is one, and that it is for this gateway.
func (g *Gate) checkTransport(r *http.Request) *Refusal {
	if f := checkConnection(r.Context()); f != nil {
		return f
	}
	if f := checkStream(r); f != nil {
		return f
	}
	if ambiguous(r.Context()) {
		f := badRequest("the request's length is given in two ways, or in none that is safe")
		f.hangUp = true
		return f
	}
	if !g.hosts.allows(r.Host) {
		return refusedHost(r.Host)
	}
	return nil
}

// admit goes from a token to a hold on its grant for the server. On success,
// req has both.
func (g *Gate) admit(ctx context.Context, req *Request, token string) (context.Context, *Refusal) {
	// A grant may leave the cache between being found and being held.
	for range 3 {
		held, err := g.tryAdmit(ctx, req, token)
		if errors.Is(err, grants.ErrStale) {
			continue
		}
		if err != nil {
			return nil, refusalOf(err)
		}
		req.hold = &req.held
		return held, nil
	}
	return nil, unavailable(grants.ErrStale)
}

func (g *Gate) tryAdmit(ctx context.Context, req *Request, token string) (context.Context, error) {
	grant, err := g.options.Broker.Grant(ctx, token, req.Source)
	if err != nil {
		return nil, err
	}
	req.Grant = grant
	if !grant.AllowsSource(req.Source) {
		// To one who holds a token in the wrong place, it is a bad token.
		return nil, invalidToken(ReasonSource)
	}
	if f := checkAudience(grant, req.Resource); f != nil {
		return nil, f
	}
	if f := g.checkRate(req); f != nil {
		return nil, f
	}
	use := grants.Use{Token: token, Source: req.Source}
	if req.serverName != "" {
		if use.Server, err = g.server(req.serverName); err != nil {
			return nil, err
		}
		if err := grants.Allows(grant, use.Server); err != nil {
			return nil, err
		}
		req.Server = use.Server
	}
	return g.options.Broker.HoldIn(ctx, &req.held, grant, use)
}

// server returns the registered server of that name.
func (g *Gate) server(name string) (*grants.Server, error) {
	server, err := g.options.Broker.FindServer(name)
	if err == nil && server == nil {
		// Without the name: it is whatever the client wrote, perhaps a token.
		err = forbidden(policy.UnknownServer)
	}
	return server, err
}

func (g *Gate) observe(req *Request, outcome string) {
	if req.span != nil {
		req.span.End(req, outcome)
	}
	if g.options.Observer == nil {
		return
	}
	server := ""
	if req.Server != nil {
		server = req.Server.Name
	}
	g.options.Observer.RequestDone(server, req.Method, outcome, time.Since(req.Start))
}

// refusalOf turns an error of the broker into the refusal that answers it.
func refusalOf(err error) *Refusal {
	var f *Refusal
	switch {
	case errors.As(err, &f):
		return f
	case errors.Is(err, grants.ErrInactive):
		f = invalidToken(ReasonInactiveToken)
		if err != grants.ErrInactive { //nolint:errorlint // a wrapping error says more
			f.Detail = err.Error()
		}
		return f
	case errors.Is(err, grants.ErrNotAllowed):
		return notAllowed(err)
	case errors.Is(err, grants.ErrServerGone):
		return serverGone(err)
	case errors.Is(err, grants.ErrRateLimited):
		return tooMany("Too many unknown access tokens came from your address.", err)
	case errors.Is(err, grants.ErrTooMany):
		return tooMany("This client has too many requests open.", err)
	}
	f = unavailable(err)
	if errors.Is(err, grants.ErrPinsUnknown) {
		f.Message = "The gateway cannot check this server at the moment."
	}
	return f
}
