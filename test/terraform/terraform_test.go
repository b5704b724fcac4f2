package terraform

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"
	"github.com/zclconf/go-cty/cty"

	"vault-plugin-secrets-mcp/bootstrap/policies"
	"vault-plugin-secrets-mcp/bootstrap/provision"
	"vault-plugin-secrets-mcp/test/harness"
)

const folder = "../../bootstrap/deploy/terraform"

// TestTheModuleAppliedTwiceChangesNothing applies the complete example to a Vault that knows
// nothing of the engine.
func TestTheModuleAppliedTwiceChangesNothing(t *testing.T) {
	h := harness.New(t, harness.WithoutEngine())
	recorder := record(t, h)
	p := &provider{t: t, vault: recorder.client(administrator(t, h))}
	example := readModule(t, filepath.Join(folder, "examples", "complete"), p, exampleValues(t, h))
	m := example.called("mcp")
	m.apply()
	require.Empty(t, m.differences(), "a plan after the first apply")

	require.Len(t, recorder.tokens, 2)
	for _, token := range recorder.tokens {
		require.NotContains(t, stateOf(t, m), token, "a token is in the state")
	}
	require.Contains(t, stateOf(t, m), "example-of-a-credential", "the page says that credentials are in the state")

	before := everything(h)
	recorder.forget()
	again := readModule(t, folder, &provider{t: t, vault: p.vault, again: true}, m.given)
	again.apply()
	require.Empty(t, again.differences())
	require.NotEmpty(t, recorder.writes())
	require.Equal(t, before, everything(h), "the same writes once more")

	recorder.forget()
	require.Empty(t, m.differences())
	require.Empty(t, recorder.writes(), "a plan only reads")

	// The role is that of mcp-bootstrap apply.
	role := h.Read("auth/approle/role/mcp-gateway")
	for name, value := range provision.GatewayRoleSettings(policies.GatewayName) {
		require.Equal(t, text(t, jsonOf(t, value)), text(t, role[name]), name)
	}

	// Fields that the file no longer has are reset, and an emergency stop stays. Asked for, the
	// tokens of new clients are in the state.
	h.Write("mcp/clients/cursor-local", harness.Map{"disabled": true})
	less := maps.Clone(m.given)
	less["keep_tokens_in_state"] = cty.True
	less["clients"] = cty.ObjectVal(map[string]cty.Value{
		"cursor-local": cty.ObjectVal(map[string]cty.Value{"allowed_servers": cty.TupleVal([]cty.Value{cty.StringVal("files"), cty.StringVal("files"), cty.StringVal("calculator")})}),
		"another":      cty.EmptyObjectVal,
	})
	changed := readModule(t, folder, &provider{t: t, vault: p.vault, again: true}, less)
	changed.apply()
	require.Empty(t, changed.differences())
	client := h.Read("mcp/clients/cursor-local")
	require.Nil(t, client["role"])
	require.Nil(t, client["metadata"])
	require.Equal(t, []any{"calculator", "files"}, client["allowed_servers"])
	require.Equal(t, true, client["disabled"])
	require.Len(t, recorder.tokens, 3)
	require.Equal(t, map[string]any{"another": recorder.tokens[2]}, plain(t, map[string]cty.Value{"is": changed.output("client_tokens")})["is"])
	require.True(t, changed.eval(changed.blocks["output.client_tokens"].Body.Attributes["sensitive"].Expr, nil).True())
	h.Delete("mcp/clients/another")

	// A managed policy goes only with force, which the provider cannot say.
	h.DeleteForced("mcp/policies/corp")
	for _, one := range slices.Backward(m.states) {
		p.delete(one)
	}
	require.Empty(t, slices.DeleteFunc(m.differences(), func(difference string) bool {
		return strings.HasSuffix(difference, ": it is gone") || strings.HasPrefix(difference, "vault_generic_endpoint.reload") || strings.HasPrefix(difference, "vault_policy.")
	}))
	require.Nil(t, h.Read("auth/approle/role/mcp-gateway"))
}

// administrator is a token with the policies that the page names, and no others.
func administrator(t *testing.T, h *harness.Harness) string {
	t.Helper()
	more, err := os.ReadFile(filepath.Join(folder, "mcp-terraform.hcl"))
	require.NoError(t, err)
	h.Write("sys/policies/acl/administrator", harness.Map{"policy": policies.Admin})
	h.Write("sys/policies/acl/terraform", harness.Map{"policy": string(more)})
	secret, err := h.Vault.Client().Auth().Token().CreateWithContext(t.Context(), &api.TokenCreateRequest{
		Policies: []string{"administrator", "terraform"}, NoDefaultPolicy: true,
	})
	require.NoError(t, err)
	return secret.Auth.ClientToken
}

// stateOf is the provider's state of all resources.
func stateOf(t *testing.T, m *module) string {
	t.Helper()
	var all []attributes
	for _, one := range m.states {
		all = append(all, one.state)
	}
	encoded, err := json.Marshal(all)
	require.NoError(t, err)
	return string(encoded)
}

