package apply

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/bootstrap/apply"
	"vault-plugin-secrets-mcp/bootstrap/policies"
	"vault-plugin-secrets-mcp/bootstrap/provision"
	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/stage"
)

// applying is an empty Vault, an administrator of it who is not root, and a folder
// with files to apply.
type applying struct {
	*harness.Harness
	dir   string
	env   []string
	admin *api.Client
	args  []string // given each time
}

func newApplying(t *testing.T) *applying {
	t.Helper()
	h := harness.New(t, harness.WithoutEngine())
	admin := stage.Holder(t, h, policies.AdminName, policies.Admin)
	a := &applying{
		Harness: h, dir: filepath.Join(h.Dir, "files"), admin: admin,
		env: []string{
			"PATH=" + os.Getenv("PATH"), "HOME=" + h.Dir, "GORACE=atexit_sleep_ms=0",
			"VAULT_ADDR=" + h.Vault.Address(), "VAULT_TOKEN=" + admin.Token(),
		},
		args: []string{"-plugin", filepath.Join(h.Dir, "plugins", provision.PluginName)},
	}
	require.NoError(t, os.Mkdir(a.dir, 0o700))
	return a
}

// file writes a file to apply.
func (a *applying) file(t *testing.T, name, content string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(a.dir, name), []byte(content), 0o600))
}

// apply runs the program and returns what it printed.
func (a *applying) apply(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), a.Programs.Bootstrap, append(append([]string{"apply", "-f", a.dir}, a.args...), args...)...)
	cmd.Env = a.env
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// applied is apply in a run that must succeed.
func (a *applying) applied(t *testing.T, args ...string) string {
	t.Helper()
	out, err := a.apply(t, args...)
	require.NoError(t, err, out)
	return out
}

// refused is apply in a run that must fail, and name all causes.
func (a *applying) refused(t *testing.T, why []string, args ...string) {
	t.Helper()
	out, err := a.apply(t, args...)
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit, out)
	require.Equal(t, 1, exit.ExitCode(), out)
	for _, text := range why {
		require.Contains(t, out, text)
	}
}

const (
	jungleToken   = "jungle-token-that-a-client-has-already"
	upstreamToken = "upstream-credential-of-the-github-server"
	refToken      = "token-that-a-reference-leads-to-0123456789"
)

// write puts one file of each form into the folder.
func (a *applying) write(t *testing.T, upstream string) {
	t.Helper()
	for _, secret := range []string{jungleToken, upstreamToken, refToken} {
		a.Secret(secret)
	}
	a.env = append(a.env, "UPSTREAM="+upstreamToken, "MCP_REF="+refToken)
	a.file(t, "broker.hcl", `
config {
  default_ttl  = "720h"
  grace_period = "10m"
}
server "calculator" {
  transport   = "http"
  url         = "`+upstream+`"
  description = "Adds"
}
client "cursor-local" {
  allowed_servers = ["calculator"]
  token_ttl       = "1h"
  metadata        = { team = "search" }
}
`)
	a.file(t, "github.json", `{"name": "github", "transport": "streamable_http", "description": "Issues",
 "url": "https://api.githubcopilot.com/mcp/", "bearer_token": "${UPSTREAM}", "session_mode": "stateless"}`)
	a.file(t, "clients.json", `[{"ID": 1, "CreatedAt": "2025-01-01T00:00:00Z", "UpdatedAt": "2025-01-01T00:00:00Z", "DeletedAt": null,
  "name": "from-jungle", "description": "carried over", "access_token": "`+jungleToken+`", "allow_list": ["calculator"]}]`)
	a.file(t, "agent.json", `{"name": "agent", "allowed_servers": ["calculator", "github"], "access_token_ref": {"env": "MCP_REF", "file": "/no/such/file"}}`)
	a.file(t, "managed-settings.json", `{"permissions": {"deny": ["WebFetch"]}, "deniedMcpServers": [{"serverName": "retired"}]}`)
}

