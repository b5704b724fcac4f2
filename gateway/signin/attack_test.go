package signin

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/config"
)

// The attacks of MCP's page on security, and of RFC 9700, on the browser's side of sign-in.

// https://modelcontextprotocol.io/specification/2025-11-25/basic/security_best_practices#confused-deputy-problem
func TestAnApplicationGetsNothingFromTheConsentThatAPersonGaveToAnother(t *testing.T) {
	s := newStage(t)
	victim := s.browser()
	victim.signIn() // and the identity provider knows the person from now on
	attacker := s.register("http://localhost/callback")
	w := victim.comeBack(victim.toProvider("client_id", attacker, "redirect_uri", "http://localhost:666/callback"))
	require.Equal(t, http.StatusOK, w.Code, "the person is asked again, without a code")
	require.Empty(t, w.Header().Get("Location"))
	require.Contains(t, w.Body.String(), "nobody vouches for its name")
	require.Contains(t, w.Body.String(), "Unverified")
	require.Contains(t, w.Body.String(), "Stranger")
	require.Contains(t, w.Body.String(), "localhost:666")
}

// MCP's page, likewise: the consent must be stored, or here sealed, for one application.
func TestTheFormOfOneApplicationAllowsNoOther(t *testing.T) {
	s := newStage(t)
	b := s.browser()
	attacker := s.register("http://localhost/callback")
	form := b.toConsent("client_id", attacker, "redirect_uri", "http://localhost:666/callback")
	own := b.toConsent()
	ownID, _, _ := strings.Cut(own, ".")
	_, sealed, _ := strings.Cut(form, ".")
	s.isPage(b.decide(ownID+"."+sealed, "allow", "engineering"), http.StatusBadRequest, reasonCookie)
}

// MCP's page: "the proxy server must only set the state cookie after consent" has its place
// here in the binding of every step to the browser in which the one before was.
func TestACallbackInABrowserThatDidNotBeginIsRefused(t *testing.T) {
	s := newStage(t)
	attacker, victim := s.browser(), s.browser()
	state := attacker.toProvider()
	w := victim.comeBack(state)
	s.isPage(w, http.StatusBadRequest, reasonCookie)
	require.NotContains(t, s.vault.asked, "FinishOIDC", "nobody is logged in")
	require.Empty(t, s.vault.alive())

	victim.toProvider() // a victim who is signing in somewhere at the moment
	w = victim.comeBack(state)
	s.isPage(w, http.StatusBadRequest, reasonCookie)
	require.Contains(t, w.Body.String(), "began in another browser")
}

// RFC 9700, section 4.7: cross-site request forgery, at the identity provider's redirect. The
// attacker's own code would sign the victim in as the attacker.
func TestACodeOfTheAttackersLoginIsNotFinishedInTheVictimsBrowser(t *testing.T) {
	s := newStage(t)
	attacker, victim := s.browser(), s.browser()
	stolen := attacker.toProvider()
	own := victim.toProvider()
	var name string
	for name = range victim.cookies {
	}
	// The attacker cannot give the victim a cookie with the prefix __Host-. Even the
	// victim's own cookie under the name of the attacker's login opens nothing.
	victim.cookies[s.cookieName(stolen)] = victim.cookies[name]
	s.isPage(victim.comeBack(stolen), http.StatusBadRequest, reasonCookie)
	require.Equal(t, http.StatusOK, victim.comeBack(own).Code)
}

// RFC 9700, section 4.7, at the consent: another page sends the form.
func TestAnotherPageCannotAllowInThePersonsName(t *testing.T) {
	s := newStage(t)
	b := s.browser()
	form := b.toConsent()
	b.header = http.Header{"Origin": {"https://evil.example.com"}, "Sec-Fetch-Site": {"cross-site"}}
	s.isPage(b.decide(form, "allow", "engineering"), http.StatusForbidden, reasonForeignForm)
	// A browser sends SameSite=Lax cookies with no cross-site POST.
	other := s.browser()
	s.isPage(other.decide(form, "allow", "engineering"), http.StatusBadRequest, reasonCookie)
	require.NotContains(t, s.audit.events(), "consent")
}

