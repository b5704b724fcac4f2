package signin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/signin/bed"
)

// open lets the applications register themselves that people have, as docs/sign-in.md says.
const open = `dynamic_registration = true
redirect_hosts    = ["vscode.dev", "insiders.vscode.dev", "www.cursor.com", "claude.ai", "claude.com"]
redirect_schemes  = ["cursor"]
redirect_prefixes = ["https://chatgpt.com/connector/oauth/"]
`

// register registers an application, and returns it with the answer.
func register(t *testing.T, b *bed.Bed, resource string, metadata harness.Map) (*bed.Application, harness.Map) {
	t.Helper()
	app := b.In(t).Application("", resource)
	body, err := json.Marshal(metadata)
	require.NoError(t, err)
	got, err := app.Do(bed.Request{Method: http.MethodPost, URL: app.Server.RegistrationEndpoint, Body: string(body)})
	require.NoError(t, err)
	require.Equal(t, http.StatusCreated, got.Status, got.Body)
	require.Equal(t, "no-store", got.Header.Get("Cache-Control"))
	var answer harness.Map
	require.NoError(t, json.Unmarshal([]byte(got.Body), &answer))
	for name, value := range answer {
		require.NotContains(t, []any{nil, ""}, value, name)
	}
	require.Subset(t, metadata["redirect_uris"], texts(answer["redirect_uris"]))
	app.ID = answer["client_id"].(string)
	if secret, ok := answer["client_secret"].(string); ok {
		b.Secret(secret)
		app.Secret = secret
		require.Contains(t, answer, "client_secret_expires_at")
	}
	return app, answer
}

func texts(list any) []string {
	var texts []string
	values, _ := list.([]any)
	for _, value := range values {
		texts = append(texts, value.(string))
	}
	return texts
}