// noSecret fails the test if the program's output has a token.
func noSecret(t *testing.T, out string) {
	t.Helper()
	for _, secret := range []string{jungleToken, upstreamToken, refToken, "mcpt_"} {
		require.NotContains(t, out, secret)
	}
}

func TestApplyMakesABrokerOfAnEmptyVaultAndIsDoneThen(t *testing.T) {
	a := newApplying(t)
	upstream := a.StartUpstream(nil)
	a.write(t, upstream.URL)
	tokens, login := filepath.Join(a.Dir, "tokens"), filepath.Join(a.Dir, "login")
	args := []string{"-token-dir", tokens, "-gateway-dir", login}

	out := a.applied(t, append(args, "-dry-run")...)
	noSecret(t, out)
	require.Contains(t, out, "create client cursor-local")
	require.Contains(t, out, `+ allowed_servers = ["calculator"]`)
	require.Contains(t, out, "nothing was changed")
	require.NoDirExists(t, tokens)
	plan := a.report(t, append(args, "-dry-run")...)
	require.True(t, plan.DryRun)
	require.Equal(t, apply.StepReport{
		Action: "create", Kind: "client", Name: "cursor-local", Warnings: []string{}, Messages: []string{},
		Difference: []string{`+ allowed_servers = ["calculator"]`, `+ metadata = {"team":"search"}`, `+ token_ttl = "1h"`},
	}, step(t, plan, "cursor-local"))
	_, err := a.TryWrite("mcp/lookup", harness.Map{"token": jungleToken})
	require.Error(t, err, "the dry run mounted the engine")

	out = a.applied(t, args...)
	noSecret(t, out)
	require.Contains(t, out, "] create client cursor-local")
	require.Contains(t, out, "Done: ")
	before := a.Read("mcp/changes")["index"]
	require.Contains(t, a.applied(t, args...), "Nothing to do")
	require.Empty(t, a.report(t, args...).Steps)
	require.Contains(t, a.applied(t, "-dry-run"), "Nothing to do")
	require.Equal(t, before, a.Read("mcp/changes")["index"], "the second run changed something")

	content, err := os.ReadFile(filepath.Join(tokens, "cursor-local"))
	require.NoError(t, err)
	a.Secret(string(content))
	info, err := os.Stat(filepath.Join(tokens, "cursor-local"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	gateway := a.StartGateway(harness.GatewayOptions{})
	for name, token := range map[string]string{"issued": string(content), "carried over": jungleToken, "by reference": refToken} {
		r := a.Call(gateway.ServerURL(stage.Calculator), token, "add", `{"a":40,"b":2}`)
		require.Equal(t, http.StatusOK, r.Status, name)
	}
	require.FileExists(t, filepath.Join(login, "secret_id"))

	a.file(t, "late.hcl", "client \"late\" {\n  allowed_servers = [\"gone\"]\n}\n")
	late := step(t, a.report(t, args...), "late")
	require.True(t, late.Done)
	require.Equal(t, []string{"its token is in " + filepath.Join(tokens, "late")}, late.Messages)
	require.Len(t, late.Warnings, 1)
	require.Contains(t, late.Warnings[0], `"gone"`)
}

// report is apply with -format json, in a run that must succeed. Standard output has only
// JSON, with no field that the type lacks.
func (a *applying) report(t *testing.T, args ...string) apply.Report {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), a.Programs.Bootstrap, append(append([]string{"apply", "-f", a.dir, "-format", "json"}, a.args...), args...)...)
	cmd.Env = a.env
	out, err := cmd.Output()
	require.NoError(t, err)
	noSecret(t, string(out))
	decoder := json.NewDecoder(bytes.NewReader(out))
	decoder.DisallowUnknownFields()
	var report apply.Report
	require.NoError(t, decoder.Decode(&report), "%s", out)
	require.ErrorIs(t, decoder.Decode(&struct{}{}), io.EOF)
	return report
}

