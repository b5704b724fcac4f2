package apply

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/kms/kmskey"
	"vault-plugin-secrets-mcp/test/stage"
)

// TestApplyHasTokensSealedAndTakesTokensThatComeEncrypted applies a block kms, a
// client whose token is handed out sealed, one that brings its own and has it
// sealed, and one whose token comes encrypted, in HCL and in JSON.
func TestApplyHasTokensSealedAndTakesTokensThatComeEncrypted(t *testing.T) {
	const own, elsewhere = "own-token-that-is-handed-out-sealed-01", "token-that-another-system-has-issued-01"
	a := newApplying(t)
	k := kmskey.NewDouble(t)
	upstream := a.StartUpstream(nil)
	for _, secret := range []string{own, elsewhere, k.Secret} {
		a.Secret(secret)
	}
	tokens := filepath.Join(a.Dir, "tokens")
	a.args = append(a.args, "-token-dir", tokens)
	a.env = append(a.env, "KMS_KEY="+k.ID, "KMS_ENDPOINT="+k.Endpoint, "KMS_REGION="+k.Region,
		"KMS_ACCESS="+k.Access, "KMS_SECRET="+k.Secret, "OWN_TOKEN="+own)
	a.file(t, "broker.hcl", `
kms {
  key_id     = env("KMS_KEY")
  region     = env("KMS_REGION")
  endpoint   = env("KMS_ENDPOINT")
  access_key = env("KMS_ACCESS")
  secret_key = env("KMS_SECRET")
}
config {
  seal = "kms"
}
server "calculator" {
  transport = "http"
  url       = "`+upstream.URL+`"
}
client "issued" {
  allowed_servers = ["calculator"]
}
client "own" {
  allowed_servers   = ["calculator"]
  token_bound_cidrs = ["127.0.0.0/8"]
  access_token_ref { env = "OWN_TOKEN" }
}`)
	out := a.applied(t, "-dry-run")
	require.Contains(t, out, "create kms mcp")
	require.NotContains(t, out, k.Secret)
	out = a.applied(t)
	require.NotContains(t, out, own)
	require.Contains(t, out, "warning: the access_token is not accepted as it is")
	require.Contains(t, a.applied(t), "Nothing to do")

	gateway := a.StartGateway(harness.GatewayOptions{Env: k.Environment(), Top: "kms {\n}\n"})
	works := func(token string) {
		t.Helper()
		// A gateway that is ready may not have its data keys yet.
		a.Eventually("the token is accepted", func() error {
			if r := a.Call(gateway.ServerURL(stage.Calculator), token, "add", `{"a":40,"b":2}`); r.Status != http.StatusOK {
				return fmt.Errorf("the call is answered %d", r.Status)
			}
			return nil
		})
	}
	for _, name := range []string{"issued", "own"} {
		content, err := os.ReadFile(filepath.Join(tokens, name))
		require.NoError(t, err, "the sealed form was not kept")
		require.True(t, strings.HasPrefix(string(content), "mcpk_"), name)
		works(string(content))
	}

	t.Run("a ciphertext is taken once, and again when it is another", func(t *testing.T) {
		context := func(client string) map[string]string {
			return map[string]string{"mcp-mount": a.Read("mcp/config/kms")["mount"].(string), "mcp-client": client}
		}
		a.env = append(a.env, "CIPHERTEXT="+k.Encrypt(t, elsewhere, context("elsewhere")), "JSON_CIPHERTEXT="+strings.TrimSpace(k.Encrypt(t, elsewhere+"-json", context("in-json"))))
		a.file(t, "elsewhere.hcl", `client "elsewhere" {
  allowed_servers         = ["calculator"]
  seal                    = "none"
  access_token_ciphertext = env("CIPHERTEXT")
}`)
		a.file(t, "in-json.json", `{"name": "in-json", "allowed_servers": ["calculator"], "access_token_ciphertext": "${JSON_CIPHERTEXT}"}`)
		out := a.applied(t)
		require.NotContains(t, out, elsewhere)
		works(elsewhere)
		require.Contains(t, a.applied(t), "Nothing to do")

		a.env = append(a.env, "CIPHERTEXT="+k.Encrypt(t, elsewhere+"-next", context("elsewhere")))
		require.Contains(t, a.applied(t, "-dry-run"), "~ access_token_ciphertext (its content is never shown)")
		a.applied(t)
		a.Secret(elsewhere + "-next")
		works(elsewhere + "-next")
	})
	t.Run("a token of one's own that is sealed is replaced by another", func(t *testing.T) {
		const next = "the-next-own-token-that-is-sealed-0123"
		a.Secret(next)
		before, err := os.ReadFile(filepath.Join(tokens, "own"))
		require.NoError(t, err)
		a.env = append(a.env, "OWN_TOKEN="+next)
		require.Contains(t, a.applied(t), "change client own")
		after, err := os.ReadFile(filepath.Join(tokens, "own"))
		require.NoError(t, err)
		require.NotEqual(t, before, after)
		works(string(after))
		require.Contains(t, a.applied(t), "Nothing to do")
	})
	t.Run("new credentials are noticed and not shown", func(t *testing.T) {
		a.env = append(a.env, "KMS_SECRET=wrong-"+k.Secret)
		out, err := a.apply(t)
		require.Error(t, err)
		require.Contains(t, out, "change kms mcp")
		require.NotContains(t, out, k.Secret)
		a.env = append(a.env, "KMS_SECRET="+k.Secret)
		require.Contains(t, a.applied(t), "Nothing to do", "what failed was remembered as done")
	})
	t.Run("a key that somebody else configured is left alone", func(t *testing.T) {
		a.Delete("sys/policies/acl/mcp-bootstrap-mcp")
		a.env = append(a.env, "KMS_REGION=eu-central-1")
		a.refused(t, []string{"nothing was changed", "kms mcp", "-adopt"})
	})
}