// TestApplicationsRegisterThemselves with the redirects that they are known to use, and each
// of these brings a person back.
func TestApplicationsRegisterThemselves(t *testing.T) {
	t.Parallel()
	b := bed.New(t, bed.Options{SignIn: open})
	for name, row := range map[string]struct {
		redirects []string
		used      []string // where they redirect to; nil: to each as it is
	}{
		"Cursor": {[]string{"cursor://anysphere.cursor-mcp/oauth/callback", "https://www.cursor.com/agents/mcp/oauth/callback", "http://localhost:8787/callback"}, nil},
		"VS Code": {
			[]string{"http://127.0.0.1:33418/", "https://vscode.dev/redirect", "https://insiders.vscode.dev/redirect"},
			[]string{"http://127.0.0.1:41234/", "https://vscode.dev/redirect", "https://insiders.vscode.dev/redirect"},
		},
		"ChatGPT":     {[]string{"https://chatgpt.com/connector/oauth/5f3Kq-abc"}, nil},
		"Claude":      {[]string{"https://claude.ai/api/mcp/auth_callback", "https://claude.com/api/mcp/auth_callback"}, nil},
		"Claude Code": {[]string{"http://localhost/callback"}, []string{"http://localhost:53211/callback"}},
		"mcp-remote":  {[]string{"http://localhost:3334/oauth/callback"}, []string{"http://localhost:16234/oauth/callback"}},
		"Zed":         {[]string{"http://127.0.0.1:27523/callback"}, []string{"http://127.0.0.1:27524/callback"}},
		"one on IPv6": {[]string{"http://[::1]:4000/callback"}, []string{"http://[::1]:4001/callback"}},
	} {
		t.Run(name, func(t *testing.T) {
			app, answer := register(t, b, b.ServerURL(bed.Calculator), harness.Map{
				"client_name": name, "redirect_uris": row.redirects, "token_endpoint_auth_method": "none",
				"grant_types": []string{"authorization_code", "refresh_token"}, "response_types": []string{"code"},
			})
			require.Equal(t, row.redirects, texts(answer["redirect_uris"]))
			used := row.used
			if used == nil {
				used = row.redirects
			}
			for _, redirect := range used {
				app.Redirect = redirect
				try := app.Begin(nil)
				consent := b.In(t).Browser(bed.Alice).Open(try.URL())
				require.Contains(t, consent.Text(), name)
				require.Contains(t, strings.ToLower(consent.Text()), "unverified")
				code, err := try.Code(bed.Approve(consent, bed.Engineering))
				require.NoError(t, err)
				require.NoError(t, try.Redeem(code, nil).Tokens())
			}
			// It cannot use a redirect that it has not registered, though another application
			// may.
			app.Redirect = "https://vscode.dev/redirect/more"
			page := b.In(t).Browser(bed.Alice).Open(app.Begin(nil).URL())
			require.GreaterOrEqual(t, page.Status, 400)
		})
	}
	t.Run("each method of authentication works as it was registered, and no other", func(t *testing.T) {
		for _, method := range []string{"none", "client_secret_basic", "client_secret_post", ""} {
			metadata := harness.Map{"redirect_uris": []string{"http://127.0.0.1/callback"}}
			if method != "" {
				metadata["token_endpoint_auth_method"] = method
			}
			app, answer := register(t, b, b.ServerURL(bed.Calculator), metadata)
			if method != "" {
				require.Equal(t, method, answer["token_endpoint_auth_method"])
			}
			method := answer["token_endpoint_auth_method"].(string)
			secret := app.Secret
			require.Equal(t, method != "none", secret != "", method)
			app.Secret = ""
			try := app.Begin(nil)
			code, err := try.Code(bed.Approve(b.In(t).Browser(bed.Alice).Open(try.URL()), bed.Engineering))
			require.NoError(t, err)
			if method != "none" {
				got := try.Redeem(code, nil)
				require.Equal(t, http.StatusUnauthorized, got.Status, got.Body)
				require.Equal(t, "invalid_client", got.Error)
				got = try.Redeem(code, url.Values{"client_id": {app.ID}, "client_secret": {alter(secret, 3)}})
				require.Equal(t, http.StatusUnauthorized, got.Status, got.Body)
			}
			more := url.Values{}
			switch method {
			case "client_secret_basic":
				app.Secret = secret
			case "client_secret_post":
				more = url.Values{"client_id": {app.ID}, "client_secret": {secret}}
			}
			require.NoError(t, try.Redeem(code, more).Tokens())
		}
	})
	t.Run("with few fields, or more than there are", func(t *testing.T) {
		register(t, b, b.ServerURL(bed.Calculator), harness.Map{"redirect_uris": []string{"http://127.0.0.1/callback"}})
		register(t, b, b.ServerURL(bed.Calculator), harness.Map{
			"redirect_uris": []string{"http://127.0.0.1/callback"}, "client_uri": "https://example.com", "logo_uri": "https://example.com/logo.png",
			"scope": "everything", "contacts": []string{"a@example.com"}, "software_id": "x", "application_type": "native", "grant_types": []string{"authorization_code"},
		})
	})
	t.Run("the same registration is the same application", func(t *testing.T) {
		metadata := harness.Map{"redirect_uris": []string{"http://127.0.0.1/callback"}, "client_name": "the same", "token_endpoint_auth_method": "none"}
		first, _ := register(t, b, b.ServerURL(bed.Calculator), metadata)
		second, _ := register(t, b, b.ServerURL(bed.Calculator), metadata)
		require.Equal(t, first.ID, second.ID)
	})
	t.Run("of several redirects those count that the file allows", func(t *testing.T) {
		app, answer := register(t, b, b.ServerURL(bed.Calculator), harness.Map{
			"redirect_uris": []string{"https://evil.example.com/callback", "http://127.0.0.1/callback"}, "token_endpoint_auth_method": "none",
		})
		require.Equal(t, []string{"http://127.0.0.1/callback"}, texts(answer["redirect_uris"]))
		app.Redirect = "https://evil.example.com/callback"
		page := b.In(t).Browser(bed.Alice).Open(app.Begin(nil).URL())
		require.GreaterOrEqual(t, page.Status, 400, "the browser is at %s", page.URL)
		app.Redirect = "http://127.0.0.1:1234/callback"
		b.SignIn(t, bed.Alice, app, bed.Engineering)
	})
	t.Run("what is refused", func(t *testing.T) {
		app := b.Application("", b.ServerURL(bed.Calculator))
		for name, body := range map[string]string{
			"a host that the file does not have": `{"redirect_uris":["https://evil.example.com/callback"]}`,
			"a scheme that it does not have":     `{"redirect_uris":["evil://callback"]}`,
			"plain HTTP to a host":               `{"redirect_uris":["http://claude.ai/api/mcp/auth_callback"]}`,
			"a prefix with a path out of it":     `{"redirect_uris":["https://chatgpt.com/connector/oauth/../../x"]}`,
			"another path of the prefix's host":  `{"redirect_uris":["https://chatgpt.com/other"]}`,
			"a fragment":                         `{"redirect_uris":["http://127.0.0.1/callback#x"]}`,
			"no redirect":                        `{"redirect_uris":[]}`,
			"nothing":                            `{}`,
			"no JSON":                            `redirect_uris=x`,
			"a method that cannot be":            `{"redirect_uris":["http://127.0.0.1/callback"],"token_endpoint_auth_method":"tls_client_auth"}`,
		} {
			got, err := app.Do(bed.Request{Method: http.MethodPost, URL: app.Server.RegistrationEndpoint, Body: body})
			require.NoError(t, err)
			require.Equal(t, http.StatusBadRequest, got.Status, "%s: %s", name, got.Body)
			var answer struct{ Error string }
			require.NoError(t, json.Unmarshal([]byte(got.Body), &answer))
			require.Contains(t, []string{"invalid_redirect_uri", "invalid_client_metadata"}, answer.Error, name)
			if name == "a host that the file does not have" {
				require.Contains(t, got.Body, "evil.example.com is not in redirect_hosts", "whoever reads it knows what the file lacks")
			}
		}
	})
	t.Run("it outlives the gateway, and is judged by the present file", func(t *testing.T) {
		app, _ := register(t, b, b.ServerURL(bed.Calculator), harness.Map{
			"redirect_uris": []string{"https://claude.ai/api/mcp/auth_callback", "http://127.0.0.1/callback"}, "token_endpoint_auth_method": "none",
		})
		s := b.SignIn(t, bed.Alice, app, bed.Engineering)
		b.In(t).Reload(`"claude.ai", `, "")
		s.Refresh(t)
		s.Works(t)
		b.SignIn(t, bed.Alice, app, bed.Engineering)
		app.Redirect = "https://claude.ai/api/mcp/auth_callback"
		page := b.In(t).Browser(bed.Alice).Open(app.Begin(nil).URL())
		require.GreaterOrEqual(t, page.Status, 400, "the browser is at %s", page.URL)

		b.In(t).Reload("dynamic_registration = true", "dynamic_registration = false")
		app.Redirect = "http://127.0.0.1:33418/callback"
		page = b.In(t).Browser(bed.Alice).Open(app.Begin(nil).URL())
		require.GreaterOrEqual(t, page.Status, 400)
		got, err := app.Refresh(s.RefreshToken, nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusUnauthorized, got.Status, got.Body)
		require.Equal(t, "invalid_client", got.Error)
	})
}

