package signin

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/signin/bed"
)

// TestNothingBehindTheProxyIsSeen: the public URL is https, and gateways speak plain HTTP
// behind it. No document, header, redirect or page names a scheme or a host of theirs.
func TestNothingBehindTheProxyIsSeen(t *testing.T) {
	t.Parallel()
	b := bed.New(t, bed.Options{TLS: true, SignIn: "dynamic_registration = true\n"})
	app := b.Application(bed.Editor, b.ServerURL(bed.Calculator))
	require.True(t, strings.HasPrefix(app.Server.Issuer, "https://"))
	seen := func(t *testing.T, what string, header http.Header, body string) {
		t.Helper()
		var all strings.Builder
		require.NoError(t, header.Write(&all))
		// The company's provider and the application's own address are on plain HTTP here.
		text := strings.NewReplacer(b.Company.Issuer(), "", url.QueryEscape(b.Company.Issuer()), "", app.Redirect, "", url.QueryEscape(app.Redirect), "").
			Replace(all.String() + body)
		require.NotRegexp(t, `(?i)http(:|%3a)(/|%2f){2}`, text, what)
		for _, inner := range b.Door.Inner() {
			require.NotContains(t, text, strings.TrimPrefix(inner, "http://"), what)
		}
	}
	for _, path := range []string{
		"/", "/token", "/authorize?client_id=x", "/sign-in/authorize", "/sign-in/token", "/sign-in/register", "/sign-in/revoke", "/sign-in/callback",
		"/sign-in/mcp", "/sign-in/mcp/", "/sign-in/servers/calculator/mcp", "/sign-in/none", "/mcp", "/servers/calculator/mcp",
		"/.well-known/oauth-protected-resource/sign-in/mcp", "/.well-known/oauth-protected-resource/sign-in/mcp/",
		"/.well-known/oauth-protected-resource/sign-in/servers/calculator/mcp", "/.well-known/oauth-authorization-server/sign-in",
		"/.well-known/openid-configuration/sign-in", "/sign-in/.well-known/openid-configuration", "/sign-in/.well-known/oauth-authorization-server",
		"/.well-known/oauth-protected-resource", "/.well-known/oauth-authorization-server",
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodOptions} {
			got, err := app.Do(bed.Request{Method: method, URL: b.Door.URL + path, Header: http.Header{
				"Origin": {"https://inspector.example.com"}, "Access-Control-Request-Method": {"POST"},
				"X-Forwarded-Proto": {"http"}, "X-Forwarded-Host": {"inner.internal:8080"}, "Forwarded": {"host=inner.internal;proto=http"},
			}})
			require.NoError(t, err)
			require.NotContains(t, got.Body, "inner.internal", path)
			seen(t, method+" "+path, got.Header, got.Body)
		}
	}
	t.Run("in a browser", func(t *testing.T) {
		try := app.Begin(nil)
		page := b.In(t).Browser(bed.Alice).Open(try.URL())
		seen(t, "the consent page", page.Header, page.Body)
		for _, at := range page.Trail {
			seen(t, "the way there", nil, at)
		}
		landed := bed.Approve(page, bed.Engineering)
		seen(t, "the way back", nil, strings.Join(landed.Trail, "\n"))
	})
	t.Run("cookies are for this host alone, and for TLS", func(t *testing.T) {
		page := b.In(t).Browser("").Open(app.Begin(nil).URL())
		require.NotNil(t, page.Choices("password"))
		cookies := page.Cookies
		require.NotEmpty(t, cookies)
		for _, cookie := range cookies {
			require.Regexp(t, `^__Host-mcp-sign-in-`, cookie.Name)
			require.True(t, cookie.Secure && cookie.HttpOnly && cookie.Path == "/" && cookie.Domain == "", cookie.Raw)
			require.Equal(t, http.SameSiteLaxMode, cookie.SameSite)
			require.LessOrEqual(t, cookie.MaxAge, 600)
			require.Positive(t, cookie.MaxAge)
		}
	})
}

// TestFloodsAreBounded: by source, so that one flood holds up nobody else.
func TestFloodsAreBounded(t *testing.T) {
	t.Parallel()
	b := bed.New(t, bed.Options{SignIn: "dynamic_registration = true\n"})
	app := b.Application(bed.Editor, b.ServerURL(bed.Calculator))
	for name, r := range map[string]bed.Request{
		"authorize": {Method: http.MethodGet, URL: app.Begin(nil).URL()},
		"register": {
			Method: http.MethodPost, URL: b.Door.URL + "/sign-in/register",
			Body: `{"redirect_uris":["http://127.0.0.1/callback"],"client_name":"flood","token_endpoint_auth_method":"none"}`,
		},
		"callback": {Method: http.MethodGet, URL: b.Door.URL + "/sign-in/callback?state=x&code=y"},
	} {
		t.Run(name+" by source", func(t *testing.T) {
			flooder, other := b.In(t).Application(bed.Editor, app.Resource), b.In(t).Application(bed.Editor, app.Resource)
			const most = 200
			for n := 1; ; n++ {
				require.Less(t, n, most, "nothing bounds it")
				got, err := flooder.Do(r)
				require.NoError(t, err)
				if got.Status != http.StatusTooManyRequests {
					require.Less(t, got.Status, 500, got.Body)
					continue
				}
				require.Greater(t, n, 20, "somebody with a few tabs must not notice")
				require.Regexp(t, `^[1-9]\d*$`, got.Header.Get("Retry-After"))
				break
			}
			got, err := other.Do(r)
			require.NoError(t, err)
			require.NotEqual(t, http.StatusTooManyRequests, got.Status, got.Body)
		})
	}
	t.Run("token by sign-in, and not by the few addresses of hosted applications", func(t *testing.T) {
		s, other := b.SignIn(t, bed.Alice, app, bed.Engineering), b.SignIn(t, bed.Bob, app, bed.Engineering)
		const most = 60
		for n := 1; ; n++ {
			require.Less(t, n, most, "nothing bounds it")
			got, err := s.Application.Refresh(s.RefreshToken, nil)
			require.NoError(t, err)
			if got.Status == http.StatusOK {
				s.AccessToken, s.RefreshToken = got.AccessToken, got.RefreshToken
				continue
			}
			require.Equal(t, http.StatusTooManyRequests, got.Status, got.Body)
			require.Regexp(t, `^[1-9]\d*$`, got.Header.Get("Retry-After"))
			require.NotContains(t, got.Body, "invalid_grant")
			require.GreaterOrEqual(t, n, 15)
			break
		}
		s.Works(t)       // it is not out
		other.Refresh(t) // from the same address
	})
}
