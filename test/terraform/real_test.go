//go:build terraform

package terraform

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/bootstrap/provision"
	"vault-plugin-secrets-mcp/test/harness"
)

// terraform is Terraform or OpenTofu in the folder of an example.
type terraform struct {
	t        *testing.T
	h        *harness.Harness
	recorder *recorder
	program  string
	dir      string
	env      []string
}

// startTerraform copies the module and the ACL policies, as they stand in the repository, and
// prepares an example there. It needs TEST_TERRAFORM, the program. TEST_TERRAFORM_PROVIDER is the
// program of the Vault provider; without it, the registry's is taken.
func startTerraform(t *testing.T, h *harness.Harness, example string) *terraform {
	t.Helper()
	program := os.Getenv("TEST_TERRAFORM")
	require.NotEmpty(t, program, "TEST_TERRAFORM names no Terraform or OpenTofu: see make test-terraform")
	root := filepath.Join(h.Dir, "terraform")
	for _, part := range []string{"deploy/terraform", "policies"} {
		require.NoError(t, os.CopyFS(filepath.Join(root, part), os.DirFS(filepath.Join("..", "..", "bootstrap", part))))
	}
	config := filepath.Join(root, "config.tfrc")
	require.NoError(t, os.WriteFile(config, []byte(installation(t, root)), 0o600))
	tf := &terraform{t: t, h: h, recorder: record(t, h), program: program, dir: filepath.Join(root, "deploy", "terraform", "examples", example)}
	tf.env = append(os.Environ(),
		"HOME="+root, "TF_CLI_CONFIG_FILE="+config, "TF_CLI_ARGS=-no-color", "CHECKPOINT_DISABLE=1", "TF_IN_AUTOMATION=1",
		"VAULT_ADDR="+tf.recorder.server.URL, "VAULT_TOKEN="+h.Vault.RootToken)
	t.Log(strings.SplitN(tf.run("version"), "\n", 2)[0])
	tf.run("fmt", "-check", "-recursive", filepath.Join(root, "deploy", "terraform"))
	tf.run("init", "-input=false")
	tf.run("validate")
	return tf
}

// installation says where the provider comes from.
func installation(t *testing.T, root string) string {
	t.Helper()
	provider := os.Getenv("TEST_TERRAFORM_PROVIDER")
	if provider == "" {
		return ""
	}
	mirror := filepath.Join(root, "mirror")
	for _, registry := range []string{"registry.terraform.io", "registry.opentofu.org"} {
		folder := filepath.Join(mirror, registry, "hashicorp", "vault", "5.99.0", runtime.GOOS+"_"+runtime.GOARCH)
		require.NoError(t, os.MkdirAll(folder, 0o700))
		require.NoError(t, provision.CopyProgram(provider, filepath.Join(folder, "terraform-provider-vault_v5.99.0"), 0o700))
	}
	return fmt.Sprintf("provider_installation {\n  filesystem_mirror {\n    path = %q\n  }\n}\n", mirror)
}

// exit runs a command and returns its exit status and its output.
func (tf *terraform) exit(args ...string) (int, string) {
	tf.t.Helper()
	var out bytes.Buffer
	cmd := exec.CommandContext(tf.t.Context(), tf.program, args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = tf.dir, tf.env, &out, &out
	err := cmd.Run()
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		require.NoError(tf.t, err)
	}
	return cmd.ProcessState.ExitCode(), out.String()
}

// run runs a command that succeeds.
func (tf *terraform) run(args ...string) string {
	tf.t.Helper()
	status, out := tf.exit(args...)
	require.Zero(tf.t, status, "%s\n%s", args, out)
	return out
}

// apply applies, and finds nothing to do afterwards.
func (tf *terraform) apply() {
	tf.t.Helper()
	tf.run("apply", "-auto-approve", "-input=false")
	tf.unchanged()
}

// unchanged finds nothing to do, and asks Vault for nothing but reads.
func (tf *terraform) unchanged() {
	tf.t.Helper()
	tf.recorder.forget()
	status, out := tf.exit("plan", "-detailed-exitcode", "-input=false")
	require.Zero(tf.t, status, "a plan after apply:\n%s", out)
	require.Empty(tf.t, tf.recorder.writes())
}

// write writes a file beside the example's. A file with a name like test_override.tf overrides
// them.
func (tf *terraform) write(name, text string) {
	tf.t.Helper()
	require.NoError(tf.t, os.WriteFile(filepath.Join(tf.dir, name), []byte(text), 0o600))
}

// state is the text of the state.
func (tf *terraform) state() string {
	tf.t.Helper()
	content, err := os.ReadFile(filepath.Join(tf.dir, "terraform.tfstate"))
	require.NoError(tf.t, err)
	return string(content)
}