// TestThePageHasEveryVariableAndOutput compares its two tables with the module's files.
func TestThePageHasEveryVariableAndOutput(t *testing.T) {
	content, err := os.ReadFile("../../docs/terraform.md")
	require.NoError(t, err)
	m := readModule(t, folder, nil, nil)
	want := map[string][]string{}
	for address := range m.blocks {
		if kind, name, _ := cut(address); kind == "var" || kind == "output" {
			want[kind] = append(want[kind], name)
		}
	}
	for kind, heading := range map[string]string{"var": "\n| variable | |\n|---|---|\n", "output": "\n| output | |\n|---|---|\n"} {
		_, table, found := strings.Cut(string(content), heading)
		require.True(t, found)
		table, _, _ = strings.Cut(table, "\n\n")
		var names []string
		for row := range strings.SplitSeq(table, "\n") {
			names = append(names, strings.Split(row, "`")[1])
		}
		require.ElementsMatch(t, want[kind], names)
	}
}

// TestTheRoleForKubernetesIsThatOfThePage evaluates the example, and writes nothing: the server of
// tests has no Kubernetes auth method.
func TestTheRoleForKubernetesIsThatOfThePage(t *testing.T) {
	m := readModule(t, filepath.Join(folder, "examples", "kubernetes"), nil, nil).called("mcp")
	require.Empty(t, m.value("local.approle_accessor").AsString())
	m.values["vault_policy.mcp"] = cty.ObjectVal(map[string]cty.Value{"mcp-gateway": cty.ObjectVal(map[string]cty.Value{"name": cty.StringVal("mcp-gateway")})})
	role := map[string]cty.Value{}
	for name, attribute := range m.blocks["vault_kubernetes_auth_backend_role.gateway"].Body.Attributes {
		if name != "count" {
			role[name] = m.eval(attribute.Expr, nil)
		}
	}
	got := plain(t, role)
	for name, value := range provision.GatewayRoleSettings(policies.GatewayName) {
		require.Equal(t, text(t, jsonOf(t, value)), text(t, got[name]), name)
	}
	require.Equal(t, []any{"mcp-gateway"}, got["bound_service_account_names"])
	require.Equal(t, []any{"mcp"}, got["bound_service_account_namespaces"])
	require.Equal(t, "vault", got["audience"])
}

func jsonOf(t *testing.T, value any) any {
	t.Helper()
	encoded, err := json.Marshal(value)
	require.NoError(t, err)
	var plain any
	require.NoError(t, json.Unmarshal(encoded, &plain))
	return plain
}

// exampleValues are those of the complete example's variables.
func exampleValues(t *testing.T, h *harness.Harness) map[string]cty.Value {
	t.Helper()
	sum, err := provision.Checksum(h.Programs.Plugin)
	require.NoError(t, err)
	return map[string]cty.Value{
		"plugin_sha256": cty.StringVal(sum), "plugin_version": cty.StringVal("v0.1.0-dev"),
		"github_token": cty.StringVal("example-of-a-credential"),
	}
}

// everything is Vault's content: every field of the registry, with versions and times of
// writes.
func everything(h *harness.Harness) map[string]harness.Map {
	all := map[string]harness.Map{}
	for _, path := range []string{"mcp/config", "sys/mounts/mcp", "sys/auth/approle", "auth/approle/role/mcp-gateway", "auth/approle/role/mcp-gateway/role-id"} {
		all[path] = h.Read(path)
	}
	for _, folder := range []string{"mcp/servers", "mcp/policies", "mcp/roles", "mcp/clients", "sys/policies/acl"} {
		for _, name := range h.List(folder) {
			all[folder+"/"+name] = h.Read(folder + "/" + name)
		}
	}
	return all
}

// TestTheFilesAreFormatted compares the files with the form of `terraform fmt`.
func TestTheFilesAreFormatted(t *testing.T) {
	var files []string
	for _, pattern := range []string{"*.tf", "examples/*/*.tf"} {
		some, err := filepath.Glob(filepath.Join(folder, pattern))
		require.NoError(t, err)
		files = append(files, some...)
	}
	require.NotEmpty(t, files)
	for _, path := range files {
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, string(hclwrite.Format(content)), string(content), path)
	}
}

// TestTheACLPoliciesAreThoseOfApply compares the rules with those that mcp-bootstrap apply
// writes, for several mounts.
func TestTheACLPoliciesAreThoseOfApply(t *testing.T) {
	for _, mount := range []string{"mcp", "team-a", "team/mcp", "mcp/sub"} {
		m := readModule(t, folder, nil, map[string]cty.Value{
			"mount": cty.StringVal(mount),
			"acl_policies": cty.SetVal([]cty.Value{
				cty.StringVal("mcp-admin"), cty.StringVal("mcp-approver"), cty.StringVal("mcp-auditor"), cty.StringVal("mcp-client"),
				cty.StringVal("mcp-person"), cty.StringVal("mcp-registrar"),
			}),
		})
		m.values["local.approle_accessor"] = cty.StringVal("auth_approle_0815")
		rules := m.value("local.acl_rules").AsValueMap()
		require.Len(t, rules, 7)
		for name, value := range rules {
			content, err := os.ReadFile("../../bootstrap/policies/" + name + ".hcl")
			require.NoError(t, err)
			want := strings.ReplaceAll(string(content), "AUTH_ACCESSOR", "auth_approle_0815")
			require.Equal(t, policies.At(mount, want), value.AsString(), "%s at %s", name, mount)
		}
	}
}
