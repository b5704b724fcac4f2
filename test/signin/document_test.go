package signin

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/signin/bed"
)

// vendor is the website of an application's vendor: it has metadata documents.
type vendor struct {
	*httptest.Server
	key  *ecdsa.PrivateKey
	down atomic.Bool
	hits atomic.Int64
}

// newVendor starts it, and returns the file with the authority of its certificate.
func newVendor(t *testing.T) (v *vendor, authority string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	v = &vendor{key: key}
	mux := http.NewServeMux()
	serve := func(path string, document func() any) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			if v.hits.Add(1); v.down.Load() {
				http.Error(w, "<h1>Forbidden</h1>", http.StatusForbidden)
				return
			}
			writeJSON(w, document())
		})
	}
	// As Claude's, a public client, and as ChatGPT's, which signs.
	serve("/oauth/claude.json", func() any {
		return harness.Map{
			"client_id": v.URL + "/oauth/claude.json", "client_name": "Claude of a vendor", "redirect_uris": []string{"https://claude.ai/api/mcp/auth_callback"},
			"grant_types": []string{"authorization_code", "refresh_token"}, "response_types": []string{"code"}, "token_endpoint_auth_method": "none",
		}
	})
	serve("/oauth/chatgpt.json", func() any {
		return harness.Map{
			"client_id": v.URL + "/oauth/chatgpt.json", "client_name": "ChatGPT of a vendor", "redirect_uris": []string{"https://chatgpt.com/connector/oauth/abc"},
			"token_endpoint_auth_method": "private_key_jwt", "jwks_uri": v.URL + "/oauth/jwks.json", "token_endpoint_auth_signing_alg": "ES256",
		}
	})
	serve("/oauth/jwks.json", func() any {
		return jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: v.key.Public(), KeyID: "1", Algorithm: "ES256", Use: "sig"}}}
	})
	serve("/oauth/other.json", func() any {
		return harness.Map{"client_id": v.URL + "/oauth/claude.json", "redirect_uris": []string{"https://evil.example.com/callback"}}
	})
	serve("/elsewhere/claude.json", func() any {
		return harness.Map{"client_id": v.URL + "/elsewhere/claude.json", "redirect_uris": []string{"https://evil.example.com/callback"}, "token_endpoint_auth_method": "none"}
	})
	mux.Handle("GET /oauth/moved.json", http.RedirectHandler("/oauth/claude.json", http.StatusFound))
	signer := harness.NewAuthority(t)
	v.Server = httptest.NewUnstartedServer(mux)
	v.TLS = &tls.Config{Certificates: []tls.Certificate{signer.Pair(t)}, MinVersion: tls.VersionTLS12}
	v.StartTLS()
	t.Cleanup(v.Close)
	authority = filepath.Join(t.TempDir(), "authority.pem")
	require.NoError(t, os.WriteFile(authority, signer.PEM, 0o600))
	return v, authority
}

// assertion is the JWT that an application signs to authenticate (RFC 7523 §2.2).
func (v *vendor) assertion(t *testing.T, b *bed.Bed, key *ecdsa.PrivateKey, client, audience string) url.Values {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "1"}}, nil)
	require.NoError(t, err)
	now := time.Now()
	text, err := jwt.Signed(signer).Claims(jwt.Claims{
		Issuer: client, Subject: client, Audience: jwt.Audience{audience}, ID: rand.Text(),
		IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(time.Minute)),
	}).Serialize()
	require.NoError(t, err)
	b.Secret(text)
	return url.Values{"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}, "client_assertion": {text}}
}

