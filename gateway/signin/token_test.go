package signin

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

// answered is an answer of the token or the revocation endpoint.
type answered struct {
	status int
	header http.Header

	Access      string `json:"access_token"`
	Type        string `json:"token_type"`
	ExpiresIn   any    `json:"expires_in"`
	Refresh     string `json:"refresh_token"`
	Scope       string `json:"scope"`
	Error       string `json:"error"`
	Description string `json:"error_description"`
}

// send posts a form to an endpoint for applications.
func send(t *testing.T, h http.Handler, path string, form url.Values) answered {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return sent(t, h, r)
}

func sent(t *testing.T, h http.Handler, r *http.Request) answered {
	t.Helper()
	w := ask(h, r, "203.0.113.9")
	a := answered{status: w.Code, header: w.Header()}
	require.Equal(t, "application/json", w.Header().Get("Content-Type"), "always JSON")
	require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	require.Equal(t, "*", w.Header().Get("Access-Control-Allow-Origin"))
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &a), w.Body.String())
	if a.status == http.StatusServiceUnavailable || a.status == http.StatusTooManyRequests {
		require.NotEmpty(t, w.Header().Get("Retry-After"))
		require.NotEqual(t, codeInvalidGrant, a.Error)
	}
	return a
}

// exchangeForm is the exchange of a code by the application of the file; pairs change it.
func exchangeForm(code string, pairs ...string) url.Values {
	return changed(url.Values{
		"grant_type": {grantCode}, "code": {code}, "client_id": {desk}, "redirect_uri": {deskRedirect}, "code_verifier": {verifier},
	}, pairs)
}

func refreshForm(token string, pairs ...string) url.Values {
	return changed(url.Values{"grant_type": {grantRefresh}, "refresh_token": {token}, "client_id": {desk}}, pairs)
}

func changed(form url.Values, pairs []string) url.Values {
	for i := 0; i < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
		if pairs[i+1] == "" {
			form.Del(pairs[i])
		}
	}
	return form
}

// code signs in, and returns the code.
func (s *stage) code(pairs ...string) string {
	s.t.Helper()
	code := s.browser().signIn(pairs...).Get("code")
	require.NotEmpty(s.t, code)
	return code
}

// tokens signs in and exchanges the code.
func (s *stage) tokens() answered {
	s.t.Helper()
	a := send(s.t, s.Handler, TokenPath, exchangeForm(s.code()))
	require.Equal(s.t, http.StatusOK, a.status, a.Description)
	return a
}

func (s *stage) refresh(token string, pairs ...string) answered {
	s.t.Helper()
	return send(s.t, s.Handler, TokenPath, refreshForm(token, pairs...))
}

// is requires an error.
func (a answered) is(t *testing.T, status int, code string, why ...any) {
	t.Helper()
	require.Equal(t, code, a.Error, append(why, a.Description)...)
	require.Equal(t, status, a.status, why...)
	require.Empty(t, a.Access)
	require.Empty(t, a.Refresh)
}

func (a answered) ok(t *testing.T, why ...any) answered {
	t.Helper()
	require.Equal(t, http.StatusOK, a.status, append(why, a.Error, a.Description)...)
	require.True(t, strings.HasPrefix(a.Access, "mcpt_"), why...)
	return a
}

// asked are the methods of Vault that were called since the last time.
func (s *stage) calls() []string {
	s.vault.mu.Lock()
	defer s.vault.mu.Unlock()
	calls := s.vault.asked
	s.vault.asked = nil
	return calls
}

// failing has a method of Vault fail from now on; nil: not any more.
func (s *stage) failing(method string, err error) {
	s.vault.mu.Lock()
	defer s.vault.mu.Unlock()
	s.vault.fail[method] = err
}

// cutting is Vault behind a link that loses answers: the requests have been carried
// out.
type cutting struct {
	*fakeVault

	mu   sync.Mutex
	lost string // the method whose next answer is lost
}

var errLost = errors.New("the connection was closed before the answer")

func (c *cutting) lose(method string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lost = method
}

// cut replaces the error of the method if its answer is lost.
func (c *cutting) cut(method string, err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil && c.lost == method {
		c.lost = ""
		return errLost
	}
	return err
}

func (c *cutting) Lookup(ctx context.Context, secret string) (*vaultclient.PersonToken, error) {
	t, err := c.fakeVault.Lookup(ctx, secret)
	return t, c.cut("Lookup", err)
}

func (c *cutting) Unwrap(ctx context.Context, wrapping string) (string, error) {
	secret, err := c.fakeVault.Unwrap(ctx, wrapping)
	return secret, c.cut("Unwrap", err)
}

func (c *cutting) Renew(ctx context.Context, t *vaultclient.PersonToken, increment time.Duration) (time.Duration, error) {
	life, err := c.fakeVault.Renew(ctx, t, increment)
	return life, c.cut("Renew", err)
}

func (c *cutting) Credentials(ctx context.Context, t *vaultclient.PersonToken, client string, r vaultclient.CredsRequest) (*vaultclient.Creds, error) {
	creds, err := c.fakeVault.Credentials(ctx, t, client, r)
	return creds, c.cut("Credentials", err)
}

func (c *cutting) Generation(ctx context.Context, t *vaultclient.PersonToken) (uint64, time.Time, error) {
	n, at, err := c.fakeVault.Generation(ctx, t)
	return n, at, c.cut("Generation", err)
}

