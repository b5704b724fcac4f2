package config

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/doctable"
)

const page = "../../docs/gateway.md"

// offered returns every setting that there is, by its block, in no order.
func offered(t *testing.T) map[string]map[string]setting {
	t.Helper()
	all := map[string]map[string]setting{}
	for _, method := range []string{AuthAppRole, AuthKubernetes, AuthJWT, AuthTokenFile} {
		source := fmt.Sprintf("vault {\n auth %q {}\n}\nkms {}\nstdio {}\nupstream_credentials {}\nupstream \"x\" {\n proxy {}\n}\naudit {\n syslog {}\n}\n"+
			"sign_in {\n login \"x\" {}\n machine \"y\" {}\n application \"z\" {}\n}\n", method)
		file, diags := hclsyntax.ParseConfig([]byte(source), "all.hcl", hcl.InitialPos)
		require.False(t, diags.HasErrors())
		d := &decoder{} // it finds much wrong, which does not matter here
		d.config(file.Body.(*hclsyntax.Body))
		for _, s := range d.offered {
			switch s.block {
			case "auth":
				s.block = fmt.Sprintf("auth %q", method)
			case "proxy":
				s.block = "upstream_proxy" // has the same settings
			}
			if all[s.block] == nil {
				all[s.block] = map[string]setting{}
			}
			all[s.block][s.name] = s
		}
	}
	return all
}

// TestThePageHasEverySetting: each block of the file has a table in
// docs/gateway.md, with each of its settings and the default that it has.
func TestThePageHasEverySetting(t *testing.T) {
	for block, settings := range offered(t) {
		heading := "### `" + block + "`"
		if block == "the file" {
			heading = "### Outside all blocks"
		}
		rows, err := doctable.Read(page, heading)
		require.NoError(t, err)
		for _, row := range rows {
			require.Len(t, row, 3, "%s: %v", heading, row)
			name := strings.Trim(row[0], "`")
			s, ok := settings[name]
			require.True(t, ok, "%s has no setting %q", heading, name)
			want := []string(nil)
			if s.fallback != "" {
				want = []string{s.fallback}
			}
			require.Equal(t, want, doctable.Names(row[1]), "the default of %s in %s", name, heading)
			delete(settings, name)
		}
		require.Empty(t, settings, "these are missing below %s", heading)
	}
}

// TestThePageHasEveryVariable: those that override the file.
func TestThePageHasEveryVariable(t *testing.T) {
	rows, err := doctable.Read(page, "### Environment")
	require.NoError(t, err)
	var variables []string
	for _, file := range []string{"environment.go", "vault_environment.go"} {
		source, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, found := range regexp.MustCompile(`Env\w+ += "(\w+)"`).FindAllStringSubmatch(string(source), -1) {
			variables = append(variables, found[1])
		}
	}
	require.NotEmpty(t, variables)
	documented := doctable.Column(rows, 0)
	slices.Sort(variables)
	slices.Sort(documented)
	require.Equal(t, variables, documented)
}

// TestThePagesFileIsGood: the smallest file that the page shows.
func TestThePagesFileIsGood(t *testing.T) {
	content, err := os.ReadFile(page)
	require.NoError(t, err)
	_, after, found := strings.Cut(string(content), "```hcl\n")
	require.True(t, found)
	source, _, _ := strings.Cut(after, "```")
	_, err = parse(t, strings.ReplaceAll(source, "/etc/mcp-gateway", "DIR"), noEnvironment)
	require.NoError(t, err)
	shipped, err := os.ReadFile("smallest.hcl")
	require.NoError(t, err)
	require.Contains(t, string(shipped), "\n\n"+source, "the file that is shipped is another one")
}

// TestTheFileForKubernetesIsGood: the one among the manifests, with the paths
// that it names put where there is something.
func TestTheFileForKubernetesIsGood(t *testing.T) {
	content, err := os.ReadFile("../../bootstrap/deploy/kubernetes/gateway/gateway.hcl")
	require.NoError(t, err)
	source := strings.NewReplacer("/etc/vault-ca/ca.crt", "DIR/ca.pem", "/etc/mcp-gateway-tls", "DIR", "/var/run/vault/token", "DIR/secret_id").Replace(string(content))
	c, err := parse(t, source, noEnvironment)
	require.NoError(t, err)
	require.Equal(t, AuthKubernetes, c.Vault.Auth.Method)
}

// TestThePageShowsTheProxiesAsTheyAreShipped: the configurations of proxies in
// docs/operations.md are those of the package.
func TestThePageShowsTheProxiesAsTheyAreShipped(t *testing.T) {
	operations, err := os.ReadFile("../../docs/operations.md")
	require.NoError(t, err)
	for language, file := range map[string]string{"nginx": "nginx.conf", "haproxy": "haproxy.cfg"} {
		shipped, err := os.ReadFile("../../bootstrap/deploy/proxy/" + file)
		require.NoError(t, err)
		require.Contains(t, string(operations), "\n```"+language+"\n"+string(shipped)+"```\n", file)
	}
}
