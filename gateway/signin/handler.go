package signin

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/seal"
	"vault-plugin-secrets-mcp/gateway/signin/application"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

// Paths of the endpoints, below the public URL. IssuerPath ends the issuer's URL.
const (
	IssuerPath    = access.SignInPath
	authorizePath = IssuerPath + "/authorize"
	loginPath     = IssuerPath + "/login"
	callbackPath  = IssuerPath + "/callback"
	consentPath   = IssuerPath + "/consent"
	TokenPath     = IssuerPath + "/token"
	registerPath  = IssuerPath + "/register"
	revokePath    = IssuerPath + "/revoke"

	// Some applications expect the endpoints at the root of the host and ignore the
	// metadata.
	rootTokenPath     = "/token"
	rootAuthorizePath = "/authorize"
)

// Engine answers requests of the gateway's own login.
type Engine interface {
	// SignIn reads the identities and logins of sign-in.
	SignIn(ctx context.Context) (*vaultclient.SignInList, error)
}

// Keys are the keys that seal the state that sign-in gives to others.
type Keys interface {
	// RefreshSessionKeys fetches the keys for something that is sealed under a newer one.
	RefreshSessionKeys(ctx context.Context) error
}

// Observer counts events, for metrics.
type Observer interface {
	// SignInEvent counts one: begun, login, refused, consent, denied, code, token,
	// refreshed, repeated, replayed, ended, machine.
	SignInEvent(event string)
}

// Options of a Handler.
type Options struct {
	Settings  *config.SignIn
	PublicURL string // with which every URL begins; without a slash at the end

	Sealer       *seal.Sealer
	Applications *application.Registry
	People       People
	Engine       Engine
	Broker       Keys
	Audit        access.SignInAudit
	Observer     Observer // nil: none
	Limits       *Limits  // nil: its own
	Log          hclog.Logger
	Now          func() time.Time // nil: time.Now
}

// Handler serves the endpoints of sign-in.
type Handler struct {
	Options

	issuer    string
	documents *documents
	routes    map[string]route
}

// route is one endpoint.
type route struct {
	methods []string
	open    bool // pages of any origin may use it: nothing there relies on a cookie
	serve   http.HandlerFunc
}

// New returns the handler.
func New(options Options) (*Handler, error) {
	switch {
	case options.Settings == nil:
		return nil, errors.New("sign-in: there are no settings")
	case options.PublicURL == "" || strings.HasSuffix(options.PublicURL, "/"):
		return nil, errors.New("sign-in: the public URL is empty, or ends with a slash")
	}
	if options.Now == nil {
		options.Now = time.Now
	}
	if options.Log == nil {
		options.Log = hclog.NewNullLogger()
	}
	if options.Limits == nil {
		options.Limits = NewLimits()
	}
	h := &Handler{Options: options, issuer: options.PublicURL + IssuerPath}
	h.documents = newDocuments(h)
	page, form := []string{http.MethodGet, http.MethodPost}, []string{http.MethodPost}
	h.routes = map[string]route{
		authorizePath:     {methods: page, serve: h.authorize},
		loginPath:         {methods: form, serve: h.login},
		callbackPath:      {methods: []string{http.MethodGet}, serve: h.callback},
		consentPath:       {methods: form, serve: h.consent},
		TokenPath:         {methods: form, open: true, serve: h.token},
		registerPath:      {methods: form, open: true, serve: h.register},
		revokePath:        {methods: form, open: true, serve: h.revoke},
		rootTokenPath:     {methods: form, open: true, serve: h.token},
		rootAuthorizePath: {methods: page, serve: h.rootAuthorize},
	}
	return h, nil
}

// Serves reports whether the handler has an endpoint at the path.
func (h *Handler) Serves(path string) bool {
	_, ok := h.route(path)
	return ok
}

// route returns the endpoint at the path.
func (h *Handler) route(path string) (route, bool) {
	if r, ok := h.routes[path]; ok {
		return r, true
	}
	if document := h.documents.at(path); document != nil {
		return route{
			methods: []string{http.MethodGet, http.MethodHead},
			open:    true,
			serve:   func(w http.ResponseWriter, r *http.Request) { serveDocument(w, r, document) },
		}, true
	}
	return route{}, false
}

// ServeHTTP answers a request that the gate has let through.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	at, ok := h.route(r.URL.Path)
	if !ok {
		plain(w, http.StatusNotFound, "Not found.\n")
		return
	}
	if at.open {
		allowAnyOrigin(w.Header())
		if r.Method == http.MethodOptions {
			answerPreflight(w, at.methods)
			return
		}
	}
	if !slices.Contains(at.methods, r.Method) {
		h.refuseMethod(w, r, at)
		return
	}
	at.serve(w, r)
}

// refuseMethod answers 405.
func (h *Handler) refuseMethod(w http.ResponseWriter, r *http.Request, at route) {
	allowed := at.methods
	if at.open {
		allowed = append(slices.Clone(allowed), http.MethodOptions)
	}
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	text := "Use " + strings.Join(at.methods, " or ") + ".\n"
	if r.URL.Path == callbackPath && r.Method == http.MethodPost {
		text = "The identity provider has answered with a form (response_mode form_post), which sign-in does not take. " +
			"Leave oidc_response_mode of Vault's oidc method at its default, \"query\".\n"
	}
	plain(w, http.StatusMethodNotAllowed, text)
}

// rootAuthorize sends a browser that an application has sent to the root to the endpoint.
func (h *Handler) rootAuthorize(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		h.authorize(w, r)
		return
	}
	to := h.PublicURL + authorizePath
	if r.URL.RawQuery != "" {
		to += "?" + r.URL.RawQuery
	}
	redirect(w, r, to)
}

// redirect sends the browser to a URL: with 302, or with 303 after a form, so that the form
// is not sent again.
func redirect(w http.ResponseWriter, r *http.Request, to string) {
	status := http.StatusFound
	if r.Method == http.MethodPost {
		status = http.StatusSeeOther
	}
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Location", to)
	header.Set("Content-Length", "0")
	w.WriteHeader(status)
}

// plain answers with a line of text, for programs.
func plain(w http.ResponseWriter, status int, text string) {
	header := w.Header()
	header.Set("Content-Type", "text/plain; charset=utf-8")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", "no-store")
	header.Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
}

// count counts an event for metrics.
func (h *Handler) count(event string) {
	if h.Observer != nil {
		h.Observer.SignInEvent(event)
	}
}
