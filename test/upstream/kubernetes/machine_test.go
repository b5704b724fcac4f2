package kubernetes

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/bootstrap/policies"
	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/signin/bed"
	upstream "vault-plugin-secrets-mcp/test/upstream/bed"
)

const robots = "robots" // the identity of service accounts

// runner is a service account that may sign in.
var runner = Account{Namespace: "agents", Name: "runner", UID: "runner-uid", Pod: "runner-0"}

// cluster is a bed with a cluster whose service accounts sign in.
type cluster struct {
	*bed.Bed
	api *APIServer
	app *bed.Application
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{api: NewAPIServer(t)}
	c.Bed = bed.New(t, bed.Options{SignIn: fmt.Sprintf(`
machine "cluster" {
  method = "kubernetes"
  mount  = "kubernetes-mcp"
  role   = "mcp"
  issuer = %q
}
`, Issuer)})
	reviewer := c.api.Reviewer()
	c.Secret(reviewer)
	c.Write("sys/auth/kubernetes-mcp", harness.Map{"type": "kubernetes"})
	c.Write("auth/kubernetes-mcp/config", harness.Map{
		"kubernetes_host": c.api.URL, "kubernetes_ca_cert": c.api.CA(), "token_reviewer_jwt": reviewer, "disable_local_ca_jwt": true,
	})
	c.Write("auth/kubernetes-mcp/role/mcp", harness.Map{
		"bound_service_account_names": "runner", "bound_service_account_namespaces": "agents",
		"audience": c.audience(), "alias_name_source": "serviceaccount_name",
		"token_policies": policies.PersonName + "," + policies.PersonClientName(robots), "token_ttl": "1h",
	})
	mounts, err := c.Vault.Client().Sys().ListAuthWithContext(t.Context())
	require.NoError(t, err)
	c.Write("mcp/config", harness.Map{"sign_in_logins": harness.Map{
		bed.LoginName: c.Company.Accessor, "cluster": mounts["kubernetes-mcp/"].Accessor,
	}})
	c.CreateClient(robots, harness.Map{"allowed_servers": bed.Calculator, "sign_in": true})
	c.Write("sys/policies/acl/"+policies.PersonClientName(robots), harness.Map{"policy": policies.PersonClient(robots)})
	c.app = c.Application(bed.Editor, c.ServerURL(bed.Calculator))
	return c
}

func (c *cluster) audience() string { return c.Door.URL + "/sign-in" }

// present sends a token of a service account, which is no OAuth client.
func (c *cluster) present(t *testing.T, token string) *bed.Answer {
	t.Helper()
	c.Secret(token)
	response, err := http.PostForm(c.app.Server.TokenEndpoint, url.Values{
		"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "assertion": {token}, "resource": {c.app.Resource},
	})
	require.NoError(t, err)
	defer response.Body.Close()
	return readAnswer(t, response)
}

func TestServiceAccountsSignIn(t *testing.T) {
	upstream.Required(t)
	c := newCluster(t)
	refused := func(t *testing.T, got *bed.Answer) {
		t.Helper()
		require.Equal(t, http.StatusBadRequest, got.Status, got.Body)
		require.Equal(t, "invalid_grant", got.Error, got.Body)
		require.Empty(t, got.AccessToken)
	}
	t.Run("a token that is projected for the gateway works, and again", func(t *testing.T) {
		token := c.api.Token(runner, time.Hour, c.audience())
		for range 2 {
			got := c.present(t, token)
			require.Equal(t, http.StatusOK, got.Status, got.Body)
			require.Empty(t, got.RefreshToken)
			c.Secret(got.AccessToken)
			answer, err := c.app.Try(c.app.Resource, got.AccessToken)
			require.NoError(t, err)
			require.Equal(t, http.StatusOK, answer.Status, answer.Body)
		}
		c.Eventually("the audit line", func() error {
			for _, line := range c.Gateway.Audit() {
				if line["event"] == "machine" && line["person"] == "agents/runner" && line["subject"] == "system:serviceaccount:agents:runner" &&
					line["application"] == "machine:cluster" && line["client"] == robots {
					return nil
				}
			}
			return errors.New("none yet")
		})
	})
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	deleted := Account{runner.Namespace, runner.Name, runner.UID, "runner-1"}
	for name, row := range map[string]struct {
		token    string
		reviewed bool // Vault and the cluster are asked
	}{
		"for the API server itself":   {c.api.Token(runner, time.Hour, apiAudience), false},
		"for another service":         {c.api.Token(runner, time.Hour, "https://other.example.com"), false},
		"that has expired":            {c.api.Token(runner, -10*time.Minute, c.audience()), false},
		"of another account":          {c.api.Token(Account{"agents", "other", "u", "p"}, time.Hour, c.audience()), false},
		"of another namespace":        {c.api.Token(Account{"default", "runner", "u", "p"}, time.Hour, c.audience()), false},
		"that another key has signed": {sign(t, stranger, runner, time.Hour, c.audience()), true},
		"of a pod that does not run":  {sign(t, c.api.key, deleted, time.Hour, c.audience()), true},
	} {
		t.Run("a token "+name+" is refused", func(t *testing.T) {
			before := c.api.Reviews()
			refused(t, c.present(t, row.token))
			if !row.reviewed {
				require.Equal(t, before, c.api.Reviews())
			}
		})
	}
	t.Run("a token is refused when its pod is deleted", func(t *testing.T) {
		token := c.api.Token(deleted, time.Hour, c.audience())
		require.Equal(t, http.StatusOK, c.present(t, token).Status)
		c.api.Delete(deleted.Pod)
		refused(t, c.present(t, token))
	})
	t.Run("a token is refused while the cluster cannot be asked, and good again afterwards", func(t *testing.T) {
		// Vault's method denies the login in both cases, with the same words.
		token := c.api.Token(runner, time.Hour, c.audience())
		c.api.Down(true)
		refused(t, c.present(t, token))
		c.api.Down(false)
		require.Equal(t, http.StatusOK, c.present(t, token).Status)
	})
}

// readAnswer reads an answer of the token endpoint.
func readAnswer(t *testing.T, response *http.Response) *bed.Answer {
	t.Helper()
	content, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	answer := &bed.Answer{Status: response.StatusCode, Header: response.Header, Body: string(content)}
	require.NoError(t, json.Unmarshal(content, answer))
	return answer
}
