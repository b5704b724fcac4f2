package signin

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestNoLetsTheApplicationKnowAndEndsTheLogin(t *testing.T) {
	s := newStage(t)
	b := s.browser()
	form := b.toConsent()
	w := b.decide(form, "deny", "")
	s.isError(w, "access_denied")
	require.Equal(t, http.StatusSeeOther, w.Code)
	require.Equal(t, "application-state", location(t, w).Query().Get("state"))
	require.Empty(t, s.vault.alive())
	require.Empty(t, b.cookies)
	require.Equal(t, []string{"begun", "login", "denied"}, s.audit.events())
	s.isPage(b.decide(form, "allow", "engineering"), http.StatusBadRequest, reasonCookie)
}

func TestNoIsToldToApplicationsThatNobodyVouchesForToo(t *testing.T) {
	s := newStage(t)
	stranger := s.register("http://localhost/callback")
	b := s.browser()
	w := b.decide(b.toConsent("client_id", stranger, "redirect_uri", "http://localhost:8123/callback"), "deny", "")
	to := location(t, w)
	require.Equal(t, "localhost:8123", to.Host)
	require.Equal(t, "access_denied", to.Query().Get("error"))
	require.Equal(t, publicURL+"/sign-in", to.Query().Get("iss"))
}

func TestAllowReachesEveryKindOfRedirectWithAPlainOne(t *testing.T) {
	for redirect, begins := range map[string]string{
		deskRedirect: "https://desk.example.com/callback?code=",
		"cursor://anysphere.cursor-mcp/oauth/callback": "cursor://anysphere.cursor-mcp/oauth/callback?code=",
		"http://localhost:49152/callback":              "http://localhost:49152/callback?code=",
	} {
		s := newStage(t)
		b := s.browser()
		w := b.decide(b.toConsent("redirect_uri", redirect), "allow", "oncall")
		require.Equal(t, http.StatusSeeOther, w.Code)
		require.True(t, strings.HasPrefix(w.Header().Get("Location"), begins), w.Header().Get("Location"))
		require.Empty(t, w.Body.String(), "no page between")
		require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
		require.Equal(t, "no-referrer", w.Header().Get("Referrer-Policy"))
	}
}

func TestAnIdentityThatIsNotThePersonsIsRefused(t *testing.T) {
	s := newStage(t)
	b := s.browser()
	form := b.toConsent()
	for _, identity := range []string{"finance", "no-such-client", "", "../config", "engineering/../finance"} {
		w := b.decide(form, "allow", identity)
		s.isPage(w, http.StatusBadRequest, reasonIdentity)
	}
	require.NotContains(t, s.audit.events(), "consent")
	require.NotEmpty(t, location(t, b.decide(form, "allow", "oncall")).Query().Get("code"), "the person can still decide")
}

func TestAnIdentityThatIsTakenAwayWhileThePageIsOpenIsRefused(t *testing.T) {
	s := newStage(t)
	b := s.browser()
	form := b.toConsent()
	for _, token := range s.vault.tokens {
		token.may = []string{"oncall"}
	}
	s.isPage(b.decide(form, "allow", "engineering"), http.StatusBadRequest, reasonIdentity)
}

func TestADecisionAfterTenMinutesOrAfterTheEndOfTheTokenIsOver(t *testing.T) {
	s := newStage(t)
	b := s.browser()
	form := b.toConsent()
	s.pass(10*time.Minute + 2*time.Second)
	s.isPage(b.decide(form, "allow", "engineering"), http.StatusBadRequest, reasonCookie)

	form = b.toConsent()
	for _, token := range s.vault.tokens {
		token.revoked = true
	}
	w := b.decide(form, "allow", "engineering")
	require.Equal(t, http.StatusBadRequest, w.Code)
	require.Contains(t, w.Body.String(), "This sign-in has ended")
}