// TestSecretsOfTheFile: an administrator's secret may have any character.
func TestSecretsOfTheFile(t *testing.T) {
	t.Parallel()
	const secret = "a+b/c:d%e=f&g=h~i-of-the-file"
	file := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(file, []byte(secret+"\n"), 0o600))
	b := bed.New(t, bed.Options{SignIn: fmt.Sprintf("application %q {\n  name = \"Confidential\"\n  redirect_uris = [%q]\n  secret_file = %q\n}\n",
		"confidential", "https://app.example.com/callback", file)})
	b.Secret(secret)
	app := b.Application("confidential", b.ServerURL(bed.Calculator))
	app.Redirect = "https://app.example.com/callback"
	obtain := func(t *testing.T) (*bed.Attempt, string) {
		t.Helper()
		try := app.Begin(nil)
		code, err := try.Code(bed.Approve(b.In(t).Browser(bed.Alice).Open(try.URL()), bed.Engineering))
		require.NoError(t, err)
		return try, code
	}
	for name, row := range map[string]struct {
		basic string
		more  url.Values
		err   string
	}{
		"in the header, encoded as a form": {secret, nil, ""},
		"in the form":                      {"", url.Values{"client_id": {"confidential"}, "client_secret": {secret}}, ""},
		"none":                             {"", url.Values{"client_id": {"confidential"}}, "invalid_client"},
		"another in the header":            {secret + "x", nil, "invalid_client"},
		"another in the form":              {"", url.Values{"client_id": {"confidential"}, "client_secret": {secret + "x"}}, "invalid_client"},
		"as two applications":              {secret, url.Values{"client_id": {bed.Editor}}, "invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			try, code := obtain(t)
			app.Secret = row.basic
			defer func() { app.Secret = "" }()
			got := try.Redeem(code, row.more)
			if row.err != "" {
				require.Contains(t, []int{http.StatusUnauthorized, http.StatusBadRequest}, got.Status, got.Body)
				require.Contains(t, got.Error, row.err)
				if row.basic != "" && got.Status == http.StatusUnauthorized {
					require.Regexp(t, "^Basic", got.Header.Get("WWW-Authenticate"))
				}
				return
			}
			require.NoError(t, got.Tokens())
			again, err := app.Refresh(got.RefreshToken, row.more)
			require.NoError(t, err)
			require.NoError(t, again.Tokens())
		})
	}
}
