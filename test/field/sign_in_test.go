package field

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/bootstrap/policies"
	"vault-plugin-secrets-mcp/test/harness"
)

// The login of machines in the company, and whom they act as.
const (
	jobs      = "jobs"
	jobsMount = "jwt-jobs"
	jobIssuer = "https://ci.corp.test"
	robot     = "robot"
)

// signInBlock is the gateways' block. Its settings for people are used by the pages alone:
// nobody logs in here with a browser.
func signInBlock() string {
	login := ""
	for _, name := range []string{"employees", "contractors"} {
		login += fmt.Sprintf("  login %q {\n    mount = \"oidc-mcp\"\n    role  = \"mcp\"\n  }\n", name)
	}
	return fmt.Sprintf(`
sign_in {
%s  machine %q {
    mount  = %q
    role   = "mcp"
    issuer = %q
  }
  application "editor" {
    name          = "Editor"
    redirect_uris = ["http://localhost/callback"]
  }
}
`, login, jobs, jobsMount, jobIssuer)
}

// signIn sets the login of machines up in Vault, and returns the key of their issuer.
func (c *company) signIn(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	require.NoError(t, err)
	c.Write("sys/auth/"+jobsMount, harness.Map{"type": "jwt"})
	c.Write("auth/"+jobsMount+"/config", harness.Map{
		"jwt_validation_pubkeys": string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), "bound_issuer": jobIssuer,
	})
	c.Write("auth/"+jobsMount+"/role/mcp", harness.Map{
		"role_type": "jwt", "user_claim": "sub", "bound_audiences": atNginx + "/sign-in", "token_ttl": "1h",
		"token_policies": policies.PersonName + "," + policies.PersonClientName(robot),
	})
	mounts, err := c.Vault.Client().Sys().ListAuthWithContext(t.Context())
	require.NoError(t, err)
	c.Write("mcp/config", harness.Map{"sign_in_logins": harness.Map{jobs: mounts[jobsMount+"/"].Accessor}})
	c.CreateClient(robot, harness.Map{"allowed_servers": "everything", "sign_in": true})
	c.Write("sys/policies/acl/"+policies.PersonName, harness.Map{"policy": policies.Person})
	c.Write("sys/policies/acl/"+policies.PersonClientName(robot), harness.Map{"policy": policies.PersonClient(robot)})
	return key
}

// job is the assertion of a job.
func (c *company) job(t *testing.T, key *ecdsa.PrivateKey, name string) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, (&jose.SignerOptions{}).WithType("JWT"))
	require.NoError(t, err)
	text, err := jwt.Signed(signer).Claims(harness.Map{
		"iss": jobIssuer, "sub": name, "aud": atNginx + "/sign-in", "iat": time.Now().Unix(), "exp": time.Now().Add(5 * time.Minute).Unix(),
	}).Serialize()
	require.NoError(t, err)
	c.Secret(text)
	return text
}

// signsIn has a job sign in behind one of the proxies, at whichever gateway each request
// arrives, and all URLs in answers begin with the public one.
func signsIn(edge string) func(*testing.T, *company) {
	return func(t *testing.T, c *company) {
		t.Helper()
		proxy, err := url.Parse(edge)
		require.NoError(t, err)
		name := proxy.Hostname()
		target := "/sign-in" + one("everything").path

		document := func(path string, into any) {
			got := c.Do(http.MethodGet, edge+path, "", nil, "")
			require.Equal(t, http.StatusOK, got.Status, got.Body)
			c.saysPublicURLs(t, got.Header, got.Body)
			require.NoError(t, json.Unmarshal([]byte(got.Body), into))
		}
		var resource struct {
			Resource string   `json:"resource"`
			Servers  []string `json:"authorization_servers"`
		}
		document("/.well-known/oauth-protected-resource"+target, &resource)
		require.Equal(t, atNginx+target, resource.Resource)
		require.Equal(t, []string{atNginx + "/sign-in"}, resource.Servers)
		var server struct{ Issuer string }
		document("/.well-known/oauth-authorization-server/sign-in", &server)
		require.Equal(t, atNginx+"/sign-in", server.Issuer)

		refused := c.Do(http.MethodPost, edge+target, "", nil, "{}")
		require.Equal(t, http.StatusUnauthorized, refused.Status, refused.Body)
		challenges := refused.Header.Values("WWW-Authenticate")
		require.Len(t, challenges, 1)
		require.Contains(t, challenges[0], `resource_metadata="`+atNginx+"/.well-known/oauth-protected-resource"+target+`"`)
		c.saysPublicURLs(t, refused.Header, refused.Body)

		page := c.Do(http.MethodGet, edge+"/sign-in/authorize?"+url.Values{
			"client_id": {"editor"}, "redirect_uri": {"http://localhost:4321/callback"}, "response_type": {"code"}, "state": {"x"},
			"code_challenge": {strings.Repeat("x", 43)}, "code_challenge_method": {"S256"}, "resource": {atNginx + target},
		}.Encode(), "", nil, "")
		require.Equal(t, http.StatusOK, page.Status, page.Body)
		require.Contains(t, page.Body, `action="`+atNginx+`/sign-in/login"`)
		c.saysPublicURLs(t, page.Header, page.Body)

		got := c.Do(http.MethodPost, edge+"/sign-in/token", "", http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, url.Values{
			"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "assertion": {c.job(t, c.jobKey, "job-"+name)}, "resource": {atNginx + target},
		}.Encode())
		require.Equal(t, http.StatusOK, got.Status, got.Body)
		var answer struct {
			Token string `json:"access_token"`
		}
		require.NoError(t, json.Unmarshal([]byte(got.Body), &answer))
		c.Secret(answer.Token)
		s := c.open(t, edge+target, answer.Token)
		s.says(t, echo)
		stream := s.streams(t, long)

		found := c.Write("mcp/lookup", harness.Map{"token": answer.Token})
		require.Equal(t, "job-"+name, found["person"])
		c.Write("auth/token/revoke-accessor", harness.Map{"accessor": found["sign_in"]})
		stream.ends(t)
		c.refused(t, edge+target, answer.Token)
	}
}

// saysPublicURLs fails the test if anything of an answer names a URL that is not for those
// outside.
func (c *company) saysPublicURLs(t *testing.T, header http.Header, body string) {
	t.Helper()
	var all strings.Builder
	require.NoError(t, header.Write(&all))
	all.WriteString(body)
	for _, inner := range []string{"http://", ":8443", "gateway-", c.Machines["gateway-1"].Address, c.Machines["gateway-2"].Address} {
		require.NotContains(t, strings.ReplaceAll(all.String(), "http://localhost:4321", ""), inner)
	}
}
