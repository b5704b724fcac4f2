package signin

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

func TestAPersonSignsInAndTheApplicationGetsACode(t *testing.T) {
	s := newStage(t)
	b := s.browser()
	answer := b.signIn()
	require.NotEmpty(t, answer.Get("code"))
	require.Equal(t, "application-state", answer.Get("state"))
	require.Equal(t, publicURL+"/sign-in", answer.Get("iss"))
	require.Empty(t, b.cookies, "nothing is left in the browser")
	require.Equal(t, []string{"begun", "login", "consent", "code"}, s.audit.events())
	last := s.audit.written[3]
	require.Equal(t, "request-1", last.RequestID)
	require.Equal(t, "192.0.2.1", last.Source.String())
	require.Equal(t, "engineering", last.Client)
	require.Equal(t, "ann@example.com", last.Person)
	require.Equal(t, "entity-ann", last.EntityID)
	require.Equal(t, desk, last.Application)
	require.Equal(t, "employees", last.Login)
	require.Equal(t, publicURL+"/sign-in/mcp", last.Resource)
	require.Equal(t, []string{last.SignIn}, s.vault.alive())
	require.Equal(t, map[string]int{"begun": 1, "login": 1, "consent": 1, "code": 1}, s.counted)
}

func TestVaultIsAskedForTheCallbackOfThePublicURL(t *testing.T) {
	s := newStage(t)
	s.browser().toProvider()
	require.Len(t, s.vault.states, 1)
	for _, begun := range s.vault.states {
		require.Equal(t, "oidc-mcp", begun.mount)
		require.Equal(t, "mcp", begun.role)
		require.Equal(t, publicURL+"/sign-in/callback", begun.redirect)
		require.GreaterOrEqual(t, len(begun.nonce), 26)
	}
}

func TestTheResourceNeverGoesToTheIdentityProvider(t *testing.T) {
	s := newStage(t)
	w := s.browser().authorize()
	to := location(t, w)
	require.Equal(t, "idp.example.com", to.Host)
	require.NotContains(t, w.Header().Get("Location"), "resource")
}

func TestRequestsThatApplicationsSendAreAccepted(t *testing.T) {
	s := newStage(t)
	for name, pairs := range map[string][]string{
		"no scope":                            {"scope", ""},
		"unknown scopes":                      {"scope", " claudeai openid email profile"},
		"no resource":                         {"resource", ""},
		"a resource with a slash":             {"resource", publicURL + "/sign-in/mcp/"},
		"the gateway as the resource":         {"resource", publicURL},
		"one server":                          {"resource", publicURL + "/sign-in/servers/files/mcp"},
		"no state":                            {"state", ""},
		"prompt=consent":                      {"prompt", "consent"},
		"unknown parameters":                  {"audience", "x", "nonce", "y", "access_type", "offline"},
		"response_mode=query":                 {"response_mode", "query"},
		"a private scheme":                    {"redirect_uri", "cursor://anysphere.cursor-mcp/oauth/callback"},
		"another port of the loopback":        {"redirect_uri", "http://localhost:49152/callback"},
		"a redirect with a query of its own":  {"redirect_uri", "https://desk.example.com/back?tenant=a%20b"},
		"a long state":                        {"state", strings.Repeat("s", 1024)},
		"an audience under the path of Vault": {"resource", publicURL + "/sign-in/servers/a_b-C/mcp"},
	} {
		t.Run(name, func(t *testing.T) {
			s.t = t
			s.pass(time.Minute)
			b := s.browser()
			require.NotEmpty(t, b.signIn(pairs...).Get("code"))
		})
	}
}

func TestAnAuthorizationRequestMayBeAForm(t *testing.T) {
	s := newStage(t)
	b := s.browser()
	b.header = http.Header{"Origin": {"https://desk.example.com"}, "Sec-Fetch-Site": {"cross-site"}}
	w := b.post(authorizePath, authorization())
	require.Equal(t, http.StatusSeeOther, w.Code, "so that the form does not go on to the identity provider")
	require.Equal(t, "idp.example.com", location(t, w).Host)
}

func TestAnAnswerKeepsTheQueryOfTheRedirect(t *testing.T) {
	s := newStage(t)
	b := s.browser()
	w := b.decide(b.toConsent("redirect_uri", "https://desk.example.com/back?tenant=a%20b"), "allow", "engineering")
	require.True(t, strings.HasPrefix(w.Header().Get("Location"), "https://desk.example.com/back?tenant=a%20b&code="), w.Header().Get("Location"))
}

func TestNoStateIsAnsweredWithNone(t *testing.T) {
	s := newStage(t)
	require.False(t, s.browser().signIn("state", "").Has("state"))
}

