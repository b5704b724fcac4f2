package signin

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"vault-plugin-secrets-mcp/gateway/signin/application"
	"vault-plugin-secrets-mcp/gateway/signin/page"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

// pending is the question to a person. It is sealed in the form of the consent page, and
// bound to the cookie of the login: a form is good in the one browser in which the login was.
type pending struct {
	transaction
	Token    string `json:"t,omitempty"` // the person's, of ten minutes; "": it is revoked, and the answer can only be no
	Accessor string `json:"x,omitempty"`
	Entity   string `json:"y,omitempty"`
	Person   string `json:"z,omitempty"`
	Asked    int64  `json:"q"`
}

// sealForm seals the question to a person. The form names its cookie.
func (h *Handler) sealForm(s *signedIn, token string) (string, error) {
	sealed, err := h.seal(purposeConsent, []byte(s.key.value), pending{
		transaction: s.transaction, Token: token, Accessor: s.token.Accessor, Entity: s.token.EntityID, Person: s.person(), Asked: h.Now().Unix(),
	})
	if err != nil {
		return "", err
	}
	return strings.TrimPrefix(s.key.name, h.cookieStem()) + "." + sealed, nil
}

// askConsent shows the consent page. An earlier sign-in of the person, with this application or
// another, does not replace the page: it was consent to that sign-in alone.
func (h *Handler) askConsent(ctx context.Context, w http.ResponseWriter, r *http.Request, s *signedIn, found []identity) {
	form, err := h.sealForm(s, s.token.Secret())
	if err != nil {
		h.abandon(ctx, s.token)
		h.refuse(w, r, s.facts(), unavailable(reasonUnavailable, err))
		return
	}
	offered := make([]page.Identity, 0, len(found))
	for _, one := range found {
		offered = append(offered, page.Identity{Name: one.name, Description: one.Description, Servers: one.Servers, AllServers: one.AllServers})
	}
	h.setCookie(w, s.key.name, s.key.value) // for another ten minutes
	page.Consent(w, page.ConsentData{
		Application: s.Name,
		Redirect:    s.Redirect,
		Vouch:       vouchSentence(&s.request),
		Verified:    s.Vouch != application.VouchNone,
		Person:      s.person(),
		Login:       s.title,
		Resource:    s.Resource,
		Lasts:       h.Settings.SessionMax,
		Identities:  offered,
		Form:        form,
		Action:      h.PublicURL + consentPath,
	})
}

// vouchSentence says who vouches for an application.
func vouchSentence(asked *request) string {
	switch asked.Vouch {
	case application.VouchFile:
		return "The people who run this gateway have registered it."
	case application.VouchDocument:
		return asked.Host + " says that this application is its own."
	}
	return "It has registered itself, and nobody vouches for its name."
}

// showNoIdentity tells a person that there is no identity for them. Their token is revoked.
func (h *Handler) showNoIdentity(w http.ResponseWriter, r *http.Request, s *signedIn) {
	h.auditRefusal(r, s.facts(), &refusal{status: http.StatusForbidden, reason: reasonNoIdentity})
	data := page.NoIdentityData{Application: s.Name, Person: s.person(), Login: s.title}
	data.RequestID, _ = visit(r)
	if form, err := h.sealForm(s, ""); err == nil {
		data.Form, data.Action = form, h.PublicURL+consentPath
		h.setCookie(w, s.key.name, s.key.value)
	}
	page.NoIdentity(w, data)
}

// consent takes the person's decision. Nobody else can make it: the form is sealed, bound to
// a cookie that no other browser has, and must come from the gateway's own page.
func (h *Handler) consent(w http.ResponseWriter, r *http.Request) {
	values, ok := h.ownForm(w, r)
	if !ok {
		return
	}
	p, key, f := h.pendingOf(r, values.Get(page.FieldForm))
	if f != nil {
		h.refuse(w, r, facts{}, f)
		return
	}
	s := &signedIn{transaction: p.transaction, key: key, token: vaultclient.NewPersonToken(p.Token)}
	s.token.Accessor, s.token.EntityID, s.token.DisplayName = p.Accessor, p.Entity, p.Person
	ctx, cancel := settled(r.Context())
	defer cancel()
	switch values.Get(page.FieldDecision) {
	case page.DecisionAllow:
		h.allow(ctx, w, r, s, values.Get(page.FieldIdentity))
	case page.DecisionDeny:
		h.decline(ctx, w, r, s)
	default:
		h.refuse(w, r, s.facts(), pageOnly(badRequest(codeInvalidRequest, "the form has no decision")))
	}
}

// pageOnly keeps a refusal from the application: the person can still decide.
func pageOnly(f *refusal) *refusal {
	f.code = ""
	return f
}

