package access

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"vault-plugin-secrets-mcp/backend/policy"
	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/grants"
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
	Memory   *Memory  // nil: no bound
	Observer Observer // nil: none
	Tracer   Tracer   // nil: no traces

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
	if options.SignIn != nil {
		g.base = Base(options.Listener.PublicURL)
	}
	return g
}

// Drain has every answer from now on end its connection, so that clients go
// elsewhere for their next request.
func (g *Gate) Drain() { g.draining.Store(true) }

// Close writes the counted refusals to the audit log.
func (g *Gate) Close() { g.auditor.refusals.flush() }

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
		req.typed = r.URL.Path
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
	ctx, hold, f := g.admit(r.Context(), req, token)
	if f != nil {
		refuse(w, req, f)
		return f.Reason
	}
	defer hold.Release()
	defer req.releaseMemory()
	if f := checkMethod(r); f != nil { // of a resource, which says on every method how to get a token
		refuse(w, req, f)
		return f.Reason
	}
	conn := connection(ctx)
	conn.serve(req)
	defer conn.serve(nil)
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = &body{ReadCloser: r.Body, request: r, left: g.options.Limits.MaxBody}
	}
	next := r.WithContext(context.WithValue(ctx, requestKey{}, req))
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
func (g *Gate) admit(ctx context.Context, req *Request, token string) (context.Context, *grants.Hold, *Refusal) {
	// A grant may leave the cache between being found and being held.
	for range 3 {
		held, hold, err := g.tryAdmit(ctx, req, token)
		if errors.Is(err, grants.ErrStale) {
			continue
		}
		if err != nil {
			return nil, nil, refusalOf(err)
		}
		return held, hold, nil
	}
	return nil, nil, unavailable(grants.ErrStale)
}

func (g *Gate) tryAdmit(ctx context.Context, req *Request, token string) (context.Context, *grants.Hold, error) {
	grant, err := g.options.Broker.Grant(ctx, token, req.Source)
	if err != nil {
		return nil, nil, err
	}
	req.Grant = grant
	if !grant.AllowsSource(req.Source) {
		// To one who holds a token in the wrong place, it is a bad token.
		return nil, nil, invalidToken(ReasonSource)
	}
	if f := checkAudience(grant, req.Resource); f != nil {
		return nil, nil, f
	}
	use := grants.Use{Token: token, Source: req.Source}
	if req.serverName != "" {
		if use.Server, err = g.server(req.serverName); err != nil {
			return nil, nil, err
		}
		if err := grants.Allows(grant, use.Server); err != nil {
			return nil, nil, err
		}
		req.Server = use.Server
	}
	ctx, req.hold, err = g.options.Broker.Hold(ctx, grant, use)
	return ctx, req.hold, err
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
		return forbidden(ReasonServerGone)
	case errors.Is(err, grants.ErrRateLimited):
		return tooMany("Too many unknown access tokens came from your address.", err)
	case errors.Is(err, grants.ErrTooMany):
		return tooMany("This client has too many requests open.", err)
	}
	return unavailable(err)
}

// aggregatePath is the endpoint of all servers of a client.
const aggregatePath = "/mcp"

// route returns the handler for the request's path, the server that the path names, if it
// names one, and the resource, if it is one; nil where there is none. A slash at the end
// changes nothing: many clients and proxies add one.
func (g *Gate) route(r *http.Request) (next http.Handler, server, resource string) {
	if r.URL.RawPath != "" {
		return nil, "", ""
	}
	path := strings.TrimSuffix(r.URL.Path, "/")
	if rest, ok := strings.CutPrefix(path, SignInPath); ok && g.base != "" {
		if next, server = g.endpoint(rest); next != nil {
			resource = g.base + path
		}
		return next, server, resource
	}
	next, server = g.endpoint(path)
	return next, server, ""
}

// endpoint returns the handler of an MCP endpoint, and the server that the path names.
func (g *Gate) endpoint(path string) (next http.Handler, server string) {
	if path == aggregatePath && g.options.Aggregate != nil {
		return g.options.Aggregate, ""
	}
	name, ok := strings.CutPrefix(path, serversPath)
	if !ok {
		return nil, ""
	}
	if name, ok = strings.CutSuffix(name, "/mcp"); !ok || !validName(name) {
		return nil, ""
	}
	return g.options.Next, name
}

// serversPath is the prefix of single servers' paths.
const serversPath = "/servers/"

// validName bounds the names that the gateway looks up and writes to the audit log. The
// engine's names are of this form.
func validName(name string) bool {
	const most = 128
	if name == "" || len(name) > most {
		return false
	}
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

// notFound answers all other paths, without a token. After a 401, clients ask for a dozen
// well-known documents that this gateway does not have for these endpoints: where it is an
// OAuth server, it is one for those of sign-in alone. In the end they try to register, and some
// of them show their user that answer alone. For a wrong URL, the answer has the right ones.
func (g *Gate) notFound(w http.ResponseWriter, path string) {
	text := nothingHere
	if g.base != "" {
		text = signInElsewhere
	}
	if strings.HasPrefix(path+"/", serversPath) && !strings.Contains(path, "/.well-known/") {
		text = noSuchServerURL
	}
	header := w.Header()
	header.Set("Content-Type", "text/plain; charset=utf-8")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(http.StatusNotFound)
	_, _ = io.WriteString(w, text)
}

const (
	urls = "The gateway's URLs end in /mcp, for all servers that a client may reach, or in /servers/NAME/mcp, for the server that is registered as NAME.\n"

	nothingHere     = "Not found. There is no sign-in at this gateway: a request needs a valid token, in the header \"Authorization: Bearer ...\". " + urls
	noSuchServerURL = "Not found. " + urls

	signInElsewhere = "Not found. People sign in at the URLs that end in " + SignInPath + "/mcp, for all servers that they may reach, " +
		"or in " + SignInPath + "/servers/NAME/mcp, for the server that is registered as NAME. " +
		"At the others a request needs a valid token, in the header \"Authorization: Bearer ...\". " + urls
)