func TestARequestThatIsNotValidGoesBackToAnApplicationThatSomebodyVouchesFor(t *testing.T) {
	s := newStage(t)
	for name, c := range map[string]struct {
		code  string
		pairs []string
	}{
		"no response_type":           {"invalid_request", []string{"response_type", ""}},
		"response_type=token":        {"unsupported_response_type", []string{"response_type", "token"}},
		"response_mode=form_post":    {"invalid_request", []string{"response_mode", "form_post"}},
		"response_mode=fragment":     {"invalid_request", []string{"response_mode", "fragment"}},
		"no code_challenge":          {"invalid_request", []string{"code_challenge", ""}},
		"the method plain":           {"invalid_request", []string{"code_challenge_method", "plain"}},
		"no method, which is plain":  {"invalid_request", []string{"code_challenge_method", ""}},
		"a short code_challenge":     {"invalid_request", []string{"code_challenge", challenge[:42]}},
		"a code_challenge in base64": {"invalid_request", []string{"code_challenge", challenge[:42] + "+"}},
		"a foreign resource":         {"invalid_target", []string{"resource", "https://other.example.com/sign-in/mcp"}},
		"the resource of today":      {"invalid_target", []string{"resource", publicURL + "/mcp"}},
		"a request object":           {"request_not_supported", []string{"request", "eyJhbGciOiJub25lIn0.e30."}},
		"a request by reference":     {"request_uri_not_supported", []string{"request_uri", "https://evil.example.com/request"}},
		"prompt=none":                {"interaction_required", []string{"prompt", "none"}},
	} {
		t.Run(name, func(t *testing.T) {
			s.t = t
			w := s.browser().authorize(c.pairs...)
			s.isError(w, c.code)
			require.Equal(t, "application-state", location(t, w).Query().Get("state"))
			require.NotEmpty(t, location(t, w).Query().Get("error_description"))
		})
	}
}

func TestErrorsBeforeConsentArePagesForAnApplicationThatNobodyVouchesFor(t *testing.T) {
	s := newStage(t)
	stranger := s.register("http://localhost/callback")
	w := s.browser().authorize("client_id", stranger, "redirect_uri", "http://localhost:8080/callback", "response_type", "token")
	s.isPage(w, http.StatusBadRequest, reasonBadRequest)
	require.Contains(t, w.Body.String(), "unsupported_response_type")
}

func TestAParameterThatStandsTwiceIsRefused(t *testing.T) {
	s := newStage(t)
	send := func(more string) string {
		w := s.browser().get(authorizePath + "?" + authorization().Encode() + "&" + more)
		if w.Code == http.StatusFound {
			return location(t, w).Query().Get("error")
		}
		require.Equal(t, http.StatusBadRequest, w.Code)
		return "page"
	}
	require.Equal(t, "page", send("client_id=desk"))
	require.Equal(t, "page", send("redirect_uri="+url.QueryEscape(deskRedirect)))
	require.Equal(t, "invalid_request", send("code_challenge="+challenge))
	require.Equal(t, "invalid_request", send("scope=mcp"))
	require.Equal(t, "invalid_target", send("resource="+url.QueryEscape(publicURL+"/sign-in/mcp")))
	w := s.browser().get(authorizePath + "?" + authorization().Encode() + "&state=other")
	require.Equal(t, "invalid_request", location(t, w).Query().Get("error"))
	require.False(t, location(t, w).Query().Has("state"), "which of the two would be meant?")
}

func TestAQueryThatCannotBeReadIsRefused(t *testing.T) {
	s := newStage(t)
	s.isPage(s.browser().get(authorizePath+"?client_id=%zz"), http.StatusBadRequest, reasonBadRequest)
	b := s.browser()
	b.header = http.Header{"Content-Type": {"application/json"}}
	s.isPage(b.post(authorizePath, authorization()), http.StatusBadRequest, reasonBadRequest)
}

func TestWhatTheCookieCannotKeepIsRefusedWithWords(t *testing.T) {
	s := newStage(t)
	s.isError(s.browser().authorize("state", strings.Repeat("s", 1025)), "invalid_request")
}

func TestARoleThatDoesNotListTheCallbackIsNamedOnThePage(t *testing.T) {
	s := newStage(t)
	s.vault.fail["AuthURL"] = vaultclient.ErrRedirect
	w := s.browser().authorize()
	s.isPage(w, http.StatusServiceUnavailable, reasonSetup)
	require.Contains(t, w.Body.String(), "Add https://mcp.example.com/sign-in/callback to allowed_redirect_uris of auth/oidc-mcp/role/mcp.")
}

func TestAnUnavailableVaultIsAPageThatSaysSoAndNotANo(t *testing.T) {
	s := newStage(t)
	s.vault.fail["AuthURL"] = errDown
	b := s.browser()
	w := b.authorize()
	s.isPage(w, http.StatusServiceUnavailable, reasonUnavailable)
	require.NotEmpty(t, w.Header().Get("Retry-After"))
	require.Empty(t, b.cookies)
	s.vault.fail["AuthURL"] = errRefused
	s.isPage(s.browser().authorize(), http.StatusServiceUnavailable, reasonSetup)
}

func TestThereIsNoRedirectWithoutAnAuditLine(t *testing.T) {
	s := newStage(t)
	s.audit.fail = errDown
	s.isPage(s.browser().authorize(), http.StatusServiceUnavailable, reasonAuditFailure)
}

