package signin

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/modelcontextprotocol/go-sdk/auth/extauth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"

	"vault-plugin-secrets-mcp/bootstrap/policies"
	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/signin/bed"
)

// jwtBearer is the grant of machines (RFC 7523 §2.1).
const jwtBearer = "urn:ietf:params:oauth:grant-type:jwt-bearer"

// idJAG is the type of an ID-JAG.
const idJAG = "oauth-id-jag+jwt"

// issuer signs assertions.
type issuer struct {
	url string
	key *ecdsa.PrivateKey
}

func newIssuer(t *testing.T, name string) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return &issuer{name, key}
}

// public is its public key in PEM.
func (i *issuer) public(t *testing.T) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(i.key.Public())
	require.NoError(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// sign signs claims as a JWT of that type; a claim that is nil is left out.
func (i *issuer) sign(t *testing.T, b *bed.Bed, kind string, claims harness.Map) string {
	t.Helper()
	now := time.Now()
	all := harness.Map{
		"iss": i.url, "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(), "jti": rand.Text(),
	}
	for name, value := range claims {
		if all[name] = value; value == nil {
			delete(all, name)
		}
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: i.key}, (&jose.SignerOptions{}).WithType(jose.ContentType(kind)))
	require.NoError(t, err)
	text, err := jwt.Signed(signer).Claims(all).Serialize()
	require.NoError(t, err)
	b.Secret(text)
	return text
}

// The identity of machines, and the names of the ways in which they log in.
const (
	robots     = "robots"
	ci         = "ci"
	deployment = "deployment" // as ci, and an assertion counts once
	enterprise = "enterprise"
)

// agent is an application that has a secret: an ID-JAG counts for nobody else.
const (
	agent       = "agent"
	agentSecret = "the-secret-of-the-agent-in-the-file"
)

// machines is a bed with three issuers.
type machines struct {
	*bed.Bed
	ci, deployment, enterprise *issuer
}

func newMachines(t *testing.T) *machines {
	t.Helper()
	m := &machines{
		ci:         newIssuer(t, "https://token.actions.example.com"),
		deployment: newIssuer(t, "https://deploy.example.com"),
		enterprise: newIssuer(t, "https://idp.example.com"),
	}
	file := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(file, []byte(agentSecret+"\n"), 0o600))
	m.Bed = bed.New(t, bed.Options{SignIn: fmt.Sprintf(`
application %q {
  name        = "Agent"
  secret_file = %q
}
machine %q {
  mount  = "jwt-ci"
  role   = "mcp"
  issuer = %q
}
machine %q {
  mount      = "jwt-deployment"
  role       = "mcp"
  issuer     = %q
  single_use = true
}
machine %q {
  mount   = "jwt-enterprise"
  role    = "mcp"
  issuer  = %q
  profile = "id-jag"
}
`, agent, file, ci, m.ci.url, deployment, m.deployment.url, enterprise, m.enterprise.url)})
	m.Secret(agentSecret)
	logins := harness.Map{bed.LoginName: m.Company.Accessor}
	for name, from := range map[string]*issuer{ci: m.ci, deployment: m.deployment, enterprise: m.enterprise} {
		mount := "jwt-" + name
		m.Write("sys/auth/"+mount, harness.Map{"type": "jwt"})
		m.Write("auth/"+mount+"/config", harness.Map{"jwt_validation_pubkeys": from.public(t), "bound_issuer": from.url})
		m.Write("auth/"+mount+"/role/mcp", harness.Map{
			"role_type": "jwt", "user_claim": "sub", "bound_audiences": m.Door.URL + "/sign-in",
			"token_policies": policies.PersonName + "," + policies.PersonClientName(robots), "token_ttl": "1h",
		})
		mounts, err := m.Vault.Client().Sys().ListAuthWithContext(t.Context())
		require.NoError(t, err)
		logins[name] = mounts[mount+"/"].Accessor
	}
	m.Write("mcp/config", harness.Map{"sign_in_logins": logins})
	m.CreateClient(robots, harness.Map{"allowed_servers": bed.Calculator, "sign_in": true})
	m.Write("sys/policies/acl/"+policies.PersonClientName(robots), harness.Map{"policy": policies.PersonClient(robots)})
	return m
}

// audience is whom assertions are for.
func (m *machines) audience() string { return m.Door.URL + "/sign-in" }

// present sends an assertion, with more parameters.
func (m *machines) present(t *testing.T, app *bed.Application, assertion string, more url.Values) *bed.Answer {
	t.Helper()
	form := url.Values{"grant_type": {jwtBearer}, "assertion": {assertion}, "resource": {app.Resource}}
	for name, values := range more {
		if form[name] = values; len(values) == 0 {
			delete(form, name)
		}
	}
	got, err := app.Post(app.Server.TokenEndpoint, form)
	require.NoError(t, err)
	return got
}