// TestApplicationsByTheirVendorsDocuments sign people in, the public and the signing one.
func TestApplicationsByTheirVendorsDocuments(t *testing.T) {
	t.Parallel()
	v, authority := newVendor(t)
	b := bed.New(t, bed.Options{SignIn: `metadata_documents = ["` + v.URL + `/oauth/"]` + "\n", Env: []string{"SSL_CERT_FILE=" + authority}})
	application := func(t *testing.T, id, redirect string) *bed.Application {
		t.Helper()
		app := b.In(t).Application(v.URL+id, b.ServerURL(bed.Calculator))
		app.Redirect = redirect
		return app
	}
	const claude, chatGPT = "https://claude.ai/api/mcp/auth_callback", "https://chatgpt.com/connector/oauth/abc"
	t.Run("one that is public, as Claude", func(t *testing.T) {
		app := application(t, "/oauth/claude.json", claude)
		require.True(t, app.Server.Documents, "applications learn that they may use theirs")
		try := app.Begin(nil)
		consent := b.In(t).Browser(bed.Alice).Open(try.URL())
		require.Contains(t, consent.Text(), "Claude of a vendor")
		require.Contains(t, consent.Text(), "127.0.0.1", "the host that vouches")
		require.Contains(t, consent.Text(), "claude.ai", "the host that gets the answer")
		code, err := try.Code(bed.Approve(consent, bed.Engineering))
		require.NoError(t, err)
		got := try.Redeem(code, nil)
		require.NoError(t, got.Tokens())
		again, err := app.Refresh(got.RefreshToken, nil)
		require.NoError(t, err)
		require.NoError(t, again.Tokens())
		require.Equal(t, app.ID, introspect(t, b, again.AccessToken)["application"])
	})
	t.Run("one that signs, as ChatGPT", func(t *testing.T) {
		app := application(t, "/oauth/chatgpt.json", chatGPT)
		try := app.Begin(nil)
		code, err := try.Code(bed.Approve(b.In(t).Browser(bed.Alice).Open(try.URL()), bed.Engineering))
		require.NoError(t, err)
		other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(t, err)
		for name, more := range map[string]url.Values{
			"without an assertion":     {},
			"with somebody else's key": v.assertion(t, b, other, app.ID, app.Server.TokenEndpoint),
			"for somebody else":        v.assertion(t, b, v.key, app.ID, "https://mcp.example.com/token"),
		} {
			got := try.Redeem(code, more)
			require.Equal(t, http.StatusUnauthorized, got.Status, "%s: %s", name, got.Body)
			require.Equal(t, "invalid_client", got.Error, name)
		}
		got := try.Redeem(code, v.assertion(t, b, v.key, v.URL+"/oauth/claude.json", app.Server.TokenEndpoint))
		require.Equal(t, "invalid_request", got.Error, "it signs as one application, and says that it is another: %s", got.Body)
		signed := v.assertion(t, b, v.key, app.ID, app.Server.TokenEndpoint)
		got = try.Redeem(code, signed)
		require.NoError(t, got.Tokens())
		again, err := app.Refresh(got.RefreshToken, signed)
		require.NoError(t, err)
		require.Equal(t, http.StatusUnauthorized, again.Status, "an assertion counts once: %s", again.Body)
		again, err = app.Refresh(got.RefreshToken, v.assertion(t, b, v.key, app.ID, app.Server.Issuer))
		require.NoError(t, err)
		require.NoError(t, again.Tokens())
	})
	t.Run("what does not count as a document", func(t *testing.T) {
		for name, id := range map[string]string{
			"of another application": "/oauth/other.json",
			"outside the prefix":     "/elsewhere/claude.json",
			"out of the prefix":      "/oauth/../elsewhere/claude.json",
			"that is elsewhere":      "/oauth/moved.json",
			"that is not there":      "/oauth/none.json",
			"with a query":           "/oauth/claude.json?x=1",
			"with a fragment":        "/oauth/claude.json#x",
		} {
			t.Run(name, func(t *testing.T) {
				page := b.In(t).Browser(bed.Alice).Open(application(t, id, "https://evil.example.com/callback").Begin(nil).URL())
				require.GreaterOrEqual(t, page.Status, 400, "the browser is at %s", page.URL)
				page = b.In(t).Browser(bed.Alice).Open(application(t, id, claude).Begin(nil).URL())
				require.GreaterOrEqual(t, page.Status, 400, "the browser is at %s", page.URL)
			})
		}
	})
	t.Run("its last good copy outlives the vendor's errors", func(t *testing.T) {
		v.down.Store(true)
		defer v.down.Store(false)
		b.SignIn(t, bed.Alice, application(t, "/oauth/claude.json", claude), bed.Engineering).Works(t)
	})
	t.Run("and it is fetched now and then, not for each request", func(t *testing.T) {
		before := v.hits.Load()
		for range 3 {
			b.SignIn(t, bed.Alice, application(t, "/oauth/claude.json", claude), bed.Engineering)
		}
		require.LessOrEqual(t, v.hits.Load()-before, int64(1))
	})
}
