package application

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/config"
)

// fileSecret has every character that must be encoded in a form, and one that looks encoded.
const fileSecret = "p+l/u:s%2Bs&e=c ret-of-the-file"

// request is a test's request to the token endpoint.
type request struct {
	header http.Header
	form   url.Values
}

func basic(id, secret string) http.Header {
	return http.Header{"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte(id+":"+secret))}}
}

func form(pairs ...string) url.Values {
	values := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		values.Add(pairs[i], pairs[i+1])
	}
	return values
}

// withFile is a registry with applications in its file, and registration.
func withFile(t *testing.T) *bed {
	t.Helper()
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte(strings.ReplaceAll(fileSecret, " ", "_")+"\n"), 0o600))
	return newBed(t, config.SignIn{DynamicRegistration: true, MetadataDocuments: []string{prefix}, Applications: []config.SignInApplication{
		{ID: "public", Name: "Public", RedirectURIs: []string{"https://vendor.example/cb", "http://localhost/cb"}},
		{ID: "secret", Name: "Secret", RedirectURIs: []string{"https://vendor.example/cb"}, SecretFile: secret, Trusted: true},
	}})
}

func TestApplicationsOfTheFileAreFound(t *testing.T) {
	b := withFile(t)
	a := b.find(t, "public")
	require.Equal(t, "Public", a.Name)
	require.Equal(t, "public", a.ID)
	require.Equal(t, VouchFile, a.Vouch)
	require.Equal(t, MethodNone, a.AuthMethod)
	require.False(t, a.Trusted)
	checkRedirects(t, a, []string{"https://vendor.example/cb", "http://localhost:5/cb"}, []string{"https://vendor.example/cb/x"})
	require.True(t, b.find(t, "secret").Trusted)
	require.Equal(t, Unknown, b.refused(t, "Public").Kind)
}

// TestAPrefixAmongTheRedirectsOfAFilesApplicationStandsForAllBelow: and among no others'.
func TestAPrefixAmongTheRedirectsOfAFilesApplicationStandsForAllBelow(t *testing.T) {
	const connectors = "https://chatgpt.com/connector/oauth/"
	b := newBed(t, config.SignIn{DynamicRegistration: true, RedirectPrefixes: []string{connectors}, MetadataDocuments: []string{prefix}, Applications: []config.SignInApplication{
		{ID: "chatgpt", RedirectURIs: []string{connectors}}, {ID: "other", RedirectURIs: []string{"https://chatgpt.com/connector/oauth/one"}},
	}})
	beneath := connectors + "kDmjx77UnKOM"
	checkRedirects(t, b.find(t, "chatgpt"), []string{beneath, connectors + "a/b"}, []string{
		connectors, "https://chatgpt.com/connector/oauthx", "https://chatgpt.com/connector/oauth/../x", "https://chatgpt.com/connector/oauth/%2e%2e/x",
		"https://chatgpt.com.evil.example/connector/oauth/x", "https://chatgpt.com@evil.example/connector/oauth/x", "https://chatgpt.com:8443/connector/oauth/x",
		"https://chatgpt.com/connector/oauth/..%2fx", "https://chatgpt.com/connector/oauth/..;/x", "http://chatgpt.com/connector/oauth/x", "https://chatgpt.com/connector/oauth/x#y",
		`https://chatgpt.com/connector/oauth/x\y`, "https://chatgpt.com/connector/oauth/x?code=y",
	})
	checkRedirects(t, b.find(t, "other"), []string{"https://chatgpt.com/connector/oauth/one"}, []string{beneath})
	dynamic := b.register(t, `{"redirect_uris":["`+connectors+`one"]}`)["client_id"].(string)
	checkRedirects(t, b.find(t, dynamic), []string{connectors + "one"}, []string{beneath, connectors})
	require.Equal(t, "invalid_redirect_uri", b.notRegistered(t, `{"redirect_uris":["`+connectors+`"]}`).Code)
	b.JSON(one, document(one, map[string]any{"redirect_uris": []string{connectors}}))
	checkRedirects(t, b.find(t, one), []string{connectors}, []string{beneath})
}