func TestAnUnavailableVaultAtTheDecisionEndsNothing(t *testing.T) {
	for _, method := range []string{"Lookup", "SignIn", "Capabilities", "Wrap"} {
		s := newStage(t)
		b := s.browser()
		form := b.toConsent()
		s.vault.fail[method] = errDown
		s.isPage(b.decide(form, "allow", "engineering"), http.StatusServiceUnavailable, reasonUnavailable)
		delete(s.vault.fail, method)
		require.NotEmpty(t, location(t, b.decide(form, "allow", "engineering")).Query().Get("code"), "the same form works when Vault is back")
	}
}

func TestThereIsNoCodeWithoutItsAuditLine(t *testing.T) {
	for _, event := range []string{"consent", "code"} {
		s := newStage(t)
		b := s.browser()
		form := b.toConsent()
		s.audit.fail, s.audit.failAt = errDown, event
		s.isPage(b.decide(form, "allow", "engineering"), http.StatusServiceUnavailable, reasonAuditFailure)
		require.NotContains(t, s.audit.events(), event)
		s.audit.fail = nil
		require.NotEmpty(t, location(t, b.decide(form, "allow", "engineering")).Query().Get("code"), "the same form works afterwards")
	}
}

func TestADecisionThatIsNoDecisionIsRefused(t *testing.T) {
	s := newStage(t)
	b := s.browser()
	form := b.toConsent()
	s.isPage(b.decide(form, "", "engineering"), http.StatusBadRequest, reasonBadRequest)
	s.isPage(b.decide(form, "perhaps", "engineering"), http.StatusBadRequest, reasonBadRequest)
	w := b.send(http.MethodPost, consentPath, nil)
	require.Equal(t, http.StatusForbidden, w.Code, "without a word of the browser")
	b.header = http.Header{"Content-Type": {"text/plain"}}
	s.isPage(b.decide(form, "allow", "engineering"), http.StatusBadRequest, reasonBadRequest)
}

func TestOnlyTheGatewaysOwnPageDecides(t *testing.T) {
	const own, foreign = publicURL, "https://evil.example.com"
	for name, c := range map[string]struct {
		origin, site []string
		want         bool
	}{
		"our origin":                             {[]string{own}, nil, true},
		"our origin, and the browser agrees":     {[]string{own}, []string{"same-origin"}, true},
		"only the browser's word":                {nil, []string{"same-origin"}, true},
		"a hidden origin, and the browser's":     {[]string{"null"}, []string{"same-origin"}, true},
		"a hidden origin alone":                  {[]string{"null"}, nil, false},
		"no word at all":                         {nil, nil, false},
		"a foreign origin":                       {[]string{foreign}, nil, false},
		"a foreign origin, against the browser":  {[]string{foreign}, []string{"same-origin"}, false},
		"our origin, against the browser":        {[]string{own}, []string{"cross-site"}, false},
		"a sister of ours":                       {nil, []string{"same-site"}, false},
		"typed by hand":                          {nil, []string{"none"}, false},
		"plain http":                             {[]string{"http://mcp.example.com"}, nil, false},
		"another port":                           {[]string{own + ":8443"}, nil, false},
		"a name that begins like ours":           {[]string{own + ".evil.test"}, nil, false},
		"an origin with a path":                  {[]string{own + "/"}, nil, false},
		"two origins":                            {[]string{own, foreign}, nil, false},
		"two words of the browser":               {[]string{own}, []string{"same-origin", "cross-site"}, false},
		"an origin that is no origin":            {[]string{"mcp.example.com"}, nil, false},
		"a user in front of ours":                {[]string{"https://mcp.example.com@evil.test"}, nil, false},
		"ours in the place of a user's password": {[]string{"https://x:mcp.example.com"}, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			b := s.browser()
			form := b.toConsent()
			b.header = http.Header{"Origin": c.origin, "Sec-Fetch-Site": c.site}
			w := b.decide(form, "allow", "engineering")
			if c.want {
				require.Equal(t, http.StatusSeeOther, w.Code, w.Body.String())
			} else {
				s.isPage(w, http.StatusForbidden, reasonForeignForm)
				require.NotContains(t, s.audit.events(), "consent")
			}
		})
	}
}