// pendingOf opens the form with the cookie that it names.
func (h *Handler) pendingOf(r *http.Request, form string) (*pending, cookieKey, *refusal) {
	id, sealed, ok := strings.Cut(form, ".")
	if !ok || !isCookieID(id) {
		return nil, cookieKey{}, beginAgain(reasonBadRequest, "the form is not the gateway's")
	}
	key := cookieKey{name: h.cookieStem() + id}
	if key.value = cookieOf(r, key.name); key.value == "" {
		return nil, key, &refusal{status: http.StatusBadRequest, page: page.MissingCookie(), reason: reasonCookie, detail: "the cookie of this login is missing"}
	}
	var p pending
	if err := h.open(r.Context(), purposeConsent, []byte(key.value), sealed, &p); err != nil {
		return nil, key, sealedRefusal(err)
	}
	if h.cookieName(p.Vault) != key.name || h.over(p.Asked) {
		return nil, key, beginAgain(reasonCookie, "the decision came too late")
	}
	return &p, key, nil
}

// decline ends the login, and tells the application.
func (h *Handler) decline(ctx context.Context, w http.ResponseWriter, r *http.Request, s *signedIn) {
	if s.token.Secret() != "" {
		h.abandon(ctx, s.token)
	}
	if f := h.record(r, eventDenied, s.facts(), http.StatusSeeOther); f != nil {
		h.Log.Error("a denial could not be written to the audit log", "detail", f.detail)
	}
	h.setCookie(w, s.key.name, "")
	h.answerError(w, r, &s.request, codeAccessDenied, "the person did not allow it")
}

// allow gives a code for an identity, if it is still one of the person's.
func (h *Handler) allow(ctx context.Context, w http.ResponseWriter, r *http.Request, s *signedIn, name string) {
	if s.token.Secret() == "" {
		h.showNoIdentity(w, r, s)
		return
	}
	known := s.facts()
	f := h.stillLives(ctx, s.token)
	var found []identity
	if f == nil {
		found, f = h.identities(ctx, s.token)
	}
	if f == nil && !hasIdentity(found, name) {
		f = pageOnly(badRequest(codeAccessDenied, "the identity is not one of yours, or none was chosen"))
		f.reason = reasonIdentity
	}
	if f != nil {
		h.refuse(w, r, known, f)
		return
	}
	known.client = name
	if f := h.record(r, eventConsent, known, http.StatusSeeOther); f != nil {
		h.refuse(w, r, known, f)
		return
	}
	if f := h.giveCode(ctx, w, r, s, name); f != nil {
		h.refuse(w, r, known, f)
	}
}

// stillLives refuses a decision after the end of the person's token: its ten minutes are over,
// or it was ended.
func (h *Handler) stillLives(ctx context.Context, t *vaultclient.PersonToken) *refusal {
	_, err := h.People.Lookup(ctx, t.Secret())
	switch {
	case errors.Is(err, vaultclient.ErrDead):
		return beginAgain(reasonLost, "the person's token has ended")
	case err != nil:
		return unavailable(reasonUnavailable, err)
	}
	return nil
}

func hasIdentity(found []identity, name string) bool {
	for _, one := range found {
		if one.name == name {
			return true
		}
	}
	return false
}

// giveCode sends the browser back to the application with a code, and with the issuer (RFC
// 9207, section 2). The audit log has it before. After a refusal nothing has been answered.
func (h *Handler) giveCode(ctx context.Context, w http.ResponseWriter, r *http.Request, s *signedIn, name string) *refusal {
	known := s.facts()
	known.client = name
	code, err := h.issueCode(ctx, &s.transaction, s.token, name)
	if err != nil {
		if vaultclient.IsDenied(err) {
			return beginAgain(reasonLost, "the person's token has ended")
		}
		return unavailable(reasonUnavailable, err)
	}
	status := http.StatusFound
	if r.Method == http.MethodPost {
		status = http.StatusSeeOther
	}
	if f := h.record(r, eventCode, known, status); f != nil {
		return f
	}
	answer := url.Values{"code": {code}, "iss": {h.issuer}}
	if s.State != "" {
		answer.Set("state", s.State)
	}
	h.setCookie(w, s.key.name, "")
	redirect(w, r, answerURL(s.Redirect, answer))
	return nil
}

// isCookieID reports whether a text can end a cookie's name.
func isCookieID(id string) bool {
	const length = 16
	if len(id) != length {
		return false
	}
	for i := range len(id) {
		if c := id[i]; (c < 'a' || c > 'z') && (c < '2' || c > '7') {
			return false
		}
	}
	return true
}