func TestEachMethodAuthenticatesItsApplications(t *testing.T) {
	b := withFile(t)
	secret := strings.ReplaceAll(fileSecret, " ", "_")
	dynamicBasic := b.register(t, `{"redirect_uris":["http://localhost/cb"]}`)
	dynamicPost := b.register(t, `{"redirect_uris":["http://localhost/cb"],"token_endpoint_auth_method":"client_secret_post"}`)
	dynamicNone := b.register(t, `{"redirect_uris":["http://localhost/cb"],"token_endpoint_auth_method":"none"}`)
	b.JSON(one, document(one, nil))
	text := func(answer map[string]any, name string) string { return answer[name].(string) }
	tests := map[string]struct {
		request
		want string // client_id
	}{
		"public":                                  {request{nil, form("client_id", "public")}, "public"},
		"public with an empty secret":             {request{nil, form("client_id", "public", "client_secret", "")}, "public"},
		"public by an empty password":             {request{basic("public", ""), nil}, "public"},
		"a document":                              {request{nil, form("client_id", one)}, one},
		"a document by an empty password":         {request{basic(url.QueryEscape(one), ""), form("client_id", one)}, one},
		"a secret by Basic":                       {request{basic("secret", url.QueryEscape(secret)), nil}, "secret"},
		"a secret by Basic, encoded by percents":  {request{basic("secret", url.PathEscape(secret)), nil}, ""}, // a plus stands for a space
		"a secret by Basic, not encoded":          {request{basic("secret", secret), nil}, "secret"},
		"a secret by basic":                       {request{http.Header{"Authorization": {strings.Replace(basic("secret", secret).Get("Authorization"), "Basic", "bAsIc", 1)}}, nil}, "secret"},
		"a secret by Basic and the same id twice": {request{basic("secret", secret), form("client_id", "secret")}, "secret"},
		"a secret in the form":                    {request{nil, form("client_id", "secret", "client_secret", secret)}, "secret"},
		"dynamic by Basic":                        {request{basic(text(dynamicBasic, "client_id"), text(dynamicBasic, "client_secret")), nil}, text(dynamicBasic, "client_id")},
		"dynamic in the form":                     {request{nil, form("client_id", text(dynamicPost, "client_id"), "client_secret", text(dynamicPost, "client_secret"))}, text(dynamicPost, "client_id")},
		"dynamic without a secret":                {request{nil, form("client_id", text(dynamicNone, "client_id"))}, text(dynamicNone, "client_id")},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			a, err := b.Authenticate(t.Context(), test.header, test.form)
			if test.want == "" {
				require.Equal(t, NotAuthentic, asError(t, err).Kind)
				return
			}
			require.NoError(t, err)
			require.Equal(t, test.want, a.ClientID)
		})
	}
}

