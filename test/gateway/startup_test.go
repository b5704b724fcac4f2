package gateway

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/stage"
)

// gatewayFile is a whole configuration, with one line for each of the mistakes
// that the test makes.
const gatewayFile = `vault {
  address = "http://127.0.0.1:1"
  auth "token_file" {
    path = "/dev/null"
  }
}
listener {
  address = "127.0.0.1:0"
}
`

func TestConfigurationWithAMistakeIsRefusedWithItsLine(t *testing.T) {
	programs := harness.FindPrograms(t)
	tests := []struct {
		name, old, new string
		line           string
		words          []string
	}{
		{"a field that does not exist", `  address = "127.0.0.1:0"`, `  addresses = "127.0.0.1:0"`, "8", []string{"addresses"}},
		{"a block that does not exist", `listener {`, `listeners {`, "7", []string{"listeners"}},
		{"an invalid address", `"127.0.0.1:0"`, `"nowhere"`, "8", []string{"nowhere"}},
		{"an invalid URL", `"http://127.0.0.1:1"`, `"vault"`, "2", []string{"vault"}},
		{"a login of an unknown kind", `"token_file"`, `"password"`, "3", []string{"password", "approle"}},
		{"an invalid duration", `  address = "127.0.0.1:0"`, `  drain_timeout = "soon"`, "8", []string{"soon"}},
		{"text where a number belongs", `listener {`, "grants {\n  max_entries = \"many\"\n}\nlistener {", "8", []string{"max_entries"}},
		{"a quote that does not end", `"127.0.0.1:0"`, `"127.0.0.1:0`, "8", nil},
		{"a block that does not end", "0\"\n}\n", "0\"\n", "7", nil},
		{"a file that is not there", `  address = "127.0.0.1:0"`, `  tls_cert_file = "/no/such/file"`, "8", []string{"/no/such/file"}},
		{"a command without its path", `listener {`, "stdio {\n  allowed_commands = [\"npx\"]\n}\nlistener {", "8", []string{"npx", "absolute"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "gateway.hcl")
			content := strings.Replace(gatewayFile, test.old, test.new, 1)
			if content == gatewayFile {
				t.Fatal("the test makes no mistake")
			}
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, args := range [][]string{{"-check-config", "-config", path}, {"-config", path}} {
				out, code := runProgram(t, programs.Gateway, nil, args...)
				if code == 0 {
					t.Errorf("%q ends well: %s", args, out)
				}
				if !strings.Contains(out, path+":"+test.line+",") {
					t.Errorf("%q does not name line %s: %s", args, test.line, out)
				}
				for _, word := range test.words {
					if !strings.Contains(out, word) {
						t.Errorf("%q does not say %q: %s", args, word, out)
					}
				}
			}
		})
	}
	t.Run("a file without a mistake", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "gateway.hcl")
		if err := os.WriteFile(path, []byte(gatewayFile), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, code := runProgram(t, programs.Gateway, nil, "-check-config", "-config", path); code != 0 {
			t.Errorf("refused: %s", out)
		}
	})
	t.Run("no file", func(t *testing.T) {
		out, code := runProgram(t, programs.Gateway, nil, "-config", "/no/such/file.hcl")
		if code == 0 || !strings.Contains(out, "/no/such/file.hcl") {
			t.Errorf("exit code %d: %s", code, out)
		}
	})
}

// runProgram runs a program to its end and returns what it printed.
func runProgram(t *testing.T, program string, env []string, args ...string) (out string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), env...)
	printed, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		t.Fatalf("%s %q does not end: %s", program, args, printed)
	case errors.As(err, &exit):
		return string(printed), exit.ExitCode()
	case err != nil:
		t.Fatal(err)
	}
	return string(printed), 0
}