// TestTerraformSendsWhatIsReplayed runs the complete example with Terraform and the Vault
// provider, from nothing to nothing, and replays it at another Vault.
func TestTerraformSendsWhatIsReplayed(t *testing.T) {
	h := harness.New(t, harness.WithoutEngine())
	tf := startTerraform(t, h, "complete")
	values := exampleValues(t, h)
	for name, value := range values {
		tf.env = append(tf.env, "TF_VAR_"+name+"="+value.AsString())
	}
	tf.run("apply", "-auto-approve", "-input=false")
	sent := tf.recorder.writes()
	tf.unchanged()

	beside := harness.New(t, harness.WithoutEngine())
	replayed := record(t, beside)
	m := readModule(t, filepath.Join(folder, "examples", "complete"), &provider{t: t, vault: replayed.client(beside.Vault.RootToken)}, values).called("mcp")
	m.apply()
	require.Equal(t, withoutAccessor(t, h, sent), withoutAccessor(t, beside, replayed.writes()))

	require.Len(t, tf.recorder.tokens, 2)
	for _, token := range tf.recorder.tokens {
		require.NotContains(t, tf.state(), token, "a token is in the state")
	}

	// A role, a policy and a server go while a client that names them changes; fields that
	// are removed from the configuration are reset.
	before := h.Read("mcp/clients/cursor-local")
	require.Equal(t, "engineer", before["role"])
	tf.write("tokens.tf", "output \"tokens\" {\n  value     = module.mcp.client_tokens\n  sensitive = true\n}\n")
	tf.write("test_override.tf", `
module "mcp" {
  keep_tokens_in_state = true
  roles                = {}
  servers = {
    calculator = { transport = "http", url = "https://calculator.example.com/mcp" }
    github     = { transport = "http", url = "https://api.githubcopilot.com/mcp/" }
  }
  clients = {
    cursor-local = { allowed_servers = ["calculator"] }
    another      = { allowed_servers = ["calculator"], token_ttl = 60 }
  }
}
`)
	tf.apply()
	after := h.Read("mcp/clients/cursor-local")
	require.Nil(t, after["role"])
	require.Nil(t, after["metadata"])
	require.Equal(t, "0", fmt.Sprint(after["token_ttl"]))
	require.Equal(t, before["client_id"], after["client_id"])
	require.Nil(t, h.Read("mcp/roles/engineer"))
	require.Nil(t, h.Read("mcp/servers/files"))
	require.Nil(t, h.Read("mcp/clients/agent-ci"))
	require.Empty(t, h.Read("mcp/servers/github")["headers"])
	require.Nil(t, h.Read("mcp/servers/github")["description"])

	// Asked for, the token of a new client is in the state, and that of an old one is not.
	_, out := tf.exit("output", "-json", "tokens")
	var tokens map[string]string
	require.NoError(t, json.Unmarshal([]byte(out), &tokens), out)
	require.Equal(t, map[string]string{"another": tf.recorder.tokens[2]}, tokens)

	// Another program in the catalog is taken up at once.
	running := func() string { return text(t, h.Read("sys/mounts/mcp")["running_sha256"]) }
	was := running()
	content, err := os.ReadFile(h.Programs.Plugin)
	require.NoError(t, err)
	next := filepath.Join(h.Dir, "plugins", "next")
	require.NoError(t, os.WriteFile(next, append(content, 0), 0o700))
	sum, err := provision.Checksum(next)
	require.NoError(t, err)
	tf.write("test_override.tf", fmt.Sprintf("module \"mcp\" {\n  plugin = {\n    sha256 = %q\n    version = var.plugin_version\n    command = \"next\"\n  }\n}\n", sum))
	tf.apply()
	require.NotEqual(t, was, running())
	require.Equal(t, sum, running())

	// A managed policy goes only with force, which the provider cannot say.
	status, out := tf.exit("destroy", "-auto-approve", "-input=false")
	require.NotZero(t, status)
	require.Contains(t, out, "Pass force=true to delete it")
	h.DeleteForced("mcp/policies/corp")
	tf.run("destroy", "-auto-approve", "-input=false")
	require.Nil(t, h.Read("auth/approle/role/mcp-gateway"))
	require.NotContains(t, h.List("sys/policies/acl"), "mcp-gateway")
}

// withoutAccessor are requests that two Vaults can be sent alike.
func withoutAccessor(t *testing.T, h *harness.Harness, requests []string) []string {
	t.Helper()
	accessor := text(t, h.Read("sys/auth/approle")["accessor"])
	var alike []string
	for _, request := range requests {
		alike = append(alike, strings.ReplaceAll(request, accessor, "ACCESSOR"))
	}
	return alike
}