func TestWhoDoesNotShowTheRightThingIsNotServed(t *testing.T) {
	b := withFile(t)
	secret := strings.ReplaceAll(fileSecret, " ", "_")
	dynamicBasic := b.register(t, `{"redirect_uris":["http://localhost/cb"]}`)
	dynamicPost := b.register(t, `{"redirect_uris":["http://localhost/cb"],"token_endpoint_auth_method":"client_secret_post"}`)
	dynamicNone := b.register(t, `{"redirect_uris":["http://localhost/cb"],"token_endpoint_auth_method":"none"}`)
	id := func(answer map[string]any) string { return answer["client_id"].(string) }
	secretOf := func(answer map[string]any) string { return answer["client_secret"].(string) }
	b.JSON(one, document(one, nil))
	two := func(values ...string) http.Header { return http.Header{"Authorization": values} }
	good := basic("secret", secret).Get("Authorization")
	tests := map[string]struct {
		request
		kind  Kind
		basic bool
	}{
		"an unknown id":                          {request{nil, form("client_id", "nobody")}, Unknown, false},
		"an unknown id with a secret":            {request{basic("nobody", "x"), nil}, Unknown, true},
		"an unknown dynamic id":                  {request{nil, form("client_id", "dynamic.AAAA")}, Unknown, false},
		"a document that is not allowed":         {request{nil, form("client_id", "https://evil.example/x")}, Refused, false},
		"a document that is not there":           {request{nil, form("client_id", prefix+"nothing")}, Unavailable, false},
		"nothing":                                {request{}, Malformed, false},
		"an empty id":                            {request{nil, form("client_id", "")}, Malformed, false},
		"a secret and no id":                     {request{nil, form("client_secret", secret)}, Malformed, false},
		"an id twice":                            {request{nil, form("client_id", "public", "client_id", "public")}, Malformed, false},
		"a secret twice":                         {request{nil, form("client_id", "secret", "client_secret", secret, "client_secret", secret)}, Malformed, false},
		"two ids":                                {request{basic("secret", secret), form("client_id", "public")}, Malformed, true},
		"two ways":                               {request{basic("secret", secret), form("client_secret", secret)}, Malformed, true},
		"two ways, one of them wrong":            {request{basic("secret", "x"), form("client_id", "secret", "client_secret", secret)}, Malformed, true},
		"a secret and an assertion":              {request{nil, form("client_id", "secret", "client_secret", secret, "client_assertion", "a.b.c", "client_assertion_type", assertionType)}, NotAuthentic, false},
		"no secret":                              {request{nil, form("client_id", "secret")}, NotAuthentic, false},
		"an empty password":                      {request{basic("secret", ""), nil}, NotAuthentic, true},
		"a wrong secret":                         {request{nil, form("client_id", "secret", "client_secret", "wrong")}, NotAuthentic, false},
		"a wrong password":                       {request{basic("secret", "wrong"), nil}, NotAuthentic, true},
		"a secret with a space more":             {request{nil, form("client_id", "secret", "client_secret", secret+" ")}, NotAuthentic, false},
		"a secret in another case":               {request{nil, form("client_id", "secret", "client_secret", strings.ToUpper(secret))}, NotAuthentic, false},
		"another application's secret":           {request{basic(id(dynamicBasic), secret), nil}, NotAuthentic, true},
		"another registration's secret":          {request{basic(id(dynamicBasic), secretOf(dynamicPost)), nil}, NotAuthentic, true},
		"a public one with a secret":             {request{nil, form("client_id", "public", "client_secret", secret)}, NotAuthentic, false},
		"a document with a secret":               {request{nil, form("client_id", one, "client_secret", secret)}, NotAuthentic, false},
		"a dynamic one that is public, a secret": {request{nil, form("client_id", id(dynamicNone), "client_secret", secretOf(dynamicPost))}, NotAuthentic, false},
		"dynamic, in the form and not by Basic":  {request{nil, form("client_id", id(dynamicBasic), "client_secret", secretOf(dynamicBasic))}, NotAuthentic, false},
		"dynamic, by Basic and not in the form":  {request{basic(id(dynamicPost), secretOf(dynamicPost)), nil}, NotAuthentic, true},
		"dynamic, without its secret":            {request{nil, form("client_id", id(dynamicPost))}, NotAuthentic, false},
		"another scheme":                         {request{two("Bearer mcpt_x"), form("client_id", "public")}, NotAuthentic, true},
		"Basic without anything":                 {request{two("Basic"), form("client_id", "public")}, NotAuthentic, true},
		"Basic that is no base64":                {request{two("Basic !!!"), form("client_id", "public")}, NotAuthentic, true},
		"Basic without a colon":                  {request{two("Basic " + base64.StdEncoding.EncodeToString([]byte("secret"))), nil}, NotAuthentic, true},
		"Basic twice":                            {request{two(good, good), nil}, NotAuthentic, true},
		"an empty header":                        {request{two(""), form("client_id", "public")}, NotAuthentic, true},
		"an assertion of another type":           {request{nil, form("client_id", "public", "client_assertion", "a.b.c", "client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:saml2-bearer")}, Malformed, false},
		"an assertion without its type":          {request{nil, form("client_id", "public", "client_assertion", "a.b.c")}, Malformed, false},
		"a type without its assertion":           {request{nil, form("client_id", "public", "client_assertion_type", assertionType)}, NotAuthentic, false},
		"an assertion that is none":              {request{nil, form("client_id", "public", "client_assertion", "a.b.c", "client_assertion_type", assertionType)}, NotAuthentic, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			a, err := b.Authenticate(t.Context(), test.header, test.form)
			require.Nil(t, a)
			e := asError(t, err)
			require.Equal(t, test.kind, e.Kind, e.Message)
			require.Equal(t, test.basic, e.Basic)
			status, code := e.OAuth()
			switch test.kind {
			case Malformed:
				require.Equal(t, http.StatusBadRequest, status)
				require.Equal(t, "invalid_request", code)
			case Unavailable:
				require.Equal(t, http.StatusServiceUnavailable, status)
			case Unknown, Refused, NotAuthentic:
				require.Equal(t, http.StatusUnauthorized, status)
				require.Equal(t, "invalid_client", code)
			}
			require.NotContains(t, e.Message+e.Advice, secret)
			require.NotContains(t, e.Message+e.Advice, secretOf(dynamicPost))
		})
	}
}

