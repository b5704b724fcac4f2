package signin

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"

	"vault-plugin-secrets-mcp/gateway/signin/application"
	"vault-plugin-secrets-mcp/gateway/signin/page"
)

// authorize begins a sign-in (RFC 6749, section 4.1.1). The browser goes on to the one login
// that there is, or to the page on which one is chosen.
func (h *Handler) authorize(w http.ResponseWriter, r *http.Request) {
	if !h.admitPage(w, r) {
		return
	}
	values, err := parameters(w, r)
	if err != nil && !errors.Is(err, errDuplicate) {
		h.refuse(w, r, facts{}, badRequest(codeInvalidRequest, err.Error()))
		return
	}
	asked, f := h.trustedRedirect(r.Context(), values)
	if f == nil {
		f = h.complete(asked, values, err)
	}
	known := facts{request: asked}
	if f != nil {
		h.refuse(w, r, known, f)
		return
	}
	switch logins := h.Settings.Logins; len(logins) {
	case 0:
		f := badRequest(codeUnauthorizedClient, "this gateway has no login for people")
		f.reason = reasonNoLogin
		h.refuse(w, r, known, f)
	case 1:
		h.begin(w, r, asked, logins[0])
	default:
		h.choose(w, r, asked)
	}
}

// trustedRedirect finds the application and its redirect. Until both are known, errors stay
// on a page: a redirect that nobody checked would make the gateway send people anywhere (RFC
// 9700, section 4.11). The request is nil then.
func (h *Handler) trustedRedirect(ctx context.Context, values url.Values) (*request, *refusal) {
	clientID, ok := single(values, "client_id")
	if !ok {
		return nil, badRequest(codeInvalidRequest, "client_id is missing, or stands twice")
	}
	to, ok := single(values, "redirect_uri")
	if !ok {
		return nil, badRequest(codeInvalidRequest, "redirect_uri is missing, or stands twice")
	}
	app, err := h.Applications.Find(ctx, clientID)
	if err != nil {
		return nil, applicationRefusal(err)
	}
	if len(to) > maxRedirect || !app.AllowsRedirect(to) {
		return nil, &refusal{
			status: http.StatusBadRequest, page: page.RedirectNotRegistered(clip(to)), reason: reasonRedirect,
			detail: "the application " + app.ID + " did not register the redirect",
		}
	}
	asked := &request{
		Client: clientHash(clientID), Application: app.ID, Name: app.Name, Host: app.Host, Vouch: app.Vouch, Trusted: app.Trusted,
		Redirect: to, Began: h.Now().Unix(),
	}
	// Also with an error the application gets its state back, if there is one.
	if state, ok := single(values, "state"); ok && len(state) <= maxState {
		asked.State = state
	}
	return asked, nil
}

// applicationRefusal is the refusal of an application that is not served.
func applicationRefusal(err error) *refusal {
	var why *application.Error
	if !errors.As(err, &why) {
		return unavailable(reasonApplication, err)
	}
	if why.Kind == application.Unavailable {
		f := unavailable(reasonApplication, err)
		f.page = page.ApplicationUnavailable(why.Words())
		return f
	}
	return &refusal{status: http.StatusBadRequest, page: page.UnknownApplication(why.Words()), reason: reasonApplication, detail: why.Message}
}

// complete checks the rest of the request. err is that of [parameters].
func (h *Handler) complete(asked *request, values url.Values, err error) *refusal {
	if err != nil {
		if len(values["resource"]) > 1 {
			return badRequest(codeInvalidTarget, "sign-in gives tokens for one resource at a time")
		}
		return badRequest(codeInvalidRequest, err.Error())
	}
	get := func(name string) string { return values.Get(name) }
	if len(get("state")) > maxState {
		return badRequest(codeInvalidRequest, "state is longer than 1024 characters")
	}
	for _, name := range []string{"request", "request_uri"} { // RFC 9101: the parameters in there would count
		if get(name) != "" {
			return badRequest(name+"_not_supported", "send the parameters of the request themselves")
		}
	}
	switch kind := get("response_type"); kind {
	case "code":
	case "":
		return badRequest(codeInvalidRequest, "response_type is missing")
	default:
		return badRequest("unsupported_response_type", "response_type must be code")
	}
	if mode := get("response_mode"); mode != "" && mode != "query" {
		return badRequest(codeInvalidRequest, "response_mode must be query")
	}
	if get("prompt") == "none" {
		return badRequest("interaction_required", "a person must sign in and allow it: prompt=none cannot be met")
	}
	switch {
	case get("code_challenge") == "":
		return badRequest(codeInvalidRequest, "code_challenge is missing: PKCE is required (RFC 7636)")
	case get("code_challenge_method") != "S256":
		return badRequest(codeInvalidRequest, "code_challenge_method must be S256")
	case !isChallenge(get("code_challenge")):
		return badRequest(codeInvalidRequest, "code_challenge is not 43 characters of base64url")
	}
	resource, ok := h.canonicalResource(get("resource"))
	if !ok {
		f := badRequest(codeInvalidTarget, "resource is not one of this gateway's: it has "+h.PublicURL+resourcePath)
		f.reason = reasonResource
		return f
	}
	asked.Challenge, asked.Resource = get("code_challenge"), resource
	return nil
}

// isChallenge reports whether a text can be the SHA-256 of a verifier (RFC 7636, section 4.2).
func isChallenge(text string) bool {
	sum, err := base64.RawURLEncoding.DecodeString(text)
	return err == nil && len(sum) == sha256.Size && len(text) == base64.RawURLEncoding.EncodedLen(sha256.Size)
}

// single returns the one value of a parameter.
func single(values url.Values, name string) (string, bool) {
	if all := values[name]; len(all) == 1 && all[0] != "" {
		return all[0], true
	}
	return "", false
}

// clip bounds a text from outside.
func clip(text string) string {
	const most = 300
	if len(text) > most {
		return text[:most] + "..."
	}
	return text
}
