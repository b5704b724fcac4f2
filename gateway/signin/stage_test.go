package signin

import (
	"context"
	"encoding/json"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/seal"
	"vault-plugin-secrets-mcp/gateway/signin/application"
)

const (
	publicURL = "https://mcp.example.com"

	desk         = "desk" // an application of the file
	deskRedirect = "https://desk.example.com/callback"

	// The verifier and challenge of RFC 7636, appendix B.
	verifier  = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
	challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
)

// stage is a handler before a model of Vault, with a clock of its own.
type stage struct {
	*Handler
	t        *testing.T
	clock    time.Time
	vault    *fakeVault
	audit    *fakeAudit
	counted  map[string]int
	keys     *grants.SessionKeys
	newer    *grants.SessionKeys // that Vault has already; nil: the same
	settings *config.SignIn
}

func newStage(t *testing.T, changes ...func(*config.SignIn)) *stage {
	t.Helper()
	s := &stage{t: t, clock: time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC), audit: &fakeAudit{}, counted: map[string]int{}}
	s.keys = &grants.SessionKeys{
		Current: 1, Keys: map[int][grants.SessionKeySize]byte{1: {1}}, MountID: "mount", Registration: [grants.SessionKeySize]byte{9},
	}
	s.vault = newFakeVault(s.now)
	s.settings = &config.SignIn{
		Origin:              publicURL,
		SessionMax:          12 * time.Hour,
		PersonPolicies:      []string{"default", "mcp-person*"},
		DynamicRegistration: true,
		Logins:              []config.SignInLogin{{Name: "employees", Mount: "oidc-mcp", Role: "mcp", Title: "Example Inc."}},
		Applications: []config.SignInApplication{
			{ID: desk, Name: "Desk", RedirectURIs: []string{deskRedirect, "cursor://anysphere.cursor-mcp/oauth/callback", "http://localhost/callback", "https://desk.example.com/back?tenant=a%20b"}},
			{ID: "house", Name: "House", RedirectURIs: []string{"https://house.example.com/callback"}, Trusted: true},
		},
	}
	for _, change := range changes {
		change(s.settings)
	}
	s.Handler = s.gateway()
	return s
}

// gateway returns the handler of another gateway of the same mount, with memory of its own.
func (s *stage) gateway() *Handler {
	s.t.Helper()
	sealer := seal.New(func() *grants.SessionKeys { return s.keys })
	applications, err := application.New(application.Options{
		Settings: s.settings, Issuer: publicURL + IssuerPath, TokenEndpoint: publicURL + TokenPath, Sealer: sealer,
		RefreshKeys: s.RefreshSessionKeys, Now: s.now,
	})
	require.NoError(s.t, err)
	h, err := New(Options{
		Settings: s.settings, PublicURL: publicURL, Sealer: sealer, Applications: applications, People: s.vault, Engine: s.vault,
		Broker: s, Audit: s.audit, Observer: s, Now: s.now,
	})
	require.NoError(s.t, err)
	return h
}

func (s *stage) now() time.Time { return s.clock }

// pass lets time pass.
func (s *stage) pass(d time.Duration) { s.clock = s.clock.Add(d) }

// RefreshSessionKeys makes the stage the handler's broker.
func (s *stage) RefreshSessionKeys(context.Context) error {
	if s.newer != nil {
		s.keys = s.newer
	}
	return nil
}

// SignInEvent makes the stage the handler's observer.
func (s *stage) SignInEvent(event string) {
	s.vault.mu.Lock()
	defer s.vault.mu.Unlock()
	s.counted[event]++
}

// ask makes a request as the gate would hand it on.
func ask(h http.Handler, r *http.Request, source string) *httptest.ResponseRecorder {
	visit := &access.Request{ID: "request-1", Source: netip.MustParseAddr(source)}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r.WithContext(access.NewContext(r.Context(), visit, nil)))
	return w
}

// browser keeps cookies, and says whose page a form was on.
type browser struct {
	s       *stage
	at      http.Handler // the gateway that the balancer chooses
	cookies map[string]string
	source  string
	header  http.Header // in place of the usual ones, for the next request
}

func (s *stage) browser() *browser {
	return &browser{s: s, at: s.Handler, cookies: map[string]string{}, source: "192.0.2.1"}
}

func (b *browser) send(method, target string, form url.Values) *httptest.ResponseRecorder {
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	r := httptest.NewRequest(method, strings.TrimPrefix(target, publicURL), body)
	r.Host = "mcp-gateway.internal:8200" // headers that a proxy in front may send
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", publicURL)
		r.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	for name, values := range b.header {
		r.Header[name] = values
	}
	b.header = nil
	for name, value := range b.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	w := ask(b.at, r, b.source)
	for _, cookie := range w.Result().Cookies() {
		if cookie.MaxAge < 0 {
			delete(b.cookies, cookie.Name)
		} else {
			b.cookies[cookie.Name] = cookie.Value
		}
	}
	require.NotContains(b.s.t, w.Body.String()+strings.Join(w.Header()["Location"], " "), "mcp-gateway.internal", "the host of the request is nowhere")
	return w
}