func TestASecretOfTheFileIsReadAgainWithIt(t *testing.T) {
	b := withFile(t)
	path := b.settings.Applications[1].SecretFile
	require.NoError(t, os.WriteFile(path, []byte("another-secret-of-the-file"), 0o600))
	require.NoError(t, b.Configure(b.settings))
	_, err := b.Authenticate(t.Context(), nil, form("client_id", "secret", "client_secret", "another-secret-of-the-file"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, []byte("short"), 0o600))
	require.ErrorContains(t, b.Configure(b.settings), `application "secret": secret_file`)
	_, err = b.Authenticate(t.Context(), nil, form("client_id", "secret", "client_secret", "another-secret-of-the-file"))
	require.NoError(t, err, "the settings before a mistake stay")
}

// FuzzAuthenticate: whatever a request shows, only the secrets open.
func FuzzAuthenticate(f *testing.F) {
	registry, err := New(Options{Settings: &config.SignIn{Applications: []config.SignInApplication{{ID: "public", RedirectURIs: []string{"http://localhost/cb"}}}}})
	require.NoError(f, err)
	registry.rules.Load().files["secret"] = &Application{ClientID: "secret", Vouch: VouchFile, AuthMethod: MethodBasic, secret: digest([]byte("the-secret-of-the-file"))}
	f.Add("Basic c2VjcmV0OnRoZS1zZWNyZXQtb2YtdGhlLWZpbGU=", "client_id=secret")
	f.Add("", "client_id=public")
	f.Add("Basic Og==", "client_id=secret&client_secret=")
	f.Add("", "client_id=secret&client_assertion=a.b.c&client_assertion_type="+assertionType)
	f.Fuzz(func(t *testing.T, authorization, body string) {
		values, err := url.ParseQuery(body)
		if err != nil {
			return
		}
		header := http.Header{}
		if authorization != "" {
			header.Set("Authorization", authorization)
		}
		a, err := registry.Authenticate(t.Context(), header, values)
		if (a == nil) == (err == nil) {
			t.Fatal("neither an application nor an error")
		}
		if err == nil && a.ClientID == "secret" {
			decoded, _ := base64.StdEncoding.DecodeString(strings.TrimSpace(authorization[min(5, len(authorization)):]))
			if !strings.Contains(body, "the-secret-of-the-file") && !strings.Contains(string(decoded), "secret") && !strings.Contains(body, "%") {
				t.Fatalf("%q and %q pass", authorization, body)
			}
		}
	})
}