// wantAccess wants an access token alone, which works.
func wantAccess(t *testing.T, app *bed.Application, got *bed.Answer) {
	t.Helper()
	require.Equal(t, http.StatusOK, got.Status, got.Body)
	require.Empty(t, got.RefreshToken, "a machine has its own way to log in again")
	require.Equal(t, "Bearer", got.TokenType)
	require.Positive(t, got.ExpiresIn)
	require.LessOrEqual(t, got.ExpiresIn, 900)
	answer, err := app.Try(app.Resource, got.AccessToken)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, answer.Status, answer.Body)
}

// TestMachines log in with assertions of others, at real jwt mounts.
func TestMachines(t *testing.T) {
	t.Parallel()
	m := newMachines(t)
	app := m.Application(bed.Editor, m.ServerURL(bed.Calculator))
	job := harness.Map{"sub": "repo:example/app:ref:refs/heads/main", "aud": m.audience()}
	t.Run("a CI job's OIDC token", func(t *testing.T) {
		assertion := m.ci.sign(t, m.Bed, "JWT", job)
		got := m.present(t, app, assertion, nil)
		wantAccess(t, app, got)
		known := introspect(t, m.Bed, got.AccessToken)
		require.Equal(t, []any{robots, job["sub"], ci, app.Resource}, []any{known["client"], known["person"], known["login"], known["resource"]})
		line := awaitEvent(t, m.Bed, func(line harness.Map) bool { return line["event"] == "machine" && line["client"] == robots })
		require.Equal(t, job["sub"], line["person"], line)
		wantAccess(t, app, m.present(t, app, assertion, nil)) // while it is valid
		wantAccess(t, app, m.present(t, app, assertion, url.Values{"scope": {"client:" + robots}}))
	})
	t.Run("one that counts once", func(t *testing.T) {
		assertion := m.deployment.sign(t, m.Bed, "JWT", job)
		wantAccess(t, app, m.present(t, app, assertion, nil))
		got := m.present(t, app, assertion, nil)
		require.Equal(t, http.StatusBadRequest, got.Status, got.Body)
		require.Equal(t, "invalid_grant", got.Error)
		got = m.present(t, app, m.deployment.sign(t, m.Bed, "JWT", harness.Map{"sub": "x", "aud": m.audience(), "jti": nil}), nil)
		require.Equal(t, "invalid_grant", got.Error, got.Body)
	})
	confidential := m.Application(agent, app.Resource)
	confidential.Secret = agentSecret
	jag := func(changes harness.Map) harness.Map {
		claims := harness.Map{"sub": "alice", "aud": m.audience(), "client_id": agent, "resource": app.Resource, "scope": "mcp"}
		for name, value := range changes {
			claims[name] = value
		}
		return claims
	}
	t.Run("an ID-JAG of an enterprise", func(t *testing.T) {
		wantAccess(t, app, m.present(t, confidential, m.enterprise.sign(t, m.Bed, idJAG, jag(nil)), nil))
		wantAccess(t, app, m.present(t, confidential, m.enterprise.sign(t, m.Bed, idJAG, jag(nil)), url.Values{"resource": nil}))
	})
	for name, row := range map[string]struct {
		kind   string
		from   *issuer
		claims harness.Map
		more   url.Values
		app    *bed.Application
		err    string
	}{
		"an ID token in place of an ID-JAG":               {"JWT", m.enterprise, jag(harness.Map{"aud": agent}), nil, confidential, "invalid_grant"},
		"an ID-JAG of another type":                       {"JWT", m.enterprise, jag(nil), nil, confidential, "invalid_grant"},
		"an ID-JAG of another application":                {idJAG, m.enterprise, jag(harness.Map{"client_id": bed.Assistant}), nil, confidential, "invalid_grant"},
		"an ID-JAG of an application without a secret":    {idJAG, m.enterprise, jag(harness.Map{"client_id": app.ID}), nil, app, "unauthorized_client"},
		"an ID-JAG without an application":                {idJAG, m.enterprise, jag(harness.Map{"client_id": nil}), nil, confidential, "invalid_grant"},
		"an ID-JAG for another resource":                  {idJAG, m.enterprise, jag(harness.Map{"resource": m.AllURL()}), nil, confidential, "invalid_target"},
		"an ID-JAG for somebody else":                     {idJAG, m.enterprise, jag(harness.Map{"aud": "https://other.example.com"}), nil, confidential, "invalid_grant"},
		"a job's token for somebody else":                 {"JWT", m.ci, harness.Map{"sub": "x", "aud": "https://other.example.com"}, nil, app, "invalid_grant"},
		"a job's token that has expired":                  {"JWT", m.ci, harness.Map{"sub": "x", "aud": m.audience(), "exp": time.Now().Add(-10 * time.Minute).Unix()}, nil, app, "invalid_grant"},
		"a job's token without a subject":                 {"JWT", m.ci, harness.Map{"aud": m.audience()}, nil, app, "invalid_grant"},
		"a token of an issuer that nobody knows":          {"JWT", newIssuer(t, "https://evil.example.com"), job, nil, app, "invalid_grant"},
		"a token of somebody who claims to be the issuer": {"JWT", newIssuer(t, m.ci.url), job, nil, app, "invalid_grant"},
		"as an identity that it may not have":             {"JWT", m.ci, job, url.Values{"scope": {"client:" + bed.Engineering}}, app, "invalid_scope"},
		"as one that there is not":                        {"JWT", m.ci, job, url.Values{"scope": {"client:nobody"}}, app, "invalid_scope"},
		"for a resource of somebody else":                 {"JWT", m.ci, job, url.Values{"resource": {"https://mcp.example.com/mcp"}}, app, "invalid_target"},
	} {
		t.Run(name+" is refused", func(t *testing.T) {
			got := m.present(t, row.app, row.from.sign(t, m.Bed, row.kind, row.claims), row.more)
			require.Equal(t, http.StatusBadRequest, got.Status, got.Body)
			require.Equal(t, row.err, got.Error, got.Body)
		})
	}
	t.Run("an assertion that is altered, or none, is refused", func(t *testing.T) {
		assertion := m.ci.sign(t, m.Bed, "JWT", job)
		for text, reason := range map[string]string{alter(assertion, 50): "invalid_grant", "x": "invalid_grant", "": "invalid_request", "a.b.c": "invalid_grant"} {
			got := m.present(t, app, text, nil)
			require.Equal(t, http.StatusBadRequest, got.Status, got.Body)
			require.Equal(t, reason, got.Error, got.Body)
		}
	})
	t.Run("an administrator's assertion is refused", func(t *testing.T) {
		m.Write("sys/policies/acl/administrators", harness.Map{"policy": `path "sys/*" { capabilities = ["sudo", "read"] }`})
		m.Write("auth/jwt-ci/role/mcp", harness.Map{
			"role_type": "jwt", "user_claim": "sub", "bound_audiences": m.audience(),
			"token_policies": policies.PersonName + ",administrators," + policies.PersonClientName(robots),
		})
		got := m.present(t, app, m.ci.sign(t, m.Bed, "JWT", job), nil)
		require.Equal(t, http.StatusBadRequest, got.Status, got.Body)
		require.Empty(t, got.AccessToken)
	})
}

