package signin

import (
	"crypto/rand"
	"errors"
	"net/http"
	"net/url"

	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/signin/page"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

// choose shows the page on which a person chooses a login. The request is sealed in its form,
// since no login has begun yet: such a form is worth as much as a link to authorize.
func (h *Handler) choose(w http.ResponseWriter, r *http.Request, asked *request) {
	form, err := h.seal(purposeChoice, nil, asked)
	if err != nil {
		h.refuse(w, r, facts{request: asked}, unavailable(reasonUnavailable, err))
		return
	}
	logins := make([]page.Login, 0, len(h.Settings.Logins))
	for _, login := range h.Settings.Logins {
		logins = append(logins, page.Login{Name: login.Name, Title: login.Title})
	}
	page.Choose(w, page.ChooseData{Application: asked.Name, Logins: logins, Form: form, Action: h.PublicURL + loginPath})
}

// login takes the choice of a login.
func (h *Handler) login(w http.ResponseWriter, r *http.Request) {
	values, ok := h.ownForm(w, r)
	if !ok {
		return
	}
	var asked request
	if err := h.open(r.Context(), purposeChoice, nil, values.Get(page.FieldForm), &asked); err != nil {
		h.refuse(w, r, facts{}, sealedRefusal(err))
		return
	}
	known := facts{request: &asked}
	if h.over(asked.Began) {
		h.refuse(w, r, known, beginAgain(reasonCookie, "the choice of the login came too late"))
		return
	}
	login, ok := h.loginNamed(values.Get(page.FieldLogin))
	if !ok {
		h.refuse(w, r, known, beginAgain(reasonNoLogin, "the login that was chosen is not in the gateway's file"))
		return
	}
	h.begin(w, r, &asked, login)
}

func (h *Handler) loginNamed(name string) (config.SignInLogin, bool) {
	for _, login := range h.Settings.Logins {
		if login.Name == name {
			return login, true
		}
	}
	return config.SignInLogin{}, false
}

// begin sends the browser to the identity provider of a login. Vault makes the state and the
// nonce of OpenID Connect; the nonce of the transaction shows Vault that the one who comes
// back is the one who began.
func (h *Handler) begin(w http.ResponseWriter, r *http.Request, asked *request, login config.SignInLogin) {
	known := facts{request: asked, login: login.Name}
	if wait := h.Limits.logins.take(struct{}{}, h.Now()); wait > 0 {
		h.refuse(w, r, known, tooManyPages(wait))
		return
	}
	nonce := rand.Text()
	to, err := h.People.AuthURL(r.Context(), login.Mount, login.Role, h.PublicURL+callbackPath, nonce)
	if err != nil {
		h.refuse(w, r, known, h.beginRefusal(login, err))
		return
	}
	at, err := url.Parse(to)
	if err != nil || at.Host == "" || at.Scheme != "https" && at.Scheme != "http" || at.Query().Get("state") == "" {
		h.refuse(w, r, known, unavailable(reasonSetup, errors.New("Vault's oidc method has answered with a URL that has no host, or no state"))) //nolint:staticcheck // a name starts it
		return
	}
	// The decision has its own ten minutes; those of the login begin now.
	asked.Began = h.Now().Unix()
	t := transaction{request: *asked, Login: login.Name, Nonce: nonce, Vault: at.Query().Get("state")}
	name := h.cookieName(t.Vault)
	value, err := h.seal(purposeTransaction, []byte(name), t)
	switch {
	case err != nil:
		h.refuse(w, r, known, unavailable(reasonUnavailable, err))
		return
	case len(name)+len(value) > maxCookie:
		h.refuse(w, r, known, badRequest(codeInvalidRequest, "state, redirect_uri and the application's name are too long to keep in a cookie together"))
		return
	}
	if f := h.record(r, eventBegun, known, http.StatusFound); f != nil {
		h.refuse(w, r, known, f)
		return
	}
	h.makeRoom(w, r, len(name)+len(value))
	h.setCookie(w, name, value)
	redirect(w, r, to)
}

// beginRefusal is the refusal of a login that does not begin.
func (h *Handler) beginRefusal(login config.SignInLogin, err error) *refusal {
	switch {
	case errors.Is(err, vaultclient.ErrRedirect):
		return &refusal{
			status: http.StatusServiceUnavailable, page: page.RedirectNotAllowed(login.Mount, login.Role, h.PublicURL+callbackPath),
			reason: reasonSetup, detail: err.Error(),
		}
	case vaultclient.IsRefused(err), vaultclient.IsDenied(err):
		shown := page.RedirectNotAllowed(login.Mount, login.Role, "")
		shown.Message = "Vault refuses to begin this login."
		shown.Detail = "auth/" + login.Mount + ", role " + login.Role + ": " + vaultWords(err)
		return &refusal{status: http.StatusServiceUnavailable, page: shown, reason: reasonSetup, detail: err.Error()}
	}
	return unavailable(reasonUnavailable, err)
}

func foreignForm() *refusal {
	return &refusal{status: http.StatusForbidden, page: page.ForeignForm(), reason: reasonForeignForm}
}