// The attacker begins, logs in, and has the victim's browser send the attacker's form: the
// victim would allow an application the attacker's identity, or the reverse.
func TestAFormOfAnotherBrowserAllowsNothing(t *testing.T) {
	s := newStage(t)
	attacker, victim := s.browser(), s.browser()
	form := attacker.toConsent()
	victim.toConsent()
	s.isPage(victim.decide(form, "allow", "engineering"), http.StatusBadRequest, reasonCookie)
}

// RFC 9700, section 4.4: mix-up. The receiver of an answer can see its issuer, also of
// errors.
func TestEveryAnswerToAnApplicationNamesItsIssuer(t *testing.T) {
	s := newStage(t)
	b := s.browser()
	require.Equal(t, publicURL+"/sign-in", b.signIn().Get("iss"))
	for _, w := range []*httptest.ResponseRecorder{
		b.authorize("response_type", "token"),
		b.decide(b.toConsent(), "deny", ""),
		b.get(callbackPath + "?" + url.Values{"state": {b.toProvider()}, "error": {"access_denied"}}.Encode()),
	} {
		require.Equal(t, publicURL+"/sign-in", location(t, w).Query().Get("iss"))
		require.NotEmpty(t, location(t, w).Query().Get("error"))
	}
}

// RFC 9700, section 4.4, at the gateway as a client of two identity providers: a code goes to
// the one at which the login began and to no other, whatever the callback says.
func TestACodeGoesOnlyToTheLoginThatBegan(t *testing.T) {
	s := newStage(t, func(c *config.SignIn) {
		c.Logins = append(c.Logins, config.SignInLogin{Name: "contractors", Mount: "oidc-contractors", Role: "guest", Title: "contractors"})
	})
	b := s.browser()
	w := b.post(loginPath, url.Values{"form": {formOf(t, b.authorize())}, "login": {"contractors"}})
	state := location(t, w).Query().Get("state")
	w = b.get(callbackPath + "?" + url.Values{"state": {state}, "code": {"idp-code"}, "iss": {"https://other.example.com"}, "login": {"employees"}, "mount": {"oidc-mcp"}}.Encode())
	require.Equal(t, http.StatusOK, w.Code, w.Body.String()) // the model of Vault compares the mounts
	require.Contains(t, w.Body.String(), "contractors")
}

// RFC 9700, section 4.11: the gateway as an open redirector.
func TestNobodyIsSentToARedirectThatIsNotRegistered(t *testing.T) {
	s := newStage(t)
	stranger := s.register("http://localhost/callback")
	for _, redirect := range []string{
		"https://evil.example.com/", "https://desk.example.com.evil.test/callback", "https://desk.example.com@evil.test/callback",
		"https://desk.example.com/callback/../evil", "https://desk.example.com/callback/", "https://desk.example.com/callback?x=1",
		"https://desk.example.com/CALLBACK", "https://desk.example.com:8443/callback", "http://desk.example.com/callback",
		"https://desk.example.com/callback#f", "https://desk.example.com/callback%2f..%2fevil", "//evil.example.com", "/callback", "callback",
		"javascript:alert(1)", "data:text/html,x", "cursor://evil/oauth/callback", "http://localhost.evil.test/callback",
		"http://localhost:1/other", "http://127.0.0.1.evil.test/callback", "https://desk.example.com\\@evil.test/callback",
		"https://desk.example.com/callback\r\nSet-Cookie: a=b", " " + deskRedirect, strings.Repeat("x", 5000),
	} {
		for _, clientID := range []string{desk, stranger} {
			w := s.browser().authorize("client_id", clientID, "redirect_uri", redirect, "response_type", "token")
			s.pass(1e9)
			s.isPage(w, http.StatusBadRequest, reasonRedirect)
			require.NotContains(t, w.Body.String(), "<a href=\""+redirect)
		}
	}
}

// RFC 9700, section 4.5: code injection. The code is bound to the challenge of the request,
// so that a stolen one is of no use in another browser's session with the same application.
func TestACodeIsBoundToTheChallengeOfItsRequest(t *testing.T) {
	s := newStage(t)
	sealed := s.browser().signIn().Get("code")
	var c code
	require.NoError(t, s.open(t.Context(), purposeCode, nil, sealed, &c))
	require.Equal(t, challenge, c.Challenge)
	require.Equal(t, deskRedirect, c.Redirect)
	require.Equal(t, clientHash(desk), c.Client)
	require.Equal(t, publicURL+"/sign-in/mcp", c.Resource)
	require.Equal(t, "engineering", c.Identity)
}

