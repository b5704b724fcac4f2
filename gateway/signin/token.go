package signin

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/seal"
	"vault-plugin-secrets-mcp/gateway/signin/application"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

// Events of the token endpoint, in the audit log and in metrics.
const (
	eventToken     = "token"     // a code was exchanged
	eventRefreshed = "refreshed" // a refresh token was, for the first time
	eventRepeated  = "repeated"  // one was again, within the grace
	eventReplayed  = "replayed"  // one was too late, or a code was a second time
	eventEnded     = "ended"     // a sign-in was, by its application or by the gateway
	eventMachine   = "machine"   // an assertion was exchanged
)

// Reasons of refusals at the token and the revocation endpoint, besides those of the pages.
const (
	reasonGrantType = "grant-type"
	reasonGrant     = "grant"     // the code, the refresh token or the assertion is not valid
	reasonAccess    = "access"    // Vault does not grant the client, or the engine refuses it
	reasonOver      = "over"      // the sign-in has reached its end, or Vault has ended it
	reasonReplay    = "replay"    // a code or a refresh token came again
	reasonAssertion = "assertion" // Vault or the gateway refuses the assertion
)

// Error codes of OAuth: RFC 6749 sections 4.1.2.1 and 5.2, RFC 7009 section 2.2.1, RFC 8707
// section 2.
const (
	codeInvalidRequest     = "invalid_request"
	codeInvalidClient      = "invalid_client"
	codeInvalidGrant       = "invalid_grant"
	codeInvalidScope       = "invalid_scope"
	codeInvalidTarget      = "invalid_target"
	codeUnauthorizedClient = "unauthorized_client"
	codeUnsupportedGrant   = "unsupported_grant_type"
	codeUnsupportedToken   = "unsupported_token_type"
	codeUnavailable        = "temporarily_unavailable"
	codeAccessDenied       = "access_denied"
)

// denial is the answer of the token endpoint to a request that gets nothing. Only a decision
// of Vault's active node, the engine or the gateway itself is a "no". Every other failure is
// 503, after which an application tries again with the same token.
type denial struct {
	status int
	code   string
	words  string // for the application's developer; never a secret
	reason string // for the audit log
	detail string // likewise; "": words
	event  string // for the audit log; "": eventRefused
	wait   time.Duration
	basic  bool // the application has tried HTTP's Basic
}

func (d *denial) Error() string { return d.code + ": " + d.words }

func denied(code, reason, words string) *denial {
	return &denial{status: http.StatusBadRequest, code: code, reason: reason, words: words}
}

// notNow is the denial while something cannot be asked. It ends nothing.
func notNow(reason string, err error) *denial {
	const pause = 2 * time.Second
	return &denial{
		status: http.StatusServiceUnavailable, code: codeUnavailable, reason: reason, detail: err.Error(), wait: pause,
		words: "Vault, or the gateway's audit log, cannot be asked now. Try again with the same request.",
	}
}

// exchange is one request to the token or the revocation endpoint, with the facts that are
// known so far.
type exchange struct {
	form  url.Values
	app   *application.Application // nil: none yet
	event access.SignInEvent
}

// session notes the facts of the sign-in in the event.
func (x *exchange) session(s *session) {
	x.event.Application, x.event.Resource = s.Application, s.Resource
	x.event.Client, x.event.Login, x.event.SignIn = s.Identity, s.Login, s.Accessor
	x.event.Person, x.event.EntityID = s.Person, s.Entity
}

// issued notes the engine's answer in the event.
func (x *exchange) issued(c *vaultclient.Creds) {
	x.event.Client, x.event.ClientID, x.event.Accessor = c.Client, c.ClientID, c.Accessor
	x.event.Person, x.event.EntityID = c.Person, c.EntityID
}

// tokenTimeout bounds a request to the token endpoint. Applications wait 30 s or less.
const tokenTimeout = 20 * time.Second

// token is the token endpoint (RFC 6749, section 3.2).
func (h *Handler) token(w http.ResponseWriter, r *http.Request) {
	h.serveExchange(w, r, func(ctx context.Context, x *exchange) (any, *denial) {
		grant := x.form.Get("grant_type")
		if grant == grantMachine {
			return h.exchangeAssertion(ctx, x, r.Header)
		}
		if d := h.authenticate(ctx, x, r.Header); d != nil {
			return nil, d
		}
		switch grant {
		case grantCode:
			return h.exchangeCode(ctx, x)
		case grantRefresh:
			return h.exchangeRefresh(ctx, x)
		case "":
			return nil, denied(codeInvalidRequest, reasonBadRequest, "grant_type is missing")
		}
		return nil, denied(codeUnsupportedGrant, reasonGrantType, "grant_type is not one of authorization_code, refresh_token and "+grantMachine)
	})
}

// serveExchange reads the form, has it served and writes the answer. Once begun, it goes on
// when the application has hung up, so that the sign-in is in the state of the answer.
func (h *Handler) serveExchange(w http.ResponseWriter, r *http.Request, serve func(context.Context, *exchange) (any, *denial)) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), tokenTimeout)
	defer cancel()
	x := &exchange{}
	x.event.RequestID, x.event.Source = visit(r)
	answer, d := h.tryExchange(ctx, x, w, r, serve)
	if d != nil {
		h.deny(w, x, d)
		return
	}
	answerJSON(w, http.StatusOK, answer)
}

