package docs

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/docrun"
	"vault-plugin-secrets-mcp/test/harness"
	double "vault-plugin-secrets-mcp/test/kms"
	"vault-plugin-secrets-mcp/test/kms/kmskey"
)

// The page's names of the key and the mount; the test puts its own in.
const (
	documentedKey   = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	documentedMount = "vault-plugin-secrets-mcp_1a2b3c4d"
)

var (
	jsonBlock = regexp.MustCompile("(?s)```json\n(.*?)```")
	hclBlock  = regexp.MustCompile("(?s)```hcl\n(.*?)```")
)

// TestDocsKMS runs every command of docs/kms.md, with identities that have the
// page's own IAM policies, and a gateway with the page's own configuration.
func TestDocsKMS(t *testing.T) {
	content, err := os.ReadFile(filepath.Join("..", "..", "docs", "kms.md"))
	require.NoError(t, err)
	names := []string{"engine", "gateway", "issuer"} // in the order of the page's policies
	identities := map[string]double.Identity{"admin": double.NewIdentity("admin")}
	all := []double.Identity{identities["admin"]}
	for _, name := range names {
		identities[name] = double.NewIdentity(name)
		all = append(all, identities[name])
	}
	server, err := double.Start(double.Options{Identities: all})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	key := server.CreateKey("alias/mcp")

	h := harness.New(t)
	mounts, err := h.Vault.Client().Sys().ListMounts()
	require.NoError(t, err)
	own := strings.NewReplacer(documentedKey, key, documentedMount, mounts["mcp/"].Accessor)
	policies := jsonBlock.FindAllStringSubmatch(string(content), -1)
	require.Len(t, policies, len(names))
	for i, name := range names {
		policy, err := double.ParsePolicy([]byte(own.Replace(policies[i][1])))
		require.NoError(t, err, name)
		server.SetPolicy(name, policy)
	}

	h.Write("mcp/servers/calculator", harness.Map{"transport": "http", "url": h.StartUpstream(nil).URL})
	settings := hclBlock.FindStringSubmatch(string(content))
	require.NotNil(t, settings)
	gateway := h.StartGateway(harness.GatewayOptions{
		Env: environmentOf(server, identities["gateway"]),
		Top: strings.Replace(settings[1], "kms {\n", "kms {\n  refresh = \"1s\"\n", 1),
	})

	docrun.RunPage(t, h, "kms.md", append(environmentOf(server, identities["admin"]),
		"PATH="+standIn(t, identities["issuer"])+":"+filepath.Dir(docrun.VaultBinary(t, t.TempDir()))+":"+os.Getenv("PATH"),
		"MCP_GATEWAY_URL="+gateway.URL, "KMS_ENDPOINT="+server.URL(),
		"ENGINE_ACCESS_KEY="+identities["engine"].AccessKeyID, "ENGINE_SECRET_KEY="+identities["engine"].SecretAccessKey,
	))
}

func environmentOf(server *double.Server, identity double.Identity) []string {
	k := &kmskey.Key{Region: server.Region(), Endpoint: server.URL(), Access: identity.AccessKeyID, Secret: identity.SecretAccessKey}
	return k.Environment()
}

// standIn builds the replacement of the AWS CLI, and returns its folder. It encrypts as
// the issuer.
func standIn(t *testing.T, issuer double.Identity) string {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "stand-in")
	output, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "../kms/cmd/aws").CombinedOutput()
	require.NoError(t, err, string(output))
	script := "#!/bin/sh\nif [ \"$2\" = encrypt ]; then export AWS_ACCESS_KEY_ID=" + issuer.AccessKeyID +
		" AWS_SECRET_ACCESS_KEY=" + issuer.SecretAccessKey + "; fi\nexec " + program + " \"$@\"\n"
	require.NoError(t, os.WriteFile(filepath.Join(dir, "aws"), []byte(script), 0o700))
	return dir
}
