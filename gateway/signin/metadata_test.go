package signin

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/config"
)

func (s *stage) document(path string) map[string]any {
	s.t.Helper()
	require.True(s.t, s.Serves(path), path)
	r := httptest.NewRequest(http.MethodGet, path, http.NoBody)
	r.Host = "10.0.0.7:8200"
	r.Header.Set("X-Forwarded-Proto", "http")
	r.Header.Set("X-Forwarded-Host", "other.example.com")
	w := ask(s.Handler, r, "192.0.2.1")
	require.Equal(s.t, http.StatusOK, w.Code)
	require.Equal(s.t, "application/json", w.Header().Get("Content-Type"))
	require.Equal(s.t, "*", w.Header().Get("Access-Control-Allow-Origin"))
	for _, foreign := range []string{"http://", "10.0.0.7", "other.example.com"} {
		require.NotContains(s.t, w.Body.String(), foreign)
	}
	var document map[string]any
	require.NoError(s.t, json.Unmarshal(w.Body.Bytes(), &document))
	return document
}

func TestEveryFormOfDiscoveryFindsTheIssuersDocument(t *testing.T) {
	s := newStage(t)
	for _, path := range []string{
		"/.well-known/oauth-authorization-server/sign-in",
		"/.well-known/openid-configuration/sign-in",
		"/sign-in/.well-known/openid-configuration",
		"/sign-in/.well-known/oauth-authorization-server",
	} {
		document := s.document(path)
		require.Equal(t, publicURL+"/sign-in", document["issuer"])
		require.Equal(t, publicURL+"/sign-in/authorize", document["authorization_endpoint"])
		require.Equal(t, publicURL+"/sign-in/token", document["token_endpoint"])
		require.Equal(t, publicURL+"/sign-in/revoke", document["revocation_endpoint"])
		require.Equal(t, publicURL+"/sign-in/register", document["registration_endpoint"])
		require.Equal(t, []any{"S256"}, document["code_challenge_methods_supported"])
		require.Equal(t, []any{"mcp", "offline_access"}, document["scopes_supported"])
		require.Equal(t, []any{"code"}, document["response_types_supported"])
		require.Equal(t, []any{"authorization_code", "refresh_token"}, document["grant_types_supported"])
		require.Equal(t, []any{"none", "client_secret_basic", "client_secret_post", "private_key_jwt"}, document["token_endpoint_auth_methods_supported"])
		for _, endpoint := range []string{"token", "revocation"} {
			require.Equal(t, []any{"ES256", "RS256", "PS256", "EdDSA"}, document[endpoint+"_endpoint_auth_signing_alg_values_supported"],
				"an application that takes another one could not authenticate")
		}
		require.Equal(t, true, document["authorization_response_iss_parameter_supported"])
		require.Equal(t, false, document["client_id_metadata_document_supported"])
	}
}

func TestTheIssuersDocumentSaysWhatTheFileAllows(t *testing.T) {
	s := newStage(t, func(c *config.SignIn) {
		c.DynamicRegistration = false
		c.MetadataDocuments = []string{"https://claude.ai/oauth/"}
		c.Machines = []config.SignInMachine{{Name: "ci", Method: "jwt", Mount: "jwt-ci", Role: "mcp", Issuer: "https://token.example.com", Profile: config.ProfileIDJAG}}
	})
	document := s.document("/.well-known/oauth-authorization-server/sign-in")
	require.NotContains(t, document, "registration_endpoint")
	require.Equal(t, true, document["client_id_metadata_document_supported"])
	require.Contains(t, document["grant_types_supported"], "urn:ietf:params:oauth:grant-type:jwt-bearer")
	require.Equal(t, []any{"urn:ietf:params:oauth:grant-profile:id-jag"}, document["authorization_grant_profiles_supported"])
}

func TestAResourcesDocumentSaysTheURLThatWasTyped(t *testing.T) {
	s := newStage(t)
	for _, typed := range []string{
		"/sign-in/mcp", "/sign-in/mcp/", "/sign-in/servers/files/mcp", "/sign-in/servers/files/mcp/",
		"/sign-in/servers/no-such-server/mcp", // alike, so that nobody learns which there are
	} {
		document := s.document("/.well-known/oauth-protected-resource" + typed)
		require.Equal(t, map[string]any{
			"resource":                 publicURL + typed,
			"authorization_servers":    []any{publicURL + "/sign-in"},
			"scopes_supported":         []any{"mcp"},
			"bearer_methods_supported": []any{"header"},
		}, document)
	}
}

func TestPathsOfTodayHaveNoMetadata(t *testing.T) {
	s := newStage(t)
	for _, path := range []string{
		"/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/",
		"/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-protected-resource/servers/files/mcp",
		"/.well-known/oauth-protected-resource/sign-in", "/.well-known/oauth-protected-resource/sign-in/mcp//",
		"/.well-known/oauth-protected-resource/sign-in/servers/a.b/mcp", "/.well-known/oauth-protected-resource/sign-in/servers//mcp",
		"/.well-known/oauth-protected-resource/sign-in/servers/" + strings.Repeat("a", 129) + "/mcp",
		"/.well-known/oauth-authorization-server", "/.well-known/openid-configuration", "/.well-known/oauth-authorization-server/mcp",
		"/register", "/revoke", "/login", "/callback", "/consent", "/mcp", "/servers/files/mcp", "/sign-in", "/sign-in/", "/sign-in/mcp", "/sign-in/authorize/",
	} {
		require.False(t, s.Serves(path), path)
		require.Equal(t, http.StatusNotFound, ask(s.Handler, httptest.NewRequest(http.MethodGet, path, http.NoBody), "192.0.2.1").Code, path)
	}
}