// TestTheSDKsEnterpriseHandlerSignsIn is the Go SDK's client of that profile, with an
// enterprise's IdP that exchanges an ID token for an ID-JAG.
func TestTheSDKsEnterpriseHandlerSignsIn(t *testing.T) {
	t.Parallel()
	m := newMachines(t)
	resource := m.ServerURL(bed.Calculator)
	mux := http.NewServeMux()
	idp := httptest.NewServer(mux)
	t.Cleanup(idp.Close)
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, harness.Map{
			"issuer": idp.URL, "token_endpoint": idp.URL + "/token", "authorization_endpoint": idp.URL + "/authorize", "jwks_uri": idp.URL + "/keys",
			"response_types_supported": []string{"code"}, "code_challenge_methods_supported": []string{"S256"},
			"grant_types_supported": []string{oauthex.GrantTypeTokenExchange},
		})
	})
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		if r.PostFormValue("subject_token") != "the-id-token-of-alice" {
			http.Error(w, "not of this IdP", http.StatusBadRequest)
			return
		}
		writeJSON(w, harness.Map{
			"access_token": m.enterprise.sign(t, m.Bed, idJAG, harness.Map{
				"sub": "alice", "aud": r.PostFormValue("audience"), "resource": r.PostFormValue("resource"), "client_id": agent,
			}),
			"issued_token_type": oauthex.TokenTypeIDJAG, "token_type": "N_A", "expires_in": 300,
		})
	})
	credentials := &oauthex.ClientCredentials{ClientID: agent, ClientSecretAuth: &oauthex.ClientSecretAuth{ClientSecret: agentSecret}}
	handler, err := extauth.NewEnterpriseHandler(&extauth.EnterpriseHandlerConfig{
		IdPIssuerURL: idp.URL, IdPCredentials: &oauthex.ClientCredentials{ClientID: "at-the-idp"},
		MCPAuthServerURL: m.audience(), MCPResourceURI: resource, MCPCredentials: credentials, MCPScopes: []string{"mcp"},
		IDTokenFetcher: func(context.Context) (*oauth2.Token, error) {
			return (&oauth2.Token{}).WithExtra(map[string]any{"id_token": "the-id-token-of-alice"}), nil
		},
	})
	require.NoError(t, err)
	client := mcp.NewClient(&mcp.Implementation{Name: "agent", Version: "1"}, nil)
	session, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: resource, OAuthHandler: handler, MaxRetries: -1}, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = session.Close() })
	got, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "add", Arguments: harness.Map{"a": 40, "b": 2}})
	require.NoError(t, err)
	require.False(t, got.IsError)
	awaitEvent(t, m.Bed, func(line harness.Map) bool {
		return line["event"] == "machine" && line["person"] == "alice" && line["login"] == enterprise
	})
}

func writeJSON(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(value)
}
