package doctor

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/config"
)

// signInVault is a Vault in which people can sign in.
func signInVault() map[string]object {
	method := object{"type": "oidc", "accessor": "auth_oidc_1", "config": object{"token_type": "default-service"}}
	return map[string]object{
		"config":      {"sign_in_logins": object{"employees": "auth_oidc_1"}},
		"clients/":    {"keys": []any{"ops", "closed"}},
		"clients/ops": {"sign_in": true}, "clients/closed": {"sign_in": false},
		"/v1/sys/auth":                              {"oidc-mcp/": method, "jwt-ci/": object{"type": "jwt", "accessor": "auth_jwt_1", "config": object{}}},
		"/v1/sys/policies/acl/mcp-person-ops":       {"policy": `path "mcp/creds/ops" { capabilities = ["update"] required_parameters = ["resource", "application", "login"] }`},
		"/v1/auth/oidc-mcp/config":                  {"oidc_response_mode": "query"},
		"/v1/auth/oidc-mcp/role/":                   {"keys": []any{"mcp"}},
		"/v1/auth/oidc-mcp/oidc/auth_url":           {"auth_url": "https://idp.example.com/authorize"},
		"/v1/identity/group/name/":                  {"keys": []any{"mcp-employees-sre"}},
		"/v1/identity/group/name/mcp-employees-sre": {"policies": []any{"mcp-person-ops"}},
		"/v1/auth/oidc-mcp/role/mcp": {
			"allowed_redirect_uris": []any{"https://mcp.example.com/sign-in/callback"}, "token_policies": []any{"mcp-person"},
			"token_no_default_policy": true, "token_type": "service", "token_max_ttl": 12 * 60 * 60,
		},
	}
}

