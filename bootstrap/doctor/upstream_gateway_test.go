package doctor

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/config"
)

func TestAPatternForAliasesAdmitsAllOfAPrefixOrNotAll(t *testing.T) {
	for pattern, want := range map[string]bool{
		"mcp:*": true, "MCP:*": true, "mcp*": true, "m*": true, "*": true,
		"mcp": false, "mcp:": false, "mcp:team-*": false, "mcp2:*": false, "mc:*": false, "*:*": false, "mcp:*x": false, "": false,
	} {
		require.Equal(t, want, admitsAll(pattern, "mcp"), pattern)
	}
}

func TestTheRoleThatTheGatewaysFileNamesIsLookedAt(t *testing.T) {
	const path = "/v1/auth/k8s/role/gw"
	of := func(kind, period any) map[string]object {
		return map[string]object{path: {"token_type": kind, "token_period": period}}
	}
	method := object{"k8s/": object{"type": "kubernetes", "config": object{"token_type": "default-batch"}}}
	for name, test := range map[string]struct {
		vault    map[string]object
		findings int
		want     string
	}{
		"a role of batch tokens":          {of("batch", 0), 1, "the role gw gives batch tokens"},
		"batch tokens by its method":      {map[string]object{path: {"token_type": "default", "token_period": 0}, "/v1/sys/auth": method}, 1, "vault write auth/k8s/role/gw token_type=service"},
		"a login that ends":               {of("service", 0), 1, "→ vault write auth/k8s/role/gw token_period=1h"},
		"a login that lasts":              {of("service", 3600), 0, ""},
		"a role that cannot be read":      {nil, 0, "was not looked at: VAULT_TOKEN cannot read auth/k8s/role/gw"},
		"another method that is not used": {map[string]object{"/v1/auth/approle/role/mcp-gateway": {"token_type": "batch"}, path: {"token_type": "service", "token_period": 60}}, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			e, out := newExamination(Options{})
			e.vault, e.gateway = vaultOf(t, test.vault), &config.Config{}
			e.gateway.Vault.Auth = config.Auth{Method: config.AuthKubernetes, Mount: "k8s", Role: "gw"}
			e.checkLoginOfMinters(t.Context())
			require.Equal(t, test.findings, e.findings, out)
			require.Contains(t, out.String(), test.want)
		})
	}
}

func TestTheTokenThatAnotherProgramKeepsIsLookedAt(t *testing.T) {
	for name, test := range map[string]struct {
		token    string // "": no file
		findings int
		want     string
	}{
		"a batch token":   {"hvb.hunter2", 1, "is a batch token, which can mint no child token"},
		"a service token": {"hvs.hunter2", 0, ""},
		"an absent token": {"", 0, "was not looked at"},
		"an old token":    {"s.hunter2", 0, ""},
		"an empty file":   {"\n", 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			e, out := newExamination(Options{})
			path := filepath.Join(t.TempDir(), "token")
			if test.token != "" {
				require.NoError(t, os.WriteFile(path, []byte(test.token), 0o600))
			}
			e.checkTokenFile(path)
			require.Equal(t, test.findings, e.findings, out)
			require.Contains(t, out.String(), test.want)
			require.NotContains(t, out.String(), "hunter2")
		})
	}
}
