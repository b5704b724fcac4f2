package policy

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/policy"
	"vault-plugin-secrets-mcp/bootstrap/demo"
	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/stage"
)

// TestRestrictionPatterns writes each example of bootstrap/examples as it stands
// and asks for four servers: the gateway, evaluate and the audit log must agree.
func TestRestrictionPatterns(t *testing.T) {
	const (
		yes     = policy.Allowed
		denied  = policy.BlockedDeny
		blocked = policy.BlockedAllow
		off     = policy.NotInAllowedServers
	)
	patterns := map[string]map[string]string{
		"disable-mcp":         {"calculator": blocked, "notes": blocked, "retired": blocked, "other": blocked},
		"fixed-deployment":    {"calculator": yes, "notes": yes, "retired": off, "other": off},
		"approved-catalog":    {"calculator": yes, "notes": yes, "retired": denied, "other": blocked},
		"broadened-allowlist": {"calculator": yes, "notes": yes, "retired": blocked, "other": blocked},
		"denylist-only":       {"calculator": yes, "notes": denied, "retired": yes, "other": yes},
		"no-restrictions":     {"calculator": yes, "notes": yes, "retired": yes, "other": yes},
	}
	examples, err := os.ReadDir("../../bootstrap/examples")
	require.NoError(t, err)
	for _, example := range examples {
		if _, err := os.Stat(filepath.Join("../../bootstrap/examples", example.Name(), "client.json")); err == nil {
			require.Contains(t, patterns, example.Name(), "an example that no test knows")
		}
	}

	h := harness.New(t)
	servers := demo.Handler(demo.Calculator())
	upstream := h.StartUpstream(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.URL.Path = demo.Path // there is one at every path
		servers.ServeHTTP(w, r)
	}))
	for _, server := range []string{"calculator", "notes", "retired"} {
		h.Write("mcp/servers/"+server, harness.Map{"transport": "http", "url": upstream.URL})
	}
	h.Write("mcp/servers/other", harness.Map{"transport": "http", "url": upstream.URL + "/other"})
	gateway := h.StartGateway(harness.GatewayOptions{})

	for name, decisions := range patterns {
		t.Run(name, func(t *testing.T) {
			h := h.In(t)
			dir := filepath.Join("../../bootstrap/examples", name)
			writeExample(t, h, dir, "managed-settings.json", "mcp/policies/corp", harness.Map{"managed": true})
			writeExample(t, h, dir, "team-settings.json", "mcp/policies/team", nil)
			client := "user-of-" + name
			token := h.CreateClient(client, example(t, dir, "client.json"))
			for server, want := range decisions {
				answer := h.Write("mcp/evaluate", harness.Map{"client": client, "server": server})
				require.Equal(t, want, answer["decision"], "%s: %s", server, answer["reason"])

				upstream.Forget()
				got := h.Call(gateway.ServerURL(server), token, "echo", `{"message":"hi"}`)
				if want == yes {
					require.NotEqual(t, http.StatusForbidden, got.Status, server)
					require.Positive(t, upstream.Count(), "%s was not reached", server)
					continue
				}
				require.Equal(t, http.StatusForbidden, got.Status, server)
				require.Zero(t, upstream.Count(), "%s was reached", server)
				line := stage.AwaitRefusal(h, gateway, client, server, 1)
				require.Equal(t, want, line["reason"], server)
				require.Equal(t, answer["reason"], line["detail"], "the audit log and evaluate differ")
			}
			for server, want := range decisions {
				upstream.Forget()
				got := h.Call(stage.Aggregate.URL(gateway, server), token, stage.Aggregate.Tool(server, "echo"), `{"message":"hi"}`)
				if want == yes {
					require.Equal(t, 1, stage.ToolCalls(upstream), "%s was not reached: %s", server, got.Body)
					continue
				}
				require.Equal(t, http.StatusOK, got.Status, server)
				require.Contains(t, got.Body, `"code":-32602`, server)
				require.Zero(t, stage.ToolCalls(upstream), "%s was reached", server)
				line := stage.AwaitRefusal(h, gateway, client, server, 2)
				require.Equal(t, want, line["reason"], server)
			}
			h.Delete("mcp/clients/" + client)
			for _, policy := range []string{"corp", "team"} {
				h.DeleteForced("mcp/policies/" + policy)
			}
		})
	}
}

// TestPolicyChangeReachesAnOpenGateway denies a server while a client uses it.
func TestPolicyChangeReachesAnOpenGateway(t *testing.T) {
	h := harness.New(t)
	upstream := h.StartUpstream(nil)
	h.Write("mcp/servers/calculator", harness.Map{"transport": "http", "url": upstream.URL})
	token := h.CreateClient("c", harness.Map{"allowed_servers": "*"})
	gateway := h.StartGateway(harness.GatewayOptions{})
	// reaches reports whether a call reaches the server, at both endpoints alike.
	reaches := func() error {
		for _, at := range stage.Endpoints {
			upstream.Forget()
			h.Call(at.URL(gateway, "calculator"), token, at.Tool("calculator", "echo"), `{}`)
			if stage.ToolCalls(upstream) == 0 {
				return errors.New("the call is refused " + at.String())
			}
		}
		return nil
	}
	isRefused := func() error {
		for _, at := range stage.Endpoints {
			upstream.Forget()
			h.Call(at.URL(gateway, "calculator"), token, at.Tool("calculator", "echo"), `{}`)
			if stage.ToolCalls(upstream) != 0 {
				return errors.New("the call passes " + at.String())
			}
		}
		return nil
	}
	require.NoError(t, reaches())
	h.Write("mcp/policies/corp", harness.Map{"managed": true, "deniedMcpServers": `[{"serverName":"calculator"}]`})
	h.Within(stage.InForce, "the denial to reach the gateway", isRefused)
	h.DeleteForced("mcp/policies/corp")
	h.Within(stage.InForce, "its end to reach the gateway", reaches)
}

func example(t *testing.T, dir, file string) harness.Map {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(dir, file))
	require.NoError(t, err)
	var data harness.Map
	require.NoError(t, json.Unmarshal(content, &data))
	return data
}

// writeExample writes a policy, where the example has that file.
func writeExample(t *testing.T, h *harness.Harness, dir, file, path string, more harness.Map) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(dir, file)); errors.Is(err, fs.ErrNotExist) {
		return
	}
	data := example(t, dir, file)
	for k, v := range more {
		data[k] = v
	}
	h.Write(path, data)
}