func TestHeadOfADocumentHasItsHeadersAndNoBody(t *testing.T) {
	s := newStage(t)
	w := ask(s.Handler, httptest.NewRequest(http.MethodHead, "/.well-known/oauth-authorization-server/sign-in", http.NoBody), "192.0.2.1")
	require.Equal(t, http.StatusOK, w.Code)
	require.NotEmpty(t, w.Header().Get("Content-Length"))
	require.Empty(t, w.Body.String())
}

func TestOneResourceHasOneSpelling(t *testing.T) {
	s := newStage(t)
	for asked, want := range map[string]string{
		"":                          publicURL + "/sign-in/mcp",
		publicURL:                   publicURL + "/sign-in/mcp",
		publicURL + "/":             publicURL + "/sign-in/mcp",
		publicURL + "/sign-in/mcp":  publicURL + "/sign-in/mcp",
		publicURL + "/sign-in/mcp/": publicURL + "/sign-in/mcp",
		"HTTPS://MCP.example.com:443/sign-in/mcp":  publicURL + "/sign-in/mcp",
		publicURL + "/sign-in/servers/files/mcp":   publicURL + "/sign-in/servers/files/mcp",
		publicURL + "/sign-in/servers/files/mcp/":  publicURL + "/sign-in/servers/files/mcp",
		publicURL + "/sign-in/servers/files/mcp//": "",
		publicURL + "/mcp":                         "",
		publicURL + "/servers/files/mcp":           "",
		publicURL + "/sign-in":                     "",
		publicURL + "/sign-in/mcp?x=1":             "",
		publicURL + "/sign-in/mcp?":                "",
		publicURL + "/sign-in/mcp#x":               "",
		publicURL + "/sign-in/mcp#":                "",
		publicURL + "/sign-in/servers/a%2Fb/mcp":   "",
		publicURL + "/sign-in/servers/..%2F/mcp":   "",
		"http://mcp.example.com/sign-in/mcp":       "",
		"https://mcp.example.com:8443/sign-in/mcp": "",
		"https://user@mcp.example.com/sign-in/mcp": "",
		"https://mcp.example.com.evil.test/":       "",
		"mcp.example.com/sign-in/mcp":              "",
		"urn:mcp":                                  "",
		"https://other.example.com/sign-in/mcp":    "",
	} {
		got, ok := s.canonicalResource(asked)
		require.Equal(t, want != "", ok, asked)
		require.Equal(t, want, got, asked)
	}
}

func TestPagesOfAnyOriginMayUseWhatReliesOnNoCookie(t *testing.T) {
	s := newStage(t)
	for path, open := range map[string]bool{
		TokenPath: true, registerPath: true, revokePath: true, rootTokenPath: true,
		"/.well-known/oauth-authorization-server/sign-in":   true,
		"/.well-known/oauth-protected-resource/sign-in/mcp": true,
		authorizePath: false, loginPath: false, callbackPath: false, consentPath: false, rootAuthorizePath: false,
	} {
		r := httptest.NewRequest(http.MethodOptions, path, http.NoBody)
		r.Header.Set("Origin", "https://inspector.example.com")
		r.Header.Set("Access-Control-Request-Method", http.MethodPost)
		w := ask(s.Handler, r, "192.0.2.1")
		if open {
			require.Equal(t, http.StatusNoContent, w.Code, path)
			require.Equal(t, "*", w.Header().Get("Access-Control-Allow-Origin"), path)
			require.Contains(t, w.Header().Get("Access-Control-Allow-Headers"), "authorization")
			require.Empty(t, w.Header().Get("Access-Control-Allow-Credentials"))
		} else {
			require.Equal(t, http.StatusMethodNotAllowed, w.Code, path)
			require.Empty(t, w.Header().Get("Access-Control-Allow-Origin"), path)
		}
	}
}

func TestARefusedRequestOfAPageIsReadableToo(t *testing.T) {
	s := newStage(t)
	r := httptest.NewRequest(http.MethodPost, registerPath, strings.NewReader("{"))
	r.Header.Set("Origin", "https://inspector.example.com")
	w := ask(s.Handler, r, "192.0.2.1")
	require.Equal(t, http.StatusBadRequest, w.Code)
	require.Equal(t, "*", w.Header().Get("Access-Control-Allow-Origin"))
}

func TestWrongMethodsAreToldTheRightOnes(t *testing.T) {
	s := newStage(t)
	for _, c := range []struct{ method, path, allow string }{
		{http.MethodHead, authorizePath, "GET, POST"},
		{http.MethodPut, authorizePath, "GET, POST"},
		{http.MethodGet, TokenPath, "POST, OPTIONS"},
		{http.MethodGet, consentPath, "POST"},
		{http.MethodPost, callbackPath, "GET"},
		{http.MethodPost, "/.well-known/oauth-authorization-server/sign-in", "GET, HEAD, OPTIONS"},
	} {
		w := ask(s.Handler, httptest.NewRequest(c.method, c.path, http.NoBody), "192.0.2.1")
		require.Equal(t, http.StatusMethodNotAllowed, w.Code, c.path)
		require.Equal(t, c.allow, w.Header().Get("Allow"), c.path)
	}
}

func TestAuthorizeAtTheRootLeadsToTheEndpoint(t *testing.T) {
	s := newStage(t)
	b := s.browser()
	w := b.get("/authorize?client_id=a&x=%20b")
	require.Equal(t, http.StatusFound, w.Code)
	require.Equal(t, publicURL+"/sign-in/authorize?client_id=a&x=%20b", w.Header().Get("Location"))
}