// step is the one step of a report that is about a name.
func step(t *testing.T, report apply.Report, name string) apply.StepReport {
	t.Helper()
	i := slices.IndexFunc(report.Steps, func(s apply.StepReport) bool { return s.Name == name })
	require.GreaterOrEqual(t, i, 0, "%v", report.Steps)
	return report.Steps[i]
}

func TestApplyFollowsTheFilesAndLeavesAloneWhatIsNotItsOwn(t *testing.T) {
	a := newApplying(t)
	a.write(t, "http://127.0.0.1:1/mcp")
	a.applied(t)
	id := a.Read("mcp/servers/github")["id"]

	t.Run("a change of settings is shown and made, and a line taken out takes its effect back", func(t *testing.T) {
		a.file(t, "broker.hcl", `client "cursor-local" {
  allowed_servers = ["calculator", "github"]
}`)
		out := a.applied(t, "-dry-run")
		require.Contains(t, out, `~ allowed_servers = ["calculator","github"] (was ["calculator"])`)
		require.Contains(t, out, `~ metadata = {} (was {"team":"search"})`)
		a.applied(t)
		client := a.Read("mcp/clients/cursor-local")
		require.Equal(t, []any{"calculator", "github"}, client["allowed_servers"])
		require.Empty(t, client["metadata"])
		require.Contains(t, a.applied(t), "Nothing to do")
	})
	t.Run("what no file names any more stays until it is pruned", func(t *testing.T) {
		require.Contains(t, a.applied(t), "no file names the server calculator any more: -prune deletes it")
		require.NotNil(t, a.Read("mcp/servers/calculator"))
		require.Contains(t, a.applied(t, "-prune"), "delete server calculator")
		require.Nil(t, a.Read("mcp/servers/calculator"))
	})
	t.Run("a new credential of an upstream is noticed, and never shown", func(t *testing.T) {
		const next = "another-credential-of-the-upstream"
		a.Secret(next)
		a.env = append(a.env, "UPSTREAM="+next)
		out := a.applied(t)
		require.Contains(t, out, "change server github")
		require.NotContains(t, out, next)
		require.Equal(t, id, a.Read("mcp/servers/github")["id"], "its sessions ended")
	})
	t.Run("a new token takes the place of the old one", func(t *testing.T) {
		const next = "the-next-token-of-the-agent-9876543210"
		a.Secret(next)
		a.env = append(a.env, "MCP_REF="+next)
		require.Contains(t, a.applied(t, "-dry-run"), "~ access_token (it is never shown)")
		a.applied(t)
		require.Equal(t, "agent", a.Write("mcp/lookup", harness.Map{"token": next})["client"])
	})
	t.Run("what somebody else created is not touched unless told", func(t *testing.T) {
		a.CreateClient("by-hand", harness.Map{"allowed_servers": "calculator"})
		a.file(t, "by-hand.json", `{"name": "by-hand", "allowed_servers": ["github"]}`)
		a.refused(t, []string{"nothing was changed", "client by-hand", "-adopt"})
		require.Equal(t, []any{"calculator"}, a.Read("mcp/clients/by-hand")["allowed_servers"])
		a.applied(t, "-adopt")
		require.Equal(t, []any{"github"}, a.Read("mcp/clients/by-hand")["allowed_servers"])
		require.Contains(t, a.applied(t), "Nothing to do")
	})
	t.Run("a failure in the middle says what is done, and the next run goes on", func(t *testing.T) {
		const gone = "a-token-that-was-revoked-0123456789"
		a.Secret(gone)
		a.Write("mcp/clients/leaked", harness.Map{"access_token": gone})
		a.Write("mcp/revoke-client/leaked", nil) // nobody is told that, but who writes
		a.file(t, "x.json", `[{"name": "fine", "allowed_servers": []}, {"name": "not-fine", "allowed_servers": [], "access_token": "`+gone+`"}, {"name": "later", "allowed_servers": []}]`)
		a.refused(t, []string{
			"stopped at step 2 of 3, create client not-fine", "Done:\n  create client fine\n",
			"Not done:\n  create client not-fine\n  create client later\n", "run the same command again",
		})
		record, err := a.admin.Sys().GetPolicyWithContext(t.Context(), "mcp-bootstrap-mcp")
		require.NoError(t, err)
		require.Contains(t, record, "client fine")
		require.NotContains(t, record, "not-fine", "what was never created is remembered as if it had been")
		a.file(t, "x.json", `[{"name": "fine", "allowed_servers": []}, {"name": "now-fine", "allowed_servers": []}, {"name": "later", "allowed_servers": []}]`)
		out := a.applied(t)
		require.NotContains(t, out, "create client fine")
		require.Contains(t, out, "create client later")
		require.NotContains(t, out, "not-fine")
	})
	t.Run("what was deleted by hand is not pruned, and not noted", func(t *testing.T) {
		a.Delete("mcp/clients/fine")
		a.file(t, "x.json", `[{"name": "later", "allowed_servers": []}]`)
		out := a.applied(t)
		require.Contains(t, out, "no file names the client now-fine any more")
		require.NotContains(t, out, "client fine")
		out = a.applied(t, "-prune")
		require.Contains(t, out, "delete client now-fine")
		require.NotContains(t, out, "client fine")
	})
}

