package signin

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/signin/bed"
)

// TestHostileRequests are those that come to any endpoint on the internet: at sign-in's, they
// are refused as at the others, in the form that applications read.
func TestHostileRequests(t *testing.T) {
	t.Parallel()
	b := bed.New(t, bed.Options{SignIn: "dynamic_registration = true\n"})
	app := b.Application(bed.Editor, b.ServerURL(bed.Calculator))
	form := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	token := b.Door.URL + "/sign-in/token"
	for name, row := range map[string]struct {
		r      bed.Request
		status []int
	}{
		"a body that is too large": {bed.Request{Method: http.MethodPost, URL: token, Header: form, Body: "a=" + strings.Repeat("x", 100<<10)}, []int{413}},
		"a registration that is too large": {bed.Request{
			Method: http.MethodPost, URL: b.Door.URL + "/sign-in/register",
			Body: `{"redirect_uris":["http://127.0.0.1/` + strings.Repeat("x", 100<<10) + `"]}`,
		}, []int{413, 400}},
		"a parameter twice":              {bed.Request{Method: http.MethodPost, URL: token, Header: form, Body: "grant_type=refresh_token&grant_type=authorization_code&client_id=editor"}, []int{400}},
		"parameters in the address":      {bed.Request{Method: http.MethodPost, URL: token + "?grant_type=refresh_token&refresh_token=x&client_id=editor", Header: form}, []int{400, 401}},
		"JSON in place of a form":        {bed.Request{Method: http.MethodPost, URL: token, Body: `{"grant_type":"refresh_token"}`}, []int{400, 415}},
		"a form that is not one":         {bed.Request{Method: http.MethodPost, URL: token, Header: form, Body: "%zz=%"}, []int{400}},
		"ten thousand parameters":        {bed.Request{Method: http.MethodPost, URL: token, Header: form, Body: strings.Repeat("a=b&", 10_000)}, []int{400, 401, 413}},
		"another method":                 {bed.Request{Method: http.MethodGet, URL: token}, []int{405}},
		"a path that climbs":             {bed.Request{Method: http.MethodPost, URL: b.Door.URL + "/sign-in/../sign-in/token/../../mcp"}, []int{400, 401, 404}},
		"an encoded slash":               {bed.Request{Method: http.MethodGet, URL: b.Door.URL + "/sign-in%2fauthorize"}, []int{400, 404}},
		"a cookie that is nobody's":      {bed.Request{Method: http.MethodGet, URL: b.Door.URL + "/sign-in/callback?state=a&code=b", Header: http.Header{"Cookie": {"mcp-sign-in-x=y; __Host-mcp-sign-in-x=z"}}}, []int{400}},
		"credentials of a broken scheme": {bed.Request{Method: http.MethodPost, URL: token, Body: "grant_type=refresh_token&refresh_token=x", Header: http.Header{"Content-Type": form["Content-Type"], "Authorization": {"Basic !!!"}}}, []int{400, 401}},
		"an access token as credentials": {bed.Request{Method: http.MethodPost, URL: token, Body: "grant_type=refresh_token&refresh_token=x&client_id=editor", Header: http.Header{"Content-Type": form["Content-Type"], "Authorization": {"Bearer x"}}}, []int{400, 401}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := app.Do(row.r)
			require.NoError(t, err)
			require.Contains(t, row.status, got.Status, got.Body)
			if strings.HasPrefix(row.r.URL, token) && got.Status < 405 {
				var answer struct{ Error string }
				require.NoError(t, json.Unmarshal([]byte(got.Body), &answer), got.Body)
				require.NotEmpty(t, answer.Error)
			}
			require.NotContains(t, got.Body, "xxxxxxxxxx", "nothing of it is repeated")
		})
	}
	t.Run("another host", func(t *testing.T) {
		for _, path := range []string{"/sign-in/authorize", "/sign-in/token", "/.well-known/oauth-authorization-server/sign-in", "/"} {
			got := b.In(t).Do(http.MethodGet, b.Gateway.URL+path, "", http.Header{"Host": {"evil.example.com"}}, "")
			require.GreaterOrEqual(t, got.Status, 400, path)
			require.Contains(t, got.Body, "does not serve the host", path)
		}
	})
	t.Run("and the next one is served as ever", func(t *testing.T) {
		b.SignIn(t, bed.Alice, app, bed.Engineering).Works(t)
	})
}

// TestNothingIsWrittenToDisk: a gateway that signs people in keeps nothing but its logs.
func TestNothingIsWrittenToDisk(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	b := bed.New(t, bed.Options{Env: []string{"HOME=" + home, "TMPDIR=" + home, "XDG_CACHE_HOME=" + home, "XDG_STATE_HOME=" + home}})
	files := func() (names []string) {
		for _, dir := range []string{home, b.Dir} {
			entries, err := os.ReadDir(dir)
			require.NoError(t, err)
			for _, entry := range entries {
				names = append(names, entry.Name())
			}
		}
		return names
	}
	before := files()
	app := b.Application(bed.Editor, b.ServerURL(bed.Calculator))
	s := b.SignIn(t, bed.Alice, app, bed.Engineering)
	s.Works(t)
	b.Gateway.Restart()
	s.Refresh(t)
	b.Gateway.Kill()
	b.Gateway.Restart()
	s.Refresh(t)
	_, err := app.Post(app.Server.RevocationEndpoint, url.Values{"token": {s.RefreshToken}})
	require.NoError(t, err)
	require.Equal(t, before, files())
}