func TestWhatIsWrongWithSignInInVaultIsTold(t *testing.T) {
	const role, auth = "/v1/auth/oidc-mcp/role/mcp", "/v1/sys/auth"
	of := func(path, field string, value any) func(map[string]object) {
		return func(vault map[string]object) { vault[path][field] = value }
	}
	without := func(path string) func(map[string]object) {
		return func(vault map[string]object) { delete(vault, path) }
	}
	for name, test := range map[string]struct {
		change func(map[string]object)
		want   []string // none: nothing is wrong
	}{
		"nothing":                        {func(map[string]object) {}, nil},
		"a policy of administrators":     {of(role, "token_policies", []any{"mcp-person", "admins"}), []string{"gives the policy admins, which is not in person_policies (default, mcp-person*)"}},
		"Vault's default policy":         {of(role, "token_no_default_policy", false), nil},
		"no policy that keeps the token": {of(role, "token_policies", []any{"mcp-person-ops"}), []string{"gives neither mcp-person nor default"}},
		"batch tokens":                   {of(role, "token_type", "batch"), []string{"gives batch tokens", "token_type=service"}},
		"batch tokens of the method": {func(v map[string]object) {
			v[role]["token_type"] = "default"
			v[auth]["oidc-mcp/"].(object)["config"] = object{"token_type": "batch"}
		}, []string{"gives batch tokens"}},
		"periodic tokens":                {of(role, "token_period", 3600), []string{"gives periodic tokens"}},
		"tokens of few uses":             {of(role, "token_num_uses", 5), []string{"gives tokens of few uses"}},
		"a life that is shorter":         {of(role, "token_max_ttl", 3600), []string{"gives tokens that end after 1h0m0s, before session_max of the gateway (12h0m0s)"}},
		"an explicit life that is":       {of(role, "token_explicit_max_ttl", 3600), []string{"gives tokens that end after 1h0m0s"}},
		"a life that is longer":          {of(role, "token_max_ttl", 86400), []string{"may live for 24h0m0s, longer than session_max"}},
		"no bound to the life":           {of(role, "token_max_ttl", 0), []string{"has no token_max_ttl"}},
		"ID tokens in Vault's log":       {of(role, "verbose_oidc_logging", true), []string{"has verbose_oidc_logging"}},
		"a callback of the other side":   {of(role, "callback_mode", "direct"), []string{"has callback_mode=direct"}},
		"an unlisted redirect":           {of(role, "allowed_redirect_uris", []any{"https://mcp.example.com/sign-in/callback/"}), []string{"does not list the redirect https://mcp.example.com/sign-in/callback: no login begins"}},
		"an empty URL":                   {of("/v1/auth/oidc-mcp/oidc/auth_url", "auth_url", ""), []string{"with an empty URL"}},
		"an IdP that does not answer":    {without("/v1/auth/oidc-mcp/oidc/auth_url"), []string{"Vault cannot begin a login at oidc-mcp"}},
		"answers by form_post":           {of("/v1/auth/oidc-mcp/config", "oidc_response_mode", "form_post"), []string{"has oidc_response_mode=form_post"}},
		"a role that is missing":         {func(v map[string]object) { v[role] = nil }, []string{"the role mcp is missing at oidc-mcp"}},
		"a method that is missing":       {func(v map[string]object) { delete(v[auth], "oidc-mcp/") }, []string{"no auth method is at oidc-mcp", "has the accessor auth_oidc_1, which no auth method has"}},
		"a method of another type":       {func(v map[string]object) { v[auth]["oidc-mcp/"].(object)["type"] = "userpass" }, []string{"the auth method at oidc-mcp is of type userpass"}},
		"a login that the engine misses": {of("config", "sign_in_logins", nil), []string{"the engine does not know the login employees"}},
		"another accessor":               {of("config", "sign_in_logins", object{"employees": "auth_jwt_1"}), []string{"knows the login employees by another accessor"}},
		"a client that nobody acts as":   {of("/v1/identity/group/name/mcp-employees-sre", "policies", []any{}), []string{"no role of a login and no group that may be read gives the policy mcp-person-ops"}},
		"a client that has no policy": {of("/v1/sys/policies/acl/mcp-person-ops", "policy", ""), []string{
			"the ACL policy mcp-person-ops, by which people may act as it, is missing",
			`or write it: path "mcp/creds/ops" { capabilities = ["update"] required_parameters = ["resource", "application", "login"] }`,
		}},
		"a policy for all its tokens": {of("/v1/sys/policies/acl/mcp-person-ops", "policy", `path "mcp/creds/ops" { capabilities = ["update"] }`), []string{"tokens of the client ops that belong to no sign-in"}},
		"a policy for another path":   {of("/v1/sys/policies/acl/mcp-person-ops", "policy", `path "mcp/creds/other" {}`), []string{"has no rule for mcp/creds/ops"}},
		"a disabled client of nobody": {func(v map[string]object) {
			v["clients/ops"]["disabled"] = true
			v["/v1/identity/group/name/mcp-employees-sre"]["policies"] = []any{}
		}, nil},
		"a client that a role admits": {func(v map[string]object) {
			v[role]["token_policies"] = []any{"mcp-person", "mcp-person-ops"}
			delete(v, "/v1/identity/group/name/")
		}, nil},
		"a client that people cannot use": {func(v map[string]object) { v["clients/ops"]["sign_in"] = false }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			vault := signInVault()
			test.change(vault)
			e, out := newExamination(Options{GatewayConfig: "gateway.hcl"})
			e.vault, e.gateway = vaultOf(t, vault), &config.Config{SignIn: &config.SignIn{
				Origin: "https://mcp.example.com", SessionMax: 12 * time.Hour, PersonPolicies: []string{"default", "mcp-person*"},
				Logins: []config.SignInLogin{{Name: "employees", Mount: "oidc-mcp", Role: "mcp"}},
			}}
			e.checkSignIn(t.Context())
			require.Equal(t, len(test.want) > 0, e.findings > 0, out.String())
			for _, want := range test.want {
				require.Contains(t, out.String(), want)
			}
			if test.want == nil {
				require.Contains(t, out.String(), "ok    people can sign in")
			}
		})
	}
}

func TestSignInIsLookedAtWithoutTheGatewaysFile(t *testing.T) {
	vault := signInVault()
	vault["/v1/auth/oidc-mcp/role/mcp"]["token_type"] = "batch"
	e, out := newExamination(Options{})
	e.vault = vaultOf(t, vault)
	e.checkSignIn(t.Context())
	require.Equal(t, 1, e.findings, out.String())
	require.Contains(t, out.String(), "gives batch tokens")

	e, out = newExamination(Options{})
	e.vault = vaultOf(t, map[string]object{"config": {}, "clients/": {"keys": []any{}}})
	e.checkSignIn(t.Context())
	require.Empty(t, out.String(), "nothing is said where there is no sign-in")
}