func TestThePersonChoosesAmongSeveralLogins(t *testing.T) {
	s := newStage(t, func(c *config.SignIn) {
		c.Logins = append(c.Logins, config.SignInLogin{Name: "contractors", Mount: "oidc-contractors", Role: "guest"})
	})
	b := s.browser()
	w := b.authorize()
	require.Equal(t, http.StatusOK, w.Code)
	require.Contains(t, w.Body.String(), "Example Inc.")
	require.Contains(t, w.Body.String(), "contractors")
	require.Empty(t, b.cookies)
	form := formOf(t, w)
	w = b.post(loginPath, url.Values{"form": {form}, "login": {"contractors"}})
	require.Equal(t, http.StatusSeeOther, w.Code, w.Body.String())
	state := location(t, w).Query().Get("state")
	require.Equal(t, "oidc-contractors", s.vault.states[state].mount)
	require.Equal(t, "guest", s.vault.states[state].role)
	require.Equal(t, http.StatusOK, b.comeBack(state).Code)

	s.isPage(b.post(loginPath, url.Values{"form": {form}, "login": {"administrators"}}), http.StatusBadRequest, reasonNoLogin)
	s.isPage(b.post(loginPath, url.Values{"form": {form[:len(form)-4] + "AAAA"}, "login": {"contractors"}}), http.StatusBadRequest, reasonCookie)
	b.header = http.Header{"Origin": {"https://evil.example.com"}, "Sec-Fetch-Site": {"cross-site"}}
	s.isPage(b.post(loginPath, url.Values{"form": {form}, "login": {"contractors"}}), http.StatusForbidden, reasonForeignForm)
	s.pass(11 * time.Minute)
	s.isPage(b.post(loginPath, url.Values{"form": {form}, "login": {"contractors"}}), http.StatusBadRequest, reasonCookie)
}

func TestWithoutALoginForPeopleTheApplicationIsTold(t *testing.T) {
	s := newStage(t, func(c *config.SignIn) { c.Logins = nil })
	s.isError(s.browser().authorize(), "unauthorized_client")
}

func TestAnApplicationThatIsNotKnownGetsAPage(t *testing.T) {
	s := newStage(t)
	s.isPage(s.browser().authorize("client_id", "nobody"), http.StatusBadRequest, reasonApplication)
	s.isPage(s.browser().authorize("client_id", ""), http.StatusBadRequest, reasonBadRequest)
	s.isPage(s.browser().authorize("redirect_uri", ""), http.StatusBadRequest, reasonBadRequest)
}

func TestASourceThatAsksTooOftenIsToldWhenToComeBack(t *testing.T) {
	s := newStage(t)
	b := s.browser()
	for range pageBurst {
		require.Equal(t, http.StatusFound, b.authorize().Code)
		b.cookies = map[string]string{}
	}
	w := b.authorize()
	s.isPage(w, http.StatusTooManyRequests, reasonRateLimited)
	require.Equal(t, "1", w.Header().Get("Retry-After"))
	other := s.browser()
	other.source = "192.0.2.2"
	require.Equal(t, http.StatusFound, other.authorize().Code, "another source is not hurt")
	s.pass(time.Second)
	require.Equal(t, http.StatusFound, b.authorize().Code)
}

func TestAFloodAtOneEndpointDoesNotHoldUpAnother(t *testing.T) {
	s := newStage(t)
	b := s.browser()
	form := b.toConsent()
	for range pageBurst + 1 {
		b.authorize("response_type", "token")
	}
	require.Equal(t, http.StatusTooManyRequests, b.authorize().Code)
	require.Equal(t, http.StatusSeeOther, b.decide(form, "allow", "engineering").Code)
}

func TestManySourcesTogetherDoNotFillVaultWithLogins(t *testing.T) {
	s := newStage(t)
	for i := range loginBurst {
		b := s.browser()
		b.source = fmt.Sprintf("198.51.%d.%d", i/250, i%250)
		require.Equal(t, http.StatusFound, b.authorize().Code)
	}
	w := s.browser().authorize()
	s.isPage(w, http.StatusTooManyRequests, reasonRateLimited)
	require.Len(t, s.vault.states, loginBurst)
	s.pass(time.Second)
	require.Equal(t, http.StatusFound, s.browser().authorize().Code)
}

func TestSourcesOfOneSubscriberShareALimit(t *testing.T) {
	s := newStage(t)
	b := s.browser()
	for i := range pageBurst {
		b.source = "2001:db8::" + string("0123456789abcdef"[i%16])
		require.Equal(t, http.StatusFound, b.authorize().Code)
		b.cookies = map[string]string{}
	}
	b.source = "2001:db8::ffff"
	require.Equal(t, http.StatusTooManyRequests, b.authorize().Code)
	b.source = "2001:db8:0:1::1"
	require.Equal(t, http.StatusFound, b.authorize().Code)
}