func (h *Handler) tryExchange(ctx context.Context, x *exchange, w http.ResponseWriter, r *http.Request, serve func(context.Context, *exchange) (any, *denial)) (any, *denial) {
	if wait := h.Limits.tokens.take(sourceKey(x.event.Source), h.Now()); wait > 0 {
		return nil, tooMany(wait, "This address has sent too many requests.")
	}
	form, err := parameters(w, r)
	if err != nil {
		return nil, denied(codeInvalidRequest, reasonBadRequest, err.Error())
	}
	x.form = form
	return serve(ctx, x)
}

func tooMany(wait time.Duration, words string) *denial {
	return &denial{status: http.StatusTooManyRequests, code: codeUnavailable, reason: reasonRateLimited, words: words, wait: wait}
}

func tooManyTokens(wait time.Duration) *denial {
	return tooMany(wait, "This sign-in has got too many access tokens.")
}

// authenticate has the application authenticated. A refusal comes before the grant is
// examined. After it applications register again (RFC 6749, section 5.2).
func (h *Handler) authenticate(ctx context.Context, x *exchange, header http.Header) *denial {
	app, err := h.Applications.Authenticate(ctx, header, x.form)
	if err != nil {
		return h.denialOfApplication(err)
	}
	x.app = app
	x.event.Application = app.ID
	return nil
}

func (h *Handler) denialOfApplication(err error) *denial {
	var refused *application.Error
	if !errors.As(err, &refused) || refused.Kind == application.Unavailable {
		return notNow(reasonUnavailable, err)
	}
	d := &denial{reason: reasonApplication, words: refused.Words(), detail: refused.Error(), basic: refused.Basic}
	d.status, d.code = refused.OAuth()
	return d
}

// tokenAnswer is the answer with an access token (RFC 6749, section 5.1).
type tokenAnswer struct {
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type"`
	ExpiresIn    int    `json:"expires_in"`
	RefreshToken string `json:"refresh_token,omitempty"`
	Scope        string `json:"scope"`
}

func answerOf(c *vaultclient.Creds, life time.Duration, refreshToken string) *tokenAnswer {
	return &tokenAnswer{
		AccessToken: c.Token, TokenType: "Bearer", ExpiresIn: int(min(c.Life, life) / time.Second),
		RefreshToken: refreshToken, Scope: scope,
	}
}

// recordExchange writes the audit line of an answer with tokens. There is no such answer if the
// line cannot be written.
func (h *Handler) recordExchange(x *exchange, event string) *denial {
	e := x.event
	e.Event, e.Status = event, http.StatusOK
	if err := h.Audit.Record(e); err != nil {
		return notNow(reasonAuditFailure, err)
	}
	h.count(event)
	return nil
}

// deny answers with an error (RFC 6749, section 5.2), and notes it in the audit log. Denials
// of strangers are counted, since anybody can cause any number of them.
func (h *Handler) deny(w http.ResponseWriter, x *exchange, d *denial) {
	e := x.event
	e.Event, e.Reason, e.Detail, e.Status = d.event, d.reason, d.detail, d.status
	if e.Event == "" {
		e.Event = eventRefused
	}
	if e.Detail == "" {
		e.Detail = d.words
	}
	h.count(e.Event)
	if d.status == http.StatusServiceUnavailable {
		h.Log.Warn("a request for a token could not be judged", "reason", d.reason, "detail", d.detail, "request_id", e.RequestID)
	}
	if e.SignIn == "" || d.status == http.StatusTooManyRequests {
		h.Audit.Count(e)
	} else if err := h.Audit.Record(e); err != nil {
		h.Log.Error("a refusal could not be written to the audit log", "error", err, "request_id", e.RequestID)
	}
	if d.wait > 0 {
		setRetryAfter(w.Header(), d.wait)
	}
	if d.basic {
		w.Header().Set("WWW-Authenticate", `Basic realm="mcp"`)
	}
	answerJSON(w, d.status, map[string]string{"error": d.code, "error_description": describe(d.words)})
}

// answerJSON answers a program. Nothing keeps the answer (RFC 6749, section 5.1).
func answerJSON(w http.ResponseWriter, status int, answer any) {
	text, err := json.Marshal(answer)
	if err != nil { // these types always encode
		panic(err)
	}
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	_, _ = w.Write(text)
}

// denialOfSealed is the denial of a code or a refresh token that does not open.
func denialOfSealed(err error, what string) *denial {
	if errors.Is(err, seal.ErrNotValid) {
		return denied(codeInvalidGrant, reasonGrant, what+" is not valid")
	}
	return notNow(reasonUnavailable, err)
}

// checkTarget compares the resource of the request, if it names one, with the sign-in's (RFC
// 8707, section 2.2). Nothing widens it. After a change of public_url the sign-in's own
// resource is no longer valid, and a token for it would be refused everywhere.
func (h *Handler) checkTarget(x *exchange, s *session) *denial {
	if own, ok := h.canonicalResource(s.Resource); !ok || own != s.Resource {
		return denied(codeInvalidGrant, reasonResource, "the gateway has other URLs since the sign-in: sign in again")
	}
	asked := x.form.Get("resource")
	if asked == "" {
		return nil
	}
	if resource, ok := h.canonicalResource(asked); !ok || resource != s.Resource {
		return denied(codeInvalidTarget, reasonResource, "resource is not the one that the sign-in is for")
	}
	return nil
}

// checkApplication makes sure that a code or a refresh token was given to this application.
func checkApplication(x *exchange, s *session, what string) *denial {
	if s.Client != clientHash(x.app.ClientID) {
		return denied(codeInvalidGrant, reasonGrant, what+" was given to another application")
	}
	return nil
}