func (b *browser) get(target string) *httptest.ResponseRecorder {
	return b.send(http.MethodGet, target, nil)
}

func (b *browser) post(target string, form url.Values) *httptest.ResponseRecorder {
	return b.send(http.MethodPost, target, form)
}

// request is an authorization request of the application of the file; pairs change it.
func authorization(pairs ...string) url.Values {
	values := url.Values{
		"response_type": {"code"}, "client_id": {desk}, "redirect_uri": {deskRedirect}, "state": {"application-state"},
		"code_challenge": {challenge}, "code_challenge_method": {"S256"}, "resource": {publicURL + "/sign-in/mcp"}, "scope": {"mcp offline_access"},
	}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			values.Del(pairs[i])
		} else {
			values.Set(pairs[i], pairs[i+1])
		}
	}
	return values
}

func (b *browser) authorize(pairs ...string) *httptest.ResponseRecorder {
	return b.get(authorizePath + "?" + authorization(pairs...).Encode())
}

// toProvider authorizes, and returns Vault's state that the browser takes to the identity
// provider.
func (b *browser) toProvider(pairs ...string) string {
	b.s.t.Helper()
	w := b.authorize(pairs...)
	require.Equal(b.s.t, http.StatusFound, w.Code, w.Body.String())
	to := location(b.s.t, w)
	require.Equal(b.s.t, "idp.example.com", to.Host)
	return to.Query().Get("state")
}

// comeBack returns from the identity provider, where the person has signed in.
func (b *browser) comeBack(state string) *httptest.ResponseRecorder {
	return b.get(callbackPath + "?" + url.Values{"state": {state}, "code": {"idp-code"}}.Encode())
}

// toConsent goes all the way to the consent page, and returns its form.
func (b *browser) toConsent(pairs ...string) string {
	b.s.t.Helper()
	w := b.comeBack(b.toProvider(pairs...))
	require.Equal(b.s.t, http.StatusOK, w.Code, w.Body.String())
	return formOf(b.s.t, w)
}

func (b *browser) decide(form, decision, identity string) *httptest.ResponseRecorder {
	values := url.Values{"form": {form}, "decision": {decision}}
	if identity != "" {
		values.Set("identity", identity)
	}
	return b.post(consentPath, values)
}

// signIn goes all the way, and returns the application's answer.
func (b *browser) signIn(pairs ...string) url.Values {
	b.s.t.Helper()
	w := b.decide(b.toConsent(pairs...), "allow", "engineering")
	require.Equal(b.s.t, http.StatusSeeOther, w.Code, w.Body.String())
	return location(b.s.t, w).Query()
}

// register registers an application, and returns its client_id.
func (s *stage) register(redirects ...string) string {
	s.t.Helper()
	body, err := json.Marshal(map[string]any{"client_name": "Stranger", "redirect_uris": redirects, "token_endpoint_auth_method": "none"})
	require.NoError(s.t, err)
	w := ask(s.Handler, httptest.NewRequest(http.MethodPost, registerPath, strings.NewReader(string(body))), "198.51.100.7")
	require.Equal(s.t, http.StatusCreated, w.Code, w.Body.String())
	var answer struct {
		ClientID string `json:"client_id"`
	}
	require.NoError(s.t, json.Unmarshal(w.Body.Bytes(), &answer))
	return answer.ClientID
}

func location(t *testing.T, w *httptest.ResponseRecorder) *url.URL {
	t.Helper()
	to, err := url.Parse(w.Header().Get("Location"))
	require.NoError(t, err)
	return to
}

var formValue = regexp.MustCompile(`name="form" value="([^"]+)"`)

func formOf(t *testing.T, w *httptest.ResponseRecorder) string {
	t.Helper()
	found := formValue.FindStringSubmatch(w.Body.String())
	require.NotNil(t, found, w.Body.String())
	return html.UnescapeString(found[1])
}

// isPage requires a page that says why there is no sign-in, and no way to an application.
func (s *stage) isPage(w *httptest.ResponseRecorder, status int, reason string) {
	s.t.Helper()
	require.Equal(s.t, status, w.Code, w.Body.String())
	require.Empty(s.t, w.Header().Get("Location"))
	require.Equal(s.t, "text/html; charset=utf-8", w.Header().Get("Content-Type"))
	require.Contains(s.t, w.Body.String(), "request-1", "the page has the request's id")
	require.Contains(s.t, s.audit.refusals(), reason)
}

// isError requires a redirect to the application with an error.
func (s *stage) isError(w *httptest.ResponseRecorder, code string) {
	s.t.Helper()
	require.True(s.t, slices.Contains([]int{http.StatusFound, http.StatusSeeOther}, w.Code), w.Body.String())
	to := location(s.t, w)
	require.Equal(s.t, "desk.example.com", to.Host)
	require.Equal(s.t, code, to.Query().Get("error"))
	require.Equal(s.t, publicURL+"/sign-in", to.Query().Get("iss"))
	require.False(s.t, to.Query().Has("code"))
}