// RFC 9700, section 4.8: PKCE downgrade. A request without PKCE gets no code at all.
func TestPKCECannotBeTakenAway(t *testing.T) {
	s := newStage(t)
	s.isError(s.browser().authorize("code_challenge", "", "code_challenge_method", ""), "invalid_request")
	s.isError(s.browser().authorize("code_challenge_method", "plain"), "invalid_request")
}

// RFC 9700, section 4.16: clickjacking.
func TestNoPageMayFrameTheConsent(t *testing.T) {
	s := newStage(t)
	b := s.browser()
	w := b.comeBack(b.toProvider())
	require.Contains(t, w.Header().Get("Content-Security-Policy"), "frame-ancestors 'none'")
	require.NotContains(t, w.Header().Get("Content-Security-Policy"), "form-action", "browsers apply it to the redirect to the application")
	require.NotContains(t, w.Body.String(), "<script")
}

// RFC 9700, section 4.2: credentials leak by the header Referer, and from caches.
func TestNothingOfASignInIsKeptOrReferred(t *testing.T) {
	s := newStage(t)
	b := s.browser()
	first := b.authorize()
	page := b.comeBack(location(t, first).Query().Get("state"))
	last := b.decide(formOf(t, page), "allow", "engineering")
	for _, w := range []*httptest.ResponseRecorder{first, page, last} {
		require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	}
	require.Equal(t, "no-referrer", first.Header().Get("Referrer-Policy"))
	require.Equal(t, "same-origin", page.Header().Get("Referrer-Policy"))
	require.Equal(t, "no-referrer", last.Header().Get("Referrer-Policy"))
}

// RFC 9700, section 4.12: a 307 would send the form of the login on to the application.
func TestAFormIsNotSentOnByARedirect(t *testing.T) {
	s := newStage(t)
	b := s.browser()
	require.Equal(t, http.StatusSeeOther, b.decide(b.toConsent(), "allow", "engineering").Code)
	require.Equal(t, http.StatusSeeOther, b.decide(b.toConsent(), "deny", "").Code)
}

// A stranger's input is plain text on a page, and in an error to an application.
func TestTextsOfStrangersAreNoMarkup(t *testing.T) {
	s := newStage(t)
	b := s.browser()
	w := b.get(callbackPath + "?" + url.Values{"state": {b.toProvider()}, "error": {"<script>alert(1)</script>"}, "error_description": {"\"><img src=x>"}}.Encode())
	require.NotContains(t, w.Body.String(), "<script>alert")
	require.NotContains(t, w.Body.String(), "<img src=x>")
	w = b.get(callbackPath + "?" + url.Values{"state": {b.toProvider()}, "error": {"access_denied"}, "error_description": {"a\\b\"c\r\nd"}}.Encode())
	require.Contains(t, location(t, w).Query().Get("error_description"), "a'b'cd", "RFC 6749, section 4.1.2.1")
	w = s.browser().authorize("client_id", "<script>alert(1)</script>")
	require.NotContains(t, w.Body.String(), "<script>alert")
	w = s.browser().authorize("redirect_uri", "https://evil.example.com/\"><script>alert(1)</script>")
	require.NotContains(t, w.Body.String(), "<script>alert")
}

// No secret of a sign-in is in an audit line.
func TestAuditLinesHaveNoSecrets(t *testing.T) {
	s := newStage(t)
	b := s.browser()
	state := b.toProvider()
	var cookie string
	for _, cookie = range b.cookies {
	}
	form := formOf(t, b.comeBack(state))
	b.decide(form, "perhaps", "engineering")
	code := location(t, b.decide(form, "allow", "engineering")).Query().Get("code")
	b.decide(form, "allow", "engineering")
	b.comeBack(state)
	for _, e := range append(s.audit.written, s.audit.counted...) {
		text := strings.Join([]string{e.Reason, e.Detail, e.Client, e.Person, e.EntityID, e.Application, e.SignIn, e.Login, e.Resource}, " ")
		for _, secret := range []string{state, cookie, form, code, "hvs.", "idp-code", "application-state"} {
			require.NotContains(t, text, secret)
		}
	}
}
