package signin

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/hashicorp/vault/api"

	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/signin/page"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

// callback takes the browser that comes back from the identity provider, and has Vault finish
// the login. A cookie shows that this browser began it: otherwise an attacker could make
// another person finish the attacker's login, or finish a login of another person (RFC 9700,
// section 4.7).
//
// The cookie stays until the person has decided, so that a callback that comes twice does not
// spoil the form of the first.
func (h *Handler) callback(w http.ResponseWriter, r *http.Request) {
	if !h.admitPage(w, r) {
		return
	}
	values, err := parameters(w, r)
	if err != nil {
		h.refuse(w, r, facts{}, badRequest(codeInvalidRequest, err.Error()))
		return
	}
	t, key, f := h.transactionOf(r, values.Get("state"))
	if f != nil {
		h.refuse(w, r, facts{}, f)
		return
	}
	known := facts{request: &t.request, login: t.Login}
	login, ok := h.loginNamed(t.Login)
	switch code := values.Get("code"); {
	case h.over(t.Began):
		f = beginAgain(reasonCookie, "the login took too long")
	case !ok:
		f = beginAgain(reasonNoLogin, "the login is not in the gateway's file any more")
	case values.Get("error") != "":
		f = providerRefusal(values)
	case code == "":
		f = badRequest(codeInvalidRequest, "the identity provider has sent neither a code nor an error")
		f.code = ""
	}
	if f != nil {
		h.refuse(w, r, known, f)
		return
	}
	// The browser may go while Vault logs the person in. The login is finished all the
	// same, since otherwise its token could not be ended.
	ctx, cancel := settled(r.Context())
	defer cancel()
	token, err := h.People.FinishOIDC(ctx, login.Mount, t.Vault, values.Get("code"), t.Nonce)
	if err != nil {
		h.refuse(w, r, known, loginRefusal(login, err, values))
		return
	}
	h.loggedIn(ctx, w, r, &signedIn{transaction: *t, key: key, title: login.Title, mount: login.Mount, token: token})
}

// cookieKey is a transaction's cookie.
type cookieKey struct{ name, value string }

// transactionOf opens the cookie of the login with this state of Vault's.
func (h *Handler) transactionOf(r *http.Request, state string) (*transaction, cookieKey, *refusal) {
	if state == "" || len(state) > maxState {
		return nil, cookieKey{}, beginAgain(reasonBadRequest, "the callback has no state")
	}
	key := cookieKey{name: h.cookieName(state)}
	if key.value = cookieOf(r, key.name); key.value == "" {
		return nil, key, h.missingCookie(r)
	}
	var t transaction
	if err := h.open(r.Context(), purposeTransaction, []byte(key.name), key.value, &t); err != nil {
		return nil, key, sealedRefusal(err)
	}
	if t.Vault != state {
		return nil, key, &refusal{status: http.StatusBadRequest, page: page.OtherBrowser(), reason: reasonCookie, detail: "the cookie is another login's"}
	}
	return &t, key, nil
}

// missingCookie is the refusal of a browser without the cookie of this login. If it has
// cookies of others, it takes cookies: then the login is another browser's, or over.
func (h *Handler) missingCookie(r *http.Request) *refusal {
	f := &refusal{status: http.StatusBadRequest, page: page.MissingCookie(), reason: reasonCookie, detail: "the cookie of this login is missing"}
	for _, cookie := range r.Cookies() {
		if strings.HasPrefix(cookie.Name, h.cookieStem()) {
			f.page = page.OtherBrowser()
		}
	}
	return f
}

// providerRefusal is the refusal of a login by the identity provider. The application is told
// only of a refusal that the person has probably made. All others are for the person to read,
// and for those who run the provider.
func providerRefusal(values url.Values) *refusal {
	code, description := values.Get("error"), values.Get("error_description")
	f := &refusal{
		status: http.StatusForbidden, page: page.ProviderRefused(code, description), reason: reasonLogin,
		detail: "the identity provider: " + clip(describe(code)),
	}
	if code == codeAccessDenied {
		f.code, f.description = code, "the identity provider refused the login: "+description
	}
	return f
}

// loginRefusal is the refusal of a login that Vault did not finish.
func loginRefusal(login config.SignInLogin, err error, values url.Values) *refusal {
	switch {
	case errors.Is(err, vaultclient.ErrStateLost):
		return beginAgain(reasonLost, err.Error())
	case errors.Is(err, vaultclient.ErrNoLookup):
		return tokenKind(vaultclient.ErrNoLookup.Error())
	case errors.Is(err, vaultclient.ErrMFA):
		return tokenKind(err.Error())
	case vaultclient.IsRefused(err), vaultclient.IsDenied(err):
		words := "auth/" + login.Mount + ", role " + login.Role + ": " + vaultWords(err)
		for _, secret := range []string{values.Get("code"), values.Get("state")} {
			words = strings.ReplaceAll(words, secret, "...") // an identity provider may have quoted it
		}
		return &refusal{status: http.StatusForbidden, page: page.LoginFailed(words), reason: reasonLogin, detail: clip(words)}
	}
	return unavailable(reasonUnavailable, err)
}

// vaultWords are the texts of an error that Vault has answered with.
func vaultWords(err error) string {
	var refused *api.ResponseError
	if !errors.As(err, &refused) {
		return "no reason was given"
	}
	return strings.Join(refused.Errors, "; ")
}

// signedIn is a person whom Vault has logged in, and who has not decided yet.
type signedIn struct {
	transaction
	key   cookieKey
	title string // of the login
	mount string
	token *vaultclient.PersonToken
}

// person is the name of the person for people: Vault puts the mount's name before it.
func (s *signedIn) person() string {
	name := s.token.DisplayName
	if s.mount != "" { // "": the form has the name as it was shown
		name = strings.TrimPrefix(name, strings.ReplaceAll(s.mount, "/", "-")+"-")
	}
	if name == "" {
		name = s.token.EntityID
	}
	return name
}

func (s *signedIn) facts() facts {
	return facts{request: &s.request, login: s.Login, person: s.person(), entityID: s.token.EntityID, signIn: s.token.Accessor}
}

// loggedIn takes a fresh login: it checks whether the token may be kept, shortens it,
// and asks the person. A token that is not kept is revoked.
func (h *Handler) loggedIn(ctx context.Context, w http.ResponseWriter, r *http.Request, s *signedIn) {
	found, f := h.inspect(ctx, s)
	if f == nil {
		f = h.record(r, eventLogin, s.facts(), http.StatusOK)
	}
	switch {
	case f != nil:
		h.abandon(ctx, s.token)
		h.setCookie(w, s.key.name, "")
		h.refuse(w, r, s.facts(), f)
	case len(found) == 0:
		h.abandon(ctx, s.token)
		h.showNoIdentity(w, r, s)
	case s.Trusted && len(found) == 1:
		h.setCookie(w, s.key.name, "")
		if f := h.giveCode(ctx, w, r, s, found[0].name); f != nil {
			h.abandon(ctx, s.token) // the page has no form to continue with
			h.refuse(w, r, s.facts(), f)
		}
	default:
		h.askConsent(ctx, w, r, s, found)
	}
}

// inspect looks whether a fresh token may be kept, shortens it, and returns the identities that
// it may act as.
func (h *Handler) inspect(ctx context.Context, s *signedIn) ([]identity, *refusal) {
	if f := h.mayKeep(s.token); f != nil {
		return nil, f
	}
	if f := h.shorten(ctx, s.token); f != nil {
		return nil, f
	}
	return h.identities(ctx, s.token)
}