// gatewayOf is a gateway whose sign-in is whole, with changes to its answers.
func gatewayOf(t *testing.T, change func(base, path string, w http.ResponseWriter) (done bool)) *httptest.Server {
	t.Helper()
	var server *httptest.Server
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		base := server.URL
		if change != nil && change(base, r.URL.Path, w) {
			return
		}
		switch r.URL.Path {
		case signInPath:
			w.Header().Set("WWW-Authenticate", fmt.Sprintf("Bearer realm=\"mcp\", resource_metadata=%q, scope=\"mcp\"", base+resourcePath))
			w.WriteHeader(http.StatusUnauthorized)
		case resourcePath:
			fmt.Fprintf(w, `{"resource": "%s/sign-in/mcp", "authorization_servers": ["%s/sign-in"]}`, base, base)
		case serverPath:
			fmt.Fprintf(w, `{"issuer": "%[1]s", "authorization_endpoint": "%[1]s/authorize", "token_endpoint": "%[1]s/token", "code_challenge_methods_supported": ["S256"]}`, base+issuerPath)
		case "/sign-in/register":
			w.WriteHeader(http.StatusCreated)
			fmt.Fprint(w, `{"client_id": "dynamic.1"}`)
		case "/sign-in/authorize":
			http.SetCookie(w, &http.Cookie{Name: "mcp-sign-in-abc", Value: "x", Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
			http.Redirect(w, r, "https://idp.example.com/authorize", http.StatusFound)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(server.Close)
	return server
}

func TestSignInIsLookedAtFromOutside(t *testing.T) {
	at := func(path string, answer func(base string, w http.ResponseWriter)) func(string, string, http.ResponseWriter) bool {
		return func(base, asked string, w http.ResponseWriter) bool {
			if asked != path {
				return false
			}
			answer(base, w)
			return true
		}
	}
	says := func(path, body string) func(string, string, http.ResponseWriter) bool {
		return at(path, func(base string, w http.ResponseWriter) {
			_, _ = w.Write([]byte(strings.ReplaceAll(body, "BASE", base)))
		})
	}
	cookie := func(c http.Cookie) func(string, string, http.ResponseWriter) bool {
		return at("/sign-in/authorize", func(_ string, w http.ResponseWriter) {
			c.Name, c.Value = "mcp-sign-in-abc", "x"
			http.SetCookie(w, &c)
			w.WriteHeader(http.StatusFound)
		})
	}
	for name, test := range map[string]struct {
		change func(base, path string, w http.ResponseWriter) bool
		want   string // "": nothing is wrong
	}{
		"as it is to be":            {nil, ""},
		"no sign-in at the gateway": {at(signInPath, func(_ string, w http.ResponseWriter) { w.WriteHeader(http.StatusNotFound) }), "answers 404 to a request without a token, and not 401"},
		"a challenge that is gone":  {at(signInPath, func(_ string, w http.ResponseWriter) { w.WriteHeader(http.StatusUnauthorized) }), "with 0 headers WWW-Authenticate"},
		"two challenges": {at(signInPath, func(_ string, w http.ResponseWriter) {
			w.Header()["Www-Authenticate"] = []string{"Bearer", "Bearer"}
			w.WriteHeader(http.StatusUnauthorized)
		}), "with 2 headers WWW-Authenticate"},
		"a challenge of an inner host": {at(signInPath, func(_ string, w http.ResponseWriter) {
			w.Header().Set("WWW-Authenticate", `Bearer resource_metadata="http://10.0.0.1/x"`)
			w.WriteHeader(http.StatusUnauthorized)
		}), "does not have resource_metadata="},
		"a resource of an inner host":   {says(resourcePath, `{"resource": "http://10.0.0.1/sign-in/mcp", "authorization_servers": ["BASE/sign-in"]}`), `names the resource "http://10.0.0.1/sign-in/mcp"`},
		"another authorization server":  {says(resourcePath, `{"resource": "BASE/sign-in/mcp", "authorization_servers": ["BASE/"]}`), "names the authorization servers"},
		"a page for a document":         {says(serverPath, `<!doctype html>`), "does not answer in JSON"},
		"a document that is gone":       {at(serverPath, func(_ string, w http.ResponseWriter) { w.WriteHeader(http.StatusBadGateway) }), "answers 502, and not 200"},
		"another issuer":                {says(serverPath, `{"issuer": "BASE/sign-in/", "code_challenge_methods_supported": ["S256"]}`), "names the issuer"},
		"an endpoint of an inner host":  {says(serverPath, `{"issuer": "BASE/sign-in", "token_endpoint": "http://10.0.0.1/token", "code_challenge_methods_supported": ["S256"]}`), "which is not under"},
		"a document without PKCE":       {says(serverPath, `{"issuer": "BASE/sign-in"}`), "does not name S256"},
		"metadata on the header's path": {says(headerResource, `{}`), "drop it there and try to sign in"},
		"a sign-in that does not begin": {at("/sign-in/authorize", func(_ string, w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) }), "no sign-in begins as the application tool: the gateway answers 503"},
		"a page that says why": {at("/sign-in/authorize", func(_ string, w http.ResponseWriter) {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprint(w, "<h1>Not set &amp; up</h1>")
		}), `the gateway answers 503, "Not set & up"`},
		"a cookie that is gone":     {at("/sign-in/authorize", func(_ string, w http.ResponseWriter) { w.WriteHeader(http.StatusFound) }), "begins without its cookie"},
		"a cookie with a domain":    {cookie(http.Cookie{Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode, Domain: "example.com"}), "has a Domain"},
		"a cookie of another path":  {cookie(http.Cookie{Path: "/x", HttpOnly: true, SameSite: http.SameSiteLaxMode}), "has another Path"},
		"a cookie for scripts":      {cookie(http.Cookie{Path: "/", SameSite: http.SameSiteLaxMode}), "is not HttpOnly"},
		"a cookie of no other site": {cookie(http.Cookie{Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode}), "is not SameSite=Lax"},
	} {
		t.Run(name, func(t *testing.T) {
			server := gatewayOf(t, test.change)
			e, out := newExamination(Options{GatewayURL: server.URL})
			e.gateway = &config.Config{SignIn: &config.SignIn{
				Origin: server.URL, Logins: []config.SignInLogin{{Name: "employees"}},
				Applications: []config.SignInApplication{{ID: "machine"}, {ID: "tool", RedirectURIs: []string{"http://127.0.0.1/callback"}}},
			}}
			e.checkSignInOutside(t.Context())
			if test.want == "" {
				require.Zero(t, e.findings, out.String())
				require.Contains(t, out.String(), "ok    applications find sign-in")
				return
			}
			require.Equal(t, 1, e.findings, out.String())
			require.Contains(t, out.String(), test.want)
		})
	}
}

func TestASignInIsBegunAsAnApplicationThatRegistersItself(t *testing.T) {
	for name, test := range map[string]struct {
		change func(base, path string, w http.ResponseWriter) bool
		want   string
	}{
		"that may": {nil, "ok    applications find sign-in"},
		"that cannot": {func(_, path string, w http.ResponseWriter) bool {
			if path != "/sign-in/register" {
				return false
			}
			w.WriteHeader(http.StatusForbidden)
			return true
		}, "no application can register itself"},
		"that is sent back": {func(_, path string, w http.ResponseWriter) bool {
			if path != "/sign-in/authorize" {
				return false
			}
			w.Header().Set("Location", "http://127.0.0.1/callback?error=server_error")
			w.WriteHeader(http.StatusFound)
			return true
		}, "the gateway answers the error server_error"},
	} {
		t.Run(name, func(t *testing.T) {
			server := gatewayOf(t, test.change)
			e, out := newExamination(Options{GatewayURL: server.URL})
			e.gateway = &config.Config{SignIn: &config.SignIn{Origin: server.URL, DynamicRegistration: true, Logins: []config.SignInLogin{{Name: "employees"}}}}
			e.checkSignInOutside(t.Context())
			require.Contains(t, out.String(), test.want)
		})
	}
}

func TestACookieOfHTTPSIsSecure(t *testing.T) {
	good := &http.Cookie{Name: "__Host-mcp-sign-in-abc", Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode}
	require.Empty(t, cookieFault(good, true))
	for name, change := range map[string]func(*http.Cookie){
		"a name without a prefix": func(c *http.Cookie) { c.Name = "mcp-sign-in-abc" },
		"not Secure":              func(c *http.Cookie) { c.Secure = false },
	} {
		t.Run(name, func(t *testing.T) {
			bad := *good
			change(&bad)
			require.Contains(t, cookieFault(&bad, true), "is not Secure")
		})
	}
}

func TestNoSignInIsLookedForWhereAGatewayHasNone(t *testing.T) {
	server := gatewayOf(t, func(_, _ string, w http.ResponseWriter) bool { w.WriteHeader(http.StatusNotFound); return true })
	e, out := newExamination(Options{GatewayURL: server.URL})
	e.checkSignInOutside(t.Context())
	require.Empty(t, out.String())
	require.Zero(t, e.findings)

	e, out = newExamination(Options{GatewayURL: gatewayOf(t, nil).URL})
	e.checkSignInOutside(t.Context())
	require.Contains(t, out.String(), "ok    applications find sign-in")
}

func TestACertificateThatEndsSoonIsTold(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	state, err := server.Client().Get(server.URL)
	require.NoError(t, err)
	require.NoError(t, state.Body.Close())
	e, out := newExamination(Options{})
	e.checkCertificate("https://mcp.example.com", state.TLS)
	require.Zero(t, e.findings, out.String())
	state.TLS.PeerCertificates[0].NotAfter = time.Now().Add(time.Hour)
	e.checkCertificate("https://mcp.example.com", state.TLS)
	require.Equal(t, 1, e.findings)
	require.Contains(t, out.String(), "the certificate of https://mcp.example.com ends in 1h0m0s")
}
