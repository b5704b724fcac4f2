package commands

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/bootstrap/doctor"
	"vault-plugin-secrets-mcp/bootstrap/policies"
	"vault-plugin-secrets-mcp/bootstrap/provision"
	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/stage"
)

// disease is one fault, and the one finding of doctor about it.
type disease struct {
	name   string
	infect func() // nil: env and args cause it
	cure   func()
	env    []string
	args   []string
	want   []string // the finding, and the remedy
	more   int      // findings that come with it
}

// TestTheDoctorFindsEachThingThatIsWrongAndSaysWhatToDo breaks one thing after the
// other on purpose. The doctor must find that and nothing else, with the advice, and
// end with status 1; and nothing once it is put right.
func TestTheDoctorFindsEachThingThatIsWrongAndSaysWhatToDo(t *testing.T) {
	w := newWard(t)
	w.healthy(t)
	root := w.Vault.Client()
	nobody := w.token(t, &api.TokenCreateRequest{Policies: []string{"none"}, NoDefaultPolicy: true})
	ending := w.token(t, &api.TokenCreateRequest{Policies: []string{policies.AdminName}, TTL: "30m"})
	refused := w.CreateClient("refused", harness.Map{"allowed_servers": stage.Calculator, "token_ttl": "720h"})
	w.Write("mcp/revoke-client/refused", nil)
	w.Delete("mcp/clients/refused")
	sealed := w.Client("sealed", harness.Map{"seal": "kms", "token_ttl": "720h"})
	good := w.Client("good", harness.Map{"token_ttl": "720h"})
	unsealing := w.StartGateway(harness.GatewayOptions{})
	lost := w.StartGateway(harness.GatewayOptions{Vault: "http://127.0.0.1:1", NotReady: true})
	w.Eventually("its admin listener answers", func() error {
		response, err := http.Get(lost.Admin + "/healthz")
		if err == nil {
			err = response.Body.Close()
		}
		return err
	})
	role := "auth/approle/role/" + provision.GatewayRole
	policy := "sys/policies/acl/" + policies.GatewayName
	catalog := "sys/plugins/catalog/secret/" + provision.PluginName
	write := func(path string, data harness.Map) func() { return func() { w.Write(path, data) } }
	remove := func(path string) func() { return func() { w.Delete(path) } }
	lift := func(path string) func() { return func() { w.DeleteForced(path) } }
	server := func(name, url string) func() {
		return write("mcp/servers/"+name, harness.Map{"transport": "http", "url": url})
	}
	both := func(all ...func()) func() {
		return func() {
			for _, f := range all {
				f()
			}
		}
	}
	allowing, missing := w.gatewayFile(t, w.Programs.Bootstrap), w.gatewayFile(t, "/nowhere/npx")
	elsewhere := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(elsewhere.Close)
	slash := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, r.URL.Path+"/", http.StatusTemporaryRedirect)
	}))
	t.Cleanup(slash.Close)
	closed := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }))
	t.Cleanup(closed.Close)
	skewed, late, tuned := harness.NewFront(t, w.Vault.Address()), harness.NewFront(t, w.Gateway.URL), harness.NewFront(t, w.Vault.Address())
	skewed.Set(wrongHealth)
	late.Set(wrongDate)
	tuned.Set(wrongVersion)
	mounts, err := root.Sys().ListMountsWithContext(t.Context())
	require.NoError(t, err)
	registered, err := root.Logical().ReadWithDataWithContext(t.Context(), catalog, map[string][]string{"version": {mounts["mcp/"].RunningVersion}})
	require.NoError(t, err)
	running := registered.Data

	for _, d := range []disease{
		{name: "no Vault", env: []string{"VAULT_ADDR=http://127.0.0.1:1"}, want: []string{"Vault does not answer at http://127.0.0.1:1", "point VAULT_ADDR at it"}},
		{name: "something else for Vault", env: []string{"VAULT_ADDR=" + elsewhere.URL}, want: []string{"is not a Vault"}},
		{name: "a namespace that is not there", env: []string{"VAULT_NAMESPACE=team-a"}, want: []string{`"team-a"`, "unset VAULT_NAMESPACE"}},
		{name: "a token that Vault does not know", env: []string{"VAULT_TOKEN=nonsense"}, want: []string{"does not accept VAULT_TOKEN", "vault login"}},
		{name: "a token that may nothing", env: []string{"VAULT_TOKEN=" + nobody}, want: []string{"may not even look itself up", "policy mcp-admin"}},
		{name: "a token about to end", env: []string{"VAULT_TOKEN=" + ending}, want: []string{"VAULT_TOKEN ends in ", "vault token renew"}},
		{name: "Vault's clock", env: []string{"VAULT_ADDR=" + skewed.URL}, want: []string{"the clocks of Vault and of this machine are 1m", "NTP"}},
		{name: "the gateway's clock", env: []string{"MCP_GATEWAY_URL=" + late.URL}, want: []string{"the clocks of the gateway and of this machine are ", "NTP"}},
		{name: "nothing mounted", args: []string{"-mount", "elsewhere"}, want: []string{"nothing is mounted at elsewhere/", "mcp-bootstrap apply -f DIR"}},
		{name: "another engine", args: []string{"-mount", "secret"}, want: []string{"is of type kv", "-mount"}},
		{name: "a version that the mount is set to, and that does not run", env: []string{"VAULT_ADDR=" + tuned.URL}, want: []string{"is set to the plugin's v9.9.9, and v", "vault plugin reload -mounts=mcp/"}},
		{
			name: "a plugin that was registered and not reloaded", want: []string{"is not the one that is registered", "vault plugin reload"},
			infect: func() {
				w.register(t, "patched", func(program []byte) []byte { return append(program, '\n') }, running)
			},
			cure: write(catalog, harness.Map{"version": running["version"], "sha256": running["sha256"], "command": running["command"]}),
		},
		{
			name: "a plugin that is in no catalog", want: []string{"the plugin catalog has no entry", "mcp-bootstrap apply -f DIR"},
			infect: func() { unregister(t, w.Harness) },
			cure:   write(catalog, harness.Map{"version": running["version"], "sha256": running["sha256"], "command": running["command"]}),
		},
		{
			name: "a gateway's policy that is missing", want: []string{"mcp-gateway is missing", "mcp-bootstrap apply -f DIR"},
			infect: remove(policy), cure: write(policy, harness.Map{"policy": policies.Gateway}),
		},
		{
			name: "a gateway's policy of another version", want: []string{"mcp-gateway is not the one of this version", "-dry-run"},
			infect: write(policy, harness.Map{"policy": policies.Gateway + "path \"mcp/config\" {\n  capabilities = [\"read\"]\n}\n"}),
			cure:   write(policy, harness.Map{"policy": policies.Gateway}),
		},
		{
			name: "a gateway's policy from before usage was reported", want: []string{"without mcp/gateway/usage", "gateways cannot report it", "mcp-bootstrap apply"},
			infect: write(policy, harness.Map{"policy": strings.Replace(policies.Gateway, "mcp/gateway/usage", "mcp/gateway/other", 1)}),
			cure:   write(policy, harness.Map{"policy": policies.Gateway}),
		},
		{
			name: "a gateway's role without its policy", want: []string{"does not carry the policy mcp-gateway"},
			infect: write(role, harness.Map{"token_policies": "other"}), cure: write(role, harness.Map{"token_policies": policies.GatewayName}),
		},
		{
			name: "a gateway's role with the default policy", want: []string{"carries Vault's default policy"},
			infect: write(role, harness.Map{"token_no_default_policy": false}), cure: write(role, harness.Map{"token_no_default_policy": true}),
		},
		{name: "no gateway", env: []string{"MCP_GATEWAY_URL=http://127.0.0.1:1"}, want: []string{"no gateway answers at http://127.0.0.1:1", "/readyz"}},
		{name: "something else for a gateway", env: []string{"MCP_GATEWAY_URL=" + w.Vault.Address()}, want: []string{"is not a gateway"}},
		{name: "no admin listener", env: []string{"MCP_GATEWAY_ADMIN_URL=http://127.0.0.1:1"}, want: []string{"no admin listener answers", "block admin"}},
		{name: "a gateway that cannot log in", env: []string{"MCP_GATEWAY_ADMIN_URL=" + lost.Admin}, want: []string{"the gateway is not ready: not logged in to Vault", "block vault"}},
		{name: "a gateway that opens no sealed token", env: []string{"MCP_GATEWAY_ADMIN_URL=" + unsealing.Admin}, want: []string{"the gateway has no data key", "block kms"}},
		{
			name: "a KMS key that is disabled", want: []string{"AWS KMS has unwrapped 0 of 1 data keys", "kms:Decrypt"},
			infect: func() {
				w.kms.Disable(t)
				w.Eventually("the gateway has been told", func() error {
					if !strings.Contains(w.Gateway.Metrics(), "mcp_gateway_kms_data_keys_usable 0") {
						return errFindings{"it has not"}
					}
					return nil
				})
			},
			cure: func() { w.kms.Enable(t) },
		},
		{
			name: "a seal without a key", want: []string{"the tokens of the client sealed shall be sealed, and mcp/config/kms is missing", "mcp/clients/sealed seal=none"},
			infect: func() {
				_, err := root.Logical().DeleteWithDataWithContext(t.Context(), "mcp/config/kms", map[string][]string{"force": {"true"}})
				require.NoError(t, err)
			},
			cure: both(write("mcp/config/kms", w.kms.Settings()), func() { w.unwrapped(t) }),
		},
		{
			name: "a seal of the mount's without a key", want: []string{"tokens shall be sealed, and mcp/config/kms is missing", "vault write mcp/config seal=none"},
			infect: func() {
				w.Write("mcp/config", harness.Map{"seal": "kms"})
				w.Write("mcp/clients/sealed", harness.Map{"seal": ""})
				_, err := root.Logical().DeleteWithDataWithContext(t.Context(), "mcp/config/kms", map[string][]string{"force": {"true"}})
				require.NoError(t, err)
			},
			cure: both(write("mcp/config/kms", w.kms.Settings()), write("mcp/config", harness.Map{"seal": "none"}), func() { w.unwrapped(t) }),
		},
		{name: "a server that redirects", want: []string{"register " + slash.URL + "/mcp/"}, infect: server("slash", slash.URL+"/mcp"), cure: remove("mcp/servers/slash")},
		{
			name: "a server that wants credentials", want: []string{"the server closed cannot be used: it refuses the gateway's credentials", "vault write mcp/servers/closed headers=Authorization=…"},
			infect: server("closed", closed.URL+"/mcp"),
			cure: func() { // as it was told
				w.Write("mcp/servers/closed", harness.Map{"headers": "Authorization=Bearer x"})
				registered := w.Read("mcp/servers/closed")
				require.Equal(t, []any{closed.URL + "/mcp", []any{"Authorization"}}, []any{registered["url"], registered["headers"]})
				w.Delete("mcp/servers/closed")
			},
		},
		{name: "a server that does not answer", want: []string{"the server gone does not answer", "correct its url"}, infect: server("gone", "http://127.0.0.1:1/mcp"), cure: remove("mcp/servers/gone")},
		{
			name: "a policy that blocks every server", want: []string{"the managed policies block every server", "allowedMcpServers", "evaluate policies= server="},
			infect: write("mcp/policies/corp", harness.Map{"managed": true, "allowedMcpServers": "[]", "allowManagedMcpServersOnly": true}), cure: lift("mcp/policies/corp"),
		},
		{
			name: "a policy that blocks all of a client's servers", want: []string{"the client one reaches none of its servers", "deniedMcpServers", "evaluate client=one"},
			infect: both(write("mcp/policies/strict", harness.Map{"deniedMcpServers": `[{"serverName":"calculator"}]`}),
				write("mcp/clients/one", harness.Map{"allowed_servers": stage.Calculator, "policies": "strict", "token_ttl": "720h"})),
			cure: both(remove("mcp/clients/one"), remove("mcp/policies/strict")),
		},
		{
			name: "a client without a server", want: []string{"the client lost may reach no server", "allowed_servers="},
			infect: write("mcp/clients/lost", harness.Map{"token_ttl": "720h"}), cure: remove("mcp/clients/lost"),
		},
		{
			name: "a token about to end, of a client", want: []string{"the token of the client short ends in ", "rotate-client/short"},
			infect: write("mcp/clients/short", harness.Map{"allowed_servers": stage.Calculator, "token_ttl": "1h"}), cure: remove("mcp/clients/short"),
		},
		{
			name: "a token that has ended", want: []string{"the token of the client past has ended", "rotate-client/past"},
			infect: func() {
				token := w.Client("past", harness.Map{"token_ttl": "1s"})
				w.Eventually("it has ended", func() error {
					if w.Write("mcp/lookup", harness.Map{"token": token})["active"] == true {
						return errFindings{"it lives"}
					}
					return nil
				})
			},
			cure: remove("mcp/clients/past"),
		},
		{
			name: "a client whose tokens were revoked", want: []string{"the client bare has no valid token", "rotate-client/bare", "disabled=true"},
			infect: func() {
				w.Client("bare", harness.Map{"token_ttl": "720h"})
				w.Write("mcp/revoke-client/bare", nil)
			},
			cure: write("mcp/clients/bare", harness.Map{"disabled": true}),
		},
		{
			name: "a token that was revoked, tried", env: []string{"MCP_TOKEN=" + refused}, args: []string{"-try-token"}, more: 1,
			want: []string{"MCP_TOKEN is not a valid token", "the gateway does not accept MCP_TOKEN: it answers 401", "audit log"},
		},
		{
			name: "a sealed token that a gateway cannot open", env: []string{"MCP_TOKEN=" + sealed, "MCP_GATEWAY_URL=" + unsealing.URL}, args: []string{"-try-token"},
			want: []string{"MCP_TOKEN is not a valid token"}, more: 1,
		},
		{
			name: "a command, and a gateway whose file allows none", args: []string{"-gateway-config", w.Gateway.Config},
			want:   []string{"does not start the server files: its file has no block stdio", "add a block stdio to " + w.Gateway.Config},
			infect: write("mcp/servers/files", harness.Map{"transport": "stdio", "command": "npx"}), cure: remove("mcp/servers/files"),
		},
		{
			name: "a command that the gateway's file does not allow", args: []string{"-gateway-config", allowing},
			want:   []string{"does not start the server files, whose command is npx: the command is not in allowed_commands", "absolute path of the program"},
			infect: write("mcp/servers/files", harness.Map{"transport": "stdio", "command": "npx"}), cure: remove("mcp/servers/files"),
		},
		{
			name: "a gateway's file with a program that is missing", args: []string{"-gateway-config", missing},
			want: []string{"the gateway does not start with " + missing, "/nowhere/npx does not exist", "-check-config"},
		},
		{name: "no token to try", args: []string{"-try-token"}, want: []string{"set MCP_TOKEN"}, more: -1},
	} {
		t.Run(d.name, func(t *testing.T) {
			if d.infect != nil {
				d.infect()
			}
			started := time.Now()
			out, status := w.doctor(t, d.env, d.args)
			require.Equal(t, 1, status, out)
			for _, want := range d.want {
				require.Contains(t, out, want)
			}
			if findings := 1 + d.more; findings > 0 {
				require.Contains(t, out, "Findings: "+strconv.Itoa(findings)+".", out)
				require.Equal(t, findings, strings.Count(out, "      → "), "a finding without advice:\n%s", out)
			}
			require.NotContains(t, out, "mcp-bootstrap: something", "the end is told twice")
			if d.name == "nothing mounted" {
				sameInJSON(t, w, d.args, out)
			}
			require.Less(t, time.Since(started), 30*time.Second)
			if d.cure != nil {
				d.cure()
			}
		})
	}
	w.healthy(t)
	out, status := w.doctor(t, []string{"MCP_TOKEN=" + good}, []string{"-try-token"})
	require.Zero(t, status, out)
	require.Contains(t, out, "the gateway accepts MCP_TOKEN")
	require.NotContains(t, out, good)

	w.Write("mcp/servers/files", harness.Map{"transport": "stdio", "command": filepath.Base(w.Programs.Bootstrap)})
	out, status = w.doctor(t, nil, []string{"-gateway-config", allowing})
	require.Zero(t, status, out)
	require.Contains(t, out, "the server files is a command that the gateway starts: "+w.Programs.Bootstrap)
	out, status = w.doctor(t, nil, nil)
	require.Zero(t, status, out)
	require.Contains(t, out, "whether the gateway starts it was not looked at")
	sameInJSON(t, w, nil, out)
}

// sameInJSON fails the test unless -format json has the same findings as the text.
func sameInJSON(t *testing.T, w *ward, args []string, text string) {
	t.Helper()
	out, status := w.doctor(t, nil, append(args, "-format", "json"))
	decoder := json.NewDecoder(strings.NewReader(out))
	decoder.DisallowUnknownFields()
	var report doctor.Report
	require.NoError(t, decoder.Decode(&report), out)
	require.ErrorIs(t, decoder.Decode(&struct{}{}), io.EOF)
	require.Equal(t, min(report.Findings, 1), status)
	var lines []string
	for _, check := range report.Checks {
		if check.OK {
			lines = append(lines, "ok    "+check.Text)
		} else {
			lines = append(lines, "WRONG "+check.Text, "      → "+check.Remedy)
		}
	}
	people, _, _ := strings.Cut(text, "\n\n")
	spans := regexp.MustCompile(`[0-9.]+(ms|s|m|h)\b|\d+h\d+m\d+s`)
	require.Equal(t, spans.ReplaceAllString(people, "T"), spans.ReplaceAllString(strings.Join(lines, "\n"), "T"))
}
