package signin

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/signin/bed"
)

// TestDiscovery reads the metadata that applications read before a sign-in.
func TestDiscovery(t *testing.T) {
	t.Parallel()
	b := bed.New(t, bed.Options{TLS: true, SignIn: "dynamic_registration = true\n"})
	b.Write("mcp/clients/editor", harness.Map{"allowed_servers": bed.Calculator})
	app := b.Application(bed.Editor, b.AllURL())
	get := func(t *testing.T, method, path string, header http.Header) harness.Response {
		t.Helper()
		got, err := app.Do(bed.Request{Method: method, URL: b.Door.URL + path, Header: header})
		require.NoError(t, err)
		return got
	}
	document := func(t *testing.T, path string) (fields harness.Map) {
		t.Helper()
		got := get(t, http.MethodGet, path, nil)
		require.Equal(t, http.StatusOK, got.Status, "%s: %s", path, got.Body)
		require.Equal(t, "application/json", strings.Split(got.Header.Get("Content-Type"), ";")[0], path)
		require.NoError(t, json.Unmarshal([]byte(got.Body), &fields))
		for name, value := range fields {
			require.NotContains(t, []any{nil, ""}, value, "%s: %s", path, name)
		}
		return fields
	}
	t.Run("the resource's document is about the URL that was typed", func(t *testing.T) {
		for _, path := range []string{"/sign-in/mcp", "/sign-in/mcp/", "/sign-in/servers/calculator/mcp", "/sign-in/servers/calculator/mcp/", "/sign-in/servers/there-is-none/mcp"} {
			fields := document(t, "/.well-known/oauth-protected-resource"+path)
			require.Equal(t, b.Door.URL+path, fields["resource"])
			require.Equal(t, []any{b.Door.URL + "/sign-in"}, fields["authorization_servers"])
			require.Equal(t, []any{"mcp"}, fields["scopes_supported"])
			require.Equal(t, []any{"header"}, fields["bearer_methods_supported"])
		}
	})
	t.Run("of a name that no server can have there is none", func(t *testing.T) {
		for _, path := range []string{"/sign-in/servers/mcp", "/sign-in/servers//mcp", "/sign-in/servers/..%2fmcp/mcp", "/sign-in/servers/a/b/mcp", "/sign-in", "/sign-in/mcp/mcp", ""} {
			got := get(t, http.MethodGet, "/.well-known/oauth-protected-resource"+path, nil)
			require.Equal(t, http.StatusNotFound, got.Status, "%q: %s", path, got.Body)
			require.Empty(t, got.Header.Values("WWW-Authenticate"))
		}
	})
	t.Run("the authorization server's document is one, under every form that applications try", func(t *testing.T) {
		first := document(t, "/.well-known/oauth-authorization-server/sign-in")
		for _, path := range []string{"/.well-known/openid-configuration/sign-in", "/sign-in/.well-known/openid-configuration", "/sign-in/.well-known/oauth-authorization-server"} {
			require.Equal(t, first, document(t, path), path)
		}
		require.Equal(t, b.Door.URL+"/sign-in", first["issuer"])
		require.Equal(t, []any{"S256"}, first["code_challenge_methods_supported"])
		require.Equal(t, []any{"code"}, first["response_types_supported"])
		require.ElementsMatch(t, []any{"mcp", "offline_access"}, first["scopes_supported"])
		require.Equal(t, true, first["authorization_response_iss_parameter_supported"])
		require.Equal(t, false, first["client_id_metadata_document_supported"], "the file allows none")
		require.Subset(t, first["token_endpoint_auth_methods_supported"], []any{"none", "client_secret_post", "client_secret_basic", "private_key_jwt"})
		require.Subset(t, first["grant_types_supported"], []any{"authorization_code", "refresh_token"})
		for _, name := range []string{"authorization_endpoint", "token_endpoint", "registration_endpoint", "revocation_endpoint"} {
			require.True(t, strings.HasPrefix(first[name].(string), b.Door.URL+"/sign-in/"), "%s: %v", name, first[name])
		}
	})
	t.Run("today's paths know no sign-in: Cursor and Claude Code keep their headers", func(t *testing.T) {
		// The order in which they, and the SDKs, look for metadata after a 401.
		for _, endpoint := range []string{"/mcp", "/servers/calculator/mcp"} {
			got, err := app.Do(bed.Request{Method: http.MethodPost, URL: b.Door.URL + endpoint, Body: ping})
			require.NoError(t, err)
			require.Equal(t, http.StatusUnauthorized, got.Status)
			require.NotContains(t, got.Header.Get("WWW-Authenticate"), "resource_metadata")
			for _, path := range []string{
				"/.well-known/oauth-protected-resource" + endpoint, "/.well-known/oauth-protected-resource",
				"/.well-known/oauth-authorization-server" + endpoint, "/.well-known/oauth-authorization-server",
				"/.well-known/openid-configuration" + endpoint, endpoint + "/.well-known/openid-configuration", "/.well-known/openid-configuration",
				endpoint + "/.well-known/oauth-protected-resource", endpoint + "/.well-known/oauth-authorization-server",
			} {
				got := get(t, http.MethodGet, path, nil)
				require.Contains(t, []int{http.StatusNotFound, http.StatusUnauthorized}, got.Status, "%s: %s", path, got.Body)
				if strings.HasPrefix(path, "/.well-known/") {
					require.Equal(t, http.StatusNotFound, got.Status, path)
				}
				require.NotContains(t, got.Header.Get("WWW-Authenticate"), "resource_metadata", path)
			}
			require.Equal(t, http.StatusNotFound, get(t, http.MethodPost, "/register", nil).Status)
		}
	})
	t.Run("every method is answered with the challenge, the tenth time too", func(t *testing.T) {
		for _, path := range []string{"/sign-in/mcp", "/sign-in/mcp/", "/sign-in/servers/calculator/mcp", "/sign-in/servers/there-is-none/mcp"} {
			for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch} {
				for range 3 {
					got := get(t, method, path, http.Header{"User-Agent": {"Claude-User/1.0"}})
					require.Equal(t, http.StatusUnauthorized, got.Status, "%s %s: %s", method, path, got.Body)
					wantChallenge(t, b, b.Door.URL+path, got.Header, false)
				}
			}
		}
	})
	t.Run("pages of other origins may use what applications in a browser need", func(t *testing.T) {
		origin := http.Header{"Origin": {"https://inspector.example.com"}}
		preflight := http.Header{
			"Origin": origin["Origin"], "Access-Control-Request-Method": {"POST"},
			"Access-Control-Request-Headers": {"authorization,content-type,mcp-protocol-version"},
		}
		for path, method := range map[string]string{
			"/.well-known/oauth-protected-resource/sign-in/mcp": http.MethodGet, "/.well-known/oauth-authorization-server/sign-in": http.MethodGet,
			"/sign-in/register": http.MethodPost, "/sign-in/token": http.MethodPost, "/sign-in/revoke": http.MethodPost,
		} {
			asked := get(t, http.MethodOptions, path, preflight)
			require.Less(t, asked.Status, 300, path)
			require.Equal(t, "*", asked.Header.Get("Access-Control-Allow-Origin"), path)
			require.Empty(t, asked.Header.Get("Access-Control-Allow-Credentials"))
			require.Equal(t, "*", get(t, method, path, origin).Header.Get("Access-Control-Allow-Origin"), path)
		}
		for _, path := range []string{"/sign-in/authorize", "/sign-in/consent", "/sign-in/callback", "/sign-in/login"} {
			for _, method := range []string{http.MethodOptions, http.MethodGet, http.MethodPost} {
				require.Empty(t, get(t, method, path, preflight).Header.Get("Access-Control-Allow-Origin"), "%s %s", method, path)
			}
		}
	})
	t.Run("old applications find the endpoints at the host", func(t *testing.T) {
		moved := get(t, http.MethodGet, "/authorize?"+app.Begin(nil).Query.Encode(), nil)
		require.Equal(t, http.StatusFound, moved.Status)
		require.True(t, strings.HasPrefix(moved.Header.Get("Location"), b.Door.URL+"/sign-in/authorize?"), moved.Header.Get("Location"))
		s := b.SignIn(t, bed.Alice, app, bed.Engineering)
		got, err := app.Post(b.Door.URL+"/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {s.RefreshToken}})
		require.NoError(t, err)
		require.NoError(t, got.Tokens())
	})
	t.Run("whoever is in, and opens a stream where there is none, is told so at once", func(t *testing.T) {
		s := b.SignIn(t, bed.Alice, app, bed.Engineering)
		got, err := app.Do(bed.Request{Method: http.MethodGet, URL: app.Resource, Token: s.AccessToken, Header: http.Header{"Accept": {"application/json"}}})
		require.NoError(t, err)
		require.NotEqual(t, http.StatusUnauthorized, got.Status)
		require.NotEqual(t, http.StatusNotFound, got.Status)
		require.GreaterOrEqual(t, got.Status, 400)
	})
}

// TestWithoutTheBlockThereIsNoSignIn: the gateway of yesterday.
func TestWithoutTheBlockThereIsNoSignIn(t *testing.T) {
	t.Parallel()
	h := harness.New(t)
	gateway := h.StartGateway(harness.GatewayOptions{})
	for _, path := range []string{
		"/sign-in/mcp", "/sign-in/servers/calculator/mcp", "/sign-in/authorize", "/sign-in/token", "/token", "/authorize",
		"/.well-known/oauth-protected-resource/sign-in/mcp", "/.well-known/oauth-authorization-server/sign-in", "/sign-in/.well-known/openid-configuration",
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			got := h.Do(method, gateway.URL+path, "", nil, "")
			require.Equal(t, http.StatusNotFound, got.Status, "%s %s: %s", method, path, got.Body)
			require.Contains(t, got.Body, "There is no sign-in at this gateway", path)
		}
	}
}
