package signin

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/seal"
	"vault-plugin-secrets-mcp/gateway/signin/application"
	"vault-plugin-secrets-mcp/gateway/signin/page"
)

// Events of the audit log and of the metrics.
const (
	eventBegun   = "begun"
	eventLogin   = "login"
	eventRefused = "refused"
	eventConsent = "consent"
	eventDenied  = "denied"
	eventCode    = "code"
)

// Reasons of refusals in the audit log.
const (
	reasonRateLimited  = "rate-limited"
	reasonBadRequest   = "bad-request"
	reasonApplication  = "application"  // it is not known, or is refused
	reasonRedirect     = "redirect"     // the application did not register it
	reasonResource     = "resource"     // it is another service's
	reasonNoLogin      = "no-login"     // there is none for people
	reasonCookie       = "cookie"       // the browser did not begin this sign-in, or the time is over
	reasonForeignForm  = "foreign-form" // a page of another origin sent it
	reasonLogin        = "login"        // the identity provider or Vault refused it
	reasonLost         = "lost"         // Vault does not know the login any more
	reasonTokenKind    = "token-kind"   // the login's token cannot carry a sign-in
	reasonPolicies     = "policies"     // the person's token can do more than person_policies allows
	reasonNoIdentity   = "no-identity"
	reasonIdentity     = "identity" // it is not one of the person's
	reasonSetup        = "setup"    // Vault's role or the like does not fit the gateway
	reasonUnavailable  = "vault-unavailable"
	reasonAuditFailure = "audit-unavailable"
)

// refusal is why a sign-in does not go on.
type refusal struct {
	status int
	page   page.ErrorData
	reason string // for the audit log
	detail string // likewise; never a secret

	// code, with a description, is for an application that somebody vouches for: it gets
	// them with a redirect (RFC 6749, section 4.1.2.1). "": it gets no error, since only
	// the person, or an administrator, can act.
	code        string
	description string

	wait time.Duration // for Retry-After; 0: none
}

// Error makes a refusal usable as an error. The text is for logs.
func (f *refusal) Error() string {
	if f.detail == "" {
		return f.reason
	}
	return f.reason + ": " + f.detail
}

// badRequest is the refusal of an authorization request with one of OAuth's codes.
func badRequest(code, description string) *refusal {
	return &refusal{
		status: http.StatusBadRequest, page: page.Request(code, description),
		reason: reasonBadRequest, detail: description, code: code, description: description,
	}
}

// unavailable is the refusal while something cannot be asked. It is not a "no".
func unavailable(reason string, err error) *refusal {
	f := &refusal{status: http.StatusServiceUnavailable, page: page.Unavailable(), reason: reason, wait: 5 * time.Second}
	if err != nil {
		f.detail = err.Error()
	}
	return f
}

// beginAgain is the refusal of a sign-in that is over.
func beginAgain(reason, detail string) *refusal {
	return &refusal{status: http.StatusBadRequest, page: page.BeginAgain(), reason: reason, detail: detail}
}

// facts name a sign-in in the audit log, as far as is known.
type facts struct {
	request  *request // nil: it is not valid, or not authentic
	login    string
	client   string // the identity
	person   string
	entityID string
	signIn   string // accessor of the person's token; "": nobody has logged in
}

// visit returns the id that the gate has given to a request, and its source.
func visit(r *http.Request) (id string, source netip.Addr) { return access.Visit(r.Context()) }

func event(r *http.Request, name string, known facts) access.SignInEvent {
	id, source := visit(r)
	e := access.SignInEvent{
		RequestID: id, Source: source, Event: name,
		Client: known.client, Person: known.person, EntityID: known.entityID, SignIn: known.signIn, Login: known.login,
	}
	if known.request != nil {
		e.Application, e.Resource = known.request.Application, known.request.Resource
	}
	return e
}

// record writes a line of the audit log. Nothing may be handed out if it cannot be written:
// the refusal is the answer then.
func (h *Handler) record(r *http.Request, name string, known facts, status int) *refusal {
	e := event(r, name, known)
	e.Status = status
	if err := h.Audit.Record(e); err != nil {
		return unavailable(reasonAuditFailure, err)
	}
	h.count(name)
	return nil
}

// refuse answers with a page; or, where somebody vouches for the application and the refusal
// has one of OAuth's error codes, with a redirect.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, known facts, f *refusal) {
	h.auditRefusal(r, known, f)
	to := known.request
	if to != nil && f.code != "" && to.Vouch != application.VouchNone {
		h.answerError(w, r, to, f.code, f.description)
		return
	}
	h.showRefusal(w, r, f)
}

func (h *Handler) showRefusal(w http.ResponseWriter, r *http.Request, f *refusal) {
	if f.wait > 0 {
		setRetryAfter(w.Header(), f.wait)
	}
	f.page.RequestID, _ = visit(r)
	page.Error(w, f.status, f.page)
}

// auditRefusal records a refusal. Those of strangers are counted, since anybody can cause any
// number of them; one after a login has a line of its own.
func (h *Handler) auditRefusal(r *http.Request, known facts, f *refusal) {
	h.count(eventRefused)
	e := event(r, eventRefused, known)
	e.Reason, e.Detail, e.Status = f.reason, f.detail, f.status
	if f.status == http.StatusServiceUnavailable || f.reason == reasonSetup || f.reason == reasonTokenKind {
		h.Log.Warn("a sign-in was refused", "reason", f.reason, "detail", f.detail, "login", known.login, "request_id", e.RequestID)
	}
	if known.signIn == "" {
		h.Audit.Count(e)
		return
	}
	if err := h.Audit.Record(e); err != nil {
		h.Log.Error("a refusal could not be written to the audit log", "error", err, "request_id", e.RequestID)
	}
}

// answerError sends the browser back to the application with an error (RFC 6749, section
// 4.1.2.1), and with the issuer (RFC 9207, section 2).
func (h *Handler) answerError(w http.ResponseWriter, r *http.Request, to *request, code, description string) {
	answer := url.Values{"error": {code}, "iss": {h.issuer}}
	if description = describe(description); description != "" {
		answer.Set("error_description", description)
	}
	if to.State != "" {
		answer.Set("state", to.State)
	}
	redirect(w, r, answerURL(to.Redirect, answer))
}

// admitPage bounds the requests of a source to the pages. Not ok: it has been answered.
func (h *Handler) admitPage(w http.ResponseWriter, r *http.Request) bool {
	_, source := visit(r)
	wait := h.Limits.pages.take(pageKey{r.URL.Path, sourceKey(source)}, h.Now())
	if wait == 0 {
		return true
	}
	h.refuse(w, r, facts{}, tooManyPages(wait))
	return false
}

func tooManyPages(wait time.Duration) *refusal {
	return &refusal{status: http.StatusTooManyRequests, page: page.TooMany(wait), reason: reasonRateLimited, wait: wait}
}

// sealedRefusal is the refusal of something sealed that does not open.
func sealedRefusal(err error) *refusal {
	if errors.Is(err, seal.ErrNoKeys) || !errors.Is(err, seal.ErrNotValid) {
		return unavailable(reasonUnavailable, err)
	}
	return beginAgain(reasonCookie, err.Error())
}

// settled is a context for work that must be finished although the browser has gone: a
// login that Vault has made must not be left behind.
func settled(ctx context.Context) (context.Context, context.CancelFunc) {
	const most = 45 * time.Second
	return context.WithTimeout(context.WithoutCancel(ctx), most)
}