func (c *cutting) SetGeneration(ctx context.Context, t *vaultclient.PersonToken, n uint64, at time.Time) error {
	return c.cut("SetGeneration", c.fakeVault.SetGeneration(ctx, t, n, at))
}

func (c *cutting) Revoke(ctx context.Context, t *vaultclient.PersonToken) error {
	return c.cut("Revoke", c.fakeVault.Revoke(ctx, t))
}

func TestAnAnswerHasAllThatApplicationsReadAndNothingElse(t *testing.T) {
	s := newStage(t)
	w := ask(s.Handler, formRequest(TokenPath, exchangeForm(s.code())), "203.0.113.9")
	require.Equal(t, http.StatusOK, w.Code)
	var members map[string]any
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &members))
	require.Len(t, members, 5)
	require.Equal(t, "Bearer", members["token_type"])
	require.EqualValues(t, 900, members["expires_in"], "a number, always: some applications take its absence for ever")
	require.Equal(t, "mcp", members["scope"])
	require.NotEmpty(t, members["access_token"])
	require.Contains(t, members["refresh_token"], refreshPrefix)
}

func formRequest(path string, form url.Values) *http.Request {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return r
}

func TestRequestsThatTheTokenEndpointDoesNotTake(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*http.Request)
		form   url.Values
		status int
		code   string
	}{
		"no grant_type":                   {nil, url.Values{"client_id": {desk}}, 400, codeInvalidRequest},
		"a grant that is not offered":     {nil, url.Values{"client_id": {desk}, "grant_type": {"password"}}, 400, codeUnsupportedGrant},
		"no code":                         {nil, exchangeForm(""), 400, codeInvalidRequest},
		"no refresh token":                {nil, refreshForm(""), 400, codeInvalidRequest},
		"no assertion":                    {nil, url.Values{"grant_type": {grantMachine}}, 400, codeInvalidRequest},
		"a parameter twice":               {nil, url.Values{"client_id": {desk}, "grant_type": {grantCode, grantRefresh}}, 400, codeInvalidRequest},
		"no client":                       {nil, exchangeForm("x", "client_id", ""), 401, codeInvalidClient},
		"a client that nobody knows":      {nil, exchangeForm("x", "client_id", "unknown"), 401, codeInvalidClient},
		"an unknown client and no grant":  {nil, url.Values{"client_id": {"unknown"}}, 401, codeInvalidClient},
		"an unknown client, and a secret": {nil, exchangeForm("x", "client_id", "unknown", "client_secret", "s"), 401, codeInvalidClient},
		"JSON":                            {func(r *http.Request) { r.Header.Set("Content-Type", "application/json") }, exchangeForm("x"), 400, codeInvalidRequest},
		"the parameters in the query": {func(r *http.Request) {
			r.URL.RawQuery, r.Body = exchangeForm("x").Encode(), http.NoBody
		}, nil, 401, codeInvalidClient},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			r := formRequest(TokenPath, c.form)
			if c.change != nil {
				c.change(r)
			}
			a := sent(t, s.Handler, r)
			if c.status == 401 && a.status == 400 {
				a.is(t, 400, codeInvalidRequest) // where the request does not say who asks
			} else {
				a.is(t, c.status, c.code)
			}
			require.Empty(t, s.calls(), "Vault is not asked")
			require.Empty(t, s.audit.events(), "strangers are counted")
			require.Len(t, s.audit.counted, 1)
		})
	}
}

func TestATokenRequestAtTheRootOfTheHostIsServed(t *testing.T) {
	s := newStage(t)
	a := send(t, s.Handler, "/token", exchangeForm(s.code())).ok(t)
	send(t, s.Handler, "/token", refreshForm(a.Refresh)).ok(t)
}

func TestAnAddressThatAsksWithoutEndHasToWait(t *testing.T) {
	s := newStage(t)
	var last answered
	for range tokenBurst + 1 {
		last = send(t, s.Handler, TokenPath, refreshForm("x"))
	}
	last.is(t, http.StatusTooManyRequests, codeUnavailable)
	s.pass(time.Second)
	send(t, s.Handler, TokenPath, refreshForm("x")).is(t, 400, codeInvalidGrant)
}

// TestWhatIsSealedForOnePurposeIsGoodForNoOther: nothing that the gateway gives to a browser
// or an application is taken for something else that it gives.
func TestWhatIsSealedForOnePurposeIsGoodForNoOther(t *testing.T) {
	s := newStage(t)
	b := s.browser()
	form := b.toConsent()
	_, form, _ = strings.Cut(form, ".")
	var cookie string
	for _, value := range b.cookies {
		cookie = value
	}
	registration := s.register("http://localhost/callback")
	code := s.code()
	refresh := strings.TrimPrefix(s.tokens().Refresh, refreshPrefix)
	s.calls()
	for name, text := range map[string]string{"the cookie": cookie, "the form": form, "a registration": registration, "a code": code} {
		s.refresh(refreshPrefix+text).is(t, 400, codeInvalidGrant, name)
	}
	for name, text := range map[string]string{"the cookie": cookie, "the form": form, "a registration": registration, "a refresh token": refresh} {
		send(t, s.Handler, TokenPath, exchangeForm(text)).is(t, 400, codeInvalidGrant, name)
	}
	require.Empty(t, s.calls(), "Vault is not asked")
}