func TestCookiesAreHeldToThisHostAndToTheBrowser(t *testing.T) {
	s := newStage(t)
	w := s.browser().authorize()
	cookies := w.Result().Cookies()
	require.Len(t, cookies, 1)
	cookie := cookies[0]
	require.Regexp(t, `^__Host-mcp-sign-in-[a-z2-7]{16}$`, cookie.Name)
	require.True(t, cookie.Secure)
	require.True(t, cookie.HttpOnly)
	require.Equal(t, http.SameSiteLaxMode, cookie.SameSite)
	require.Equal(t, "/", cookie.Path)
	require.Empty(t, cookie.Domain)
	require.Equal(t, 600, cookie.MaxAge)
	require.NotContains(t, cookie.Value, "desk", "it is sealed")
}

func TestThirtyTabsKeepTheHeaderUnderTheLimit(t *testing.T) {
	s := newStage(t)
	stranger := s.register("http://localhost/callback")
	b := s.browser()
	var last string
	for range 30 {
		last = b.toProvider("client_id", stranger, "redirect_uri", "http://localhost:3000/callback", "state", strings.Repeat("s", 200))
		size := 0
		for name, value := range b.cookies {
			size += len(name) + len(value) + len("=; ")
		}
		require.LessOrEqual(t, size, maxCookies+len("; "))
		s.pass(time.Second)
	}
	require.GreaterOrEqual(t, len(b.cookies), 5)
	form := formOf(t, b.comeBack(last))
	require.NotEmpty(t, location(t, b.decide(form, "allow", "engineering")).Query().Get("code"), "the newest tab works")
}

func TestCookiesThatAreOverOrNotOursMakeRoom(t *testing.T) {
	s := newStage(t)
	b := s.browser()
	b.toProvider()
	old := b.cookies
	b.cookies = map[string]string{"__Host-mcp-sign-in-aaaaaaaaaaaaaaaa": "nonsense", "theme": "dark"}
	for name, value := range old {
		b.cookies[name] = value
	}
	s.pass(11 * time.Minute)
	b.toProvider()
	require.Len(t, b.cookies, 2, "the new one, and the one of somebody else")
	require.Contains(t, b.cookies, "theme")
}

func TestWhatASealedThingIsForIsPartOfItsSeal(t *testing.T) {
	s := newStage(t)
	b := s.browser()
	state := b.toProvider()
	var name, cookie string
	for name, cookie = range b.cookies {
	}
	id := strings.TrimPrefix(name, "__Host-mcp-sign-in-")
	form := formOf(t, b.comeBack(state))
	_, sealed, _ := strings.Cut(form, ".")
	s.isPage(b.decide(id+"."+cookie, "allow", "engineering"), http.StatusBadRequest, reasonCookie)
	s.isPage(b.post(loginPath, url.Values{"form": {sealed}, "login": {"employees"}}), http.StatusBadRequest, reasonCookie)
	b.cookies[name] = sealed
	s.isPage(b.comeBack(state), http.StatusBadRequest, reasonCookie)
	s.isPage(b.decide(form, "allow", "engineering"), http.StatusBadRequest, reasonCookie)
}

func TestRegistrationIsBoundedBySource(t *testing.T) {
	s := newStage(t)
	for range pageBurst {
		s.register("http://localhost/callback")
	}
	b := s.browser()
	b.source = "198.51.100.7"
	b.header = http.Header{"Content-Type": {"application/json"}}
	w := b.post(registerPath, url.Values{})
	require.Equal(t, http.StatusTooManyRequests, w.Code)
	require.NotEmpty(t, w.Header().Get("Retry-After"))
	require.Contains(t, w.Body.String(), "temporarily_unavailable")
}