func TestApplySaysWhichFileIsWrongAndWhatToDo(t *testing.T) {
	a := newApplying(t)
	for _, test := range []struct {
		name, file, content string
		want                []string
	}{
		{"an unset variable", "c.json", `{"name": "c", "allowed_servers": [], "access_token_ref": {"env": "NOT_SET"}}`, []string{"c.json", "access_token_ref.env", "NOT_SET is not set"}},
		{"a missing token file", "c.json", `{"name": "c", "allowed_servers": [], "access_token_ref": {"file": "gone"}}`, []string{"c.json", "access_token_ref.file", "gone"}},
		{"an unset variable in a text", "s.json", `{"name": "s", "transport": "http", "url": "${NOT_SET}"}`, []string{"s.json", "NOT_SET"}},
		{"a field nobody knows", "c.json", `{"name": "c", "allowed_servers": [], "allowed_server": []}`, []string{"c.json", `"allowed_server" is not known`}},
		{"a value of another type", "c.json", `{"name": "c", "allowed_servers": [], "access_token": 123456789012}`, []string{"c.json", `field "access_token"`}},
		{"no name", "c.json", `{"allowed_servers": []}`, []string{"c.json", `"name" is missing`}},
		{"another file altogether", "c.json", `{"a": 1}`, []string{"c.json", "it is not one of"}},
		{"broken JSON", "c.json", `{"name": `, []string{"c.json:1,9: it is not valid JSON: it ends too early"}},
		{"HCL with an unknown block", "b.hcl", "clint \"x\" {\n}\n", []string{"b.hcl:1", "clint"}},
		{"HCL with a wrong duration", "b.hcl", "client \"x\" {\n  token_ttl = \"soon\"\n}\n", []string{"b.hcl", "token_ttl", "soon"}},
		{"HCL with an unset variable", "b.hcl", "server \"x\" {\n  transport = env(\"NOT_SET\")\n}\n", []string{"b.hcl:2", "NOT_SET is not set"}},
		{"a policy that Claude Code would drop in part", "p.json", `{"deniedMcpServers": [{"serverNam": "x"}]}`, []string{"p.json", "deniedMcpServers[0]"}},
		{"one name twice", "c.json", `[{"name": "c", "allowed_servers": []}, {"name": "c", "allowed_servers": []}]`, []string{"c.json", `client "c"`, "already"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			a.file(t, test.file, test.content)
			defer os.Remove(filepath.Join(a.dir, test.file))
			a.refused(t, test.want)
		})
	}
	t.Run("no file at all", func(t *testing.T) {
		a.refused(t, []string{"no file that ends in .hcl, .json or .toml"})
	})
}