func TestGatewayDoesNotStartOnAPortInUse(t *testing.T) {
	h := harness.New(t)
	taken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	first := h.StartGateway(harness.GatewayOptions{})
	for name, env := range map[string]string{
		"of another program": "MCP_GATEWAY_LISTEN=" + taken.Addr().String(),
		"of another gateway": "MCP_GATEWAY_LISTEN=" + strings.TrimPrefix(first.URL, "http://"),
	} {
		t.Run(name, func(t *testing.T) {
			h := h.In(t)
			g := h.StartGateway(harness.GatewayOptions{NotReady: true, Env: []string{env}})
			select {
			case <-g.Process.Done():
			case <-time.After(time.Minute):
				t.Fatal("the gateway runs")
			}
			_, address, _ := strings.Cut(env, "=")
			if tail := g.Process.Tail(20); !strings.Contains(tail, address) || !strings.Contains(tail, "address already in use") {
				t.Errorf("it says:\n%s", tail)
			}
		})
	}
	if r := h.Do(http.MethodGet, first.Admin+"/readyz", "", nil, ""); r.Status != http.StatusOK {
		t.Errorf("the first gateway is not ready any more: %d %s", r.Status, r.Body)
	}
}

// errorLine is a line of a gateway's log at level warn or error.
var errorLine = regexp.MustCompile(`"@level":"(warn|error)"[^\n]*`)

// wantNotReady fails the test unless a gateway runs, answers nobody, and says
// in its log what it waits for.
func wantNotReady(t *testing.T, h *harness.Harness, g *harness.Gateway, words ...string) {
	t.Helper()
	h.Eventually("the gateway answers", func() error {
		content, err := os.ReadFile(g.Process.Log())
		if err != nil {
			return err
		}
		complaints := strings.Join(errorLine.FindAllString(string(content), -1), "\n")
		for _, word := range words {
			if !strings.Contains(complaints, word) {
				return errors.New("its log does not say " + word + ": " + complaints)
			}
		}
		return nil
	})
	for path, status := range map[string]int{"/healthz": http.StatusOK, "/readyz": http.StatusServiceUnavailable} {
		if r := h.Do(http.MethodGet, g.Admin+path, "", nil, ""); r.Status != status {
			t.Errorf("%s is answered %d %s", path, r.Status, r.Body)
		}
	}
	r := h.DoOnce(http.MethodPost, g.ServerURL(stage.Calculator), harness.UnissuedToken(t), nil, `{"jsonrpc":"2.0","id":1,"method":"ping"}`)
	stage.WantRefusal(t, r, http.StatusServiceUnavailable)
	if r.Header.Get("Retry-After") == "" {
		t.Errorf("the refusal has no Retry-After: %v", r.Header)
	}
}

func TestGatewayWaitsForAVaultThatCannotBeReached(t *testing.T) {
	h := harness.New(t)
	nowhere := "http://" + harness.FreeAddress(t)
	g := h.StartGateway(harness.GatewayOptions{NotReady: true, Vault: nowhere})
	wantNotReady(t, h, g, strings.TrimPrefix(nowhere, "http://"), "connection refused")
}

func TestGatewayWaitsForASealedVault(t *testing.T) {
	h := harness.New(t, harness.WithCluster(1))
	upstream := h.StartUpstream(nil)
	h.Write("mcp/servers/"+stage.Calculator, harness.Map{"transport": "http", "url": upstream.URL})
	token := h.CreateClient("cursor", harness.Map{"allowed_servers": stage.Calculator})
	warm := h.StartGateway(harness.GatewayOptions{})
	if r := h.Call(warm.ServerURL(stage.Calculator), token, "add", `{"a":40,"b":2}`); r.Status != http.StatusOK {
		t.Fatalf("answered %d %s", r.Status, r.Body)
	}
	if err := h.Vault.Client().Sys().SealWithContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	cold := h.StartGateway(harness.GatewayOptions{NotReady: true})
	wantNotReady(t, h, cold, "sealed")
	upstream.Forget()
	if r := h.DoOnce(http.MethodPost, cold.ServerURL(stage.Calculator), token, nil, harness.CallBody("add", `{"a":40,"b":2}`)); r.Status != http.StatusServiceUnavailable || upstream.Count() != 0 {
		t.Errorf("answered %d %s, and the server saw %d requests", r.Status, r.Body, upstream.Count())
	}

	h.Vault.Nodes[0].Start()
	cold.AwaitReady()
	h.Eventually("the gateway works", func() error {
		if r := h.Call(cold.ServerURL(stage.Calculator), token, "add", `{"a":40,"b":2}`); r.Status != http.StatusOK {
			return errors.New(r.Body)
		}
		return nil
	})
}
