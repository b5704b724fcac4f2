package isolation

import (
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"vault-plugin-secrets-mcp/test/harness"
)

// gatewaySecret is in the gateway's environment, as a token of Vault's may be.
const gatewaySecret = "a-secret-of-the-gateways-own"

// TestAChildReadsNoSecretOfTheGateways has the spy look for them wherever Linux
// would show them: as another account, and as the gateway's own.
func TestAChildReadsNoSecretOfTheGateways(t *testing.T) {
	h, program := newStage(t)
	token := h.CreateClient("c", harness.Map{"allowed_servers": "spy"})
	g := h.StartGateway(harness.GatewayOptions{Blocks: stdioBlock(program), Env: []string{"VAULT_TOKEN=" + gatewaySecret}})
	t.Run("where the file says who it runs as", func(t *testing.T) {
		if asRoot {
			// Of another account it can read no file either.
			spyOn(t, h.In(t), g.ServerURL("spy"), token, filepath.Join(h.Dir, "secret_id"), g.Config, g.AuditLog)
			return
		}
		spyOn(t, h.In(t), g.ServerURL("spy"), token)
	})
	t.Run("as the gateway's own account, which is not root's", func(t *testing.T) {
		spyOn(t, h.In(t), startUnprivileged(t, h.In(t), program), token)
	})
}

// TestNoChildReadsWhatIsAnothers has the spy look at another client's child, and at
// another server's child of the same client, wherever Linux would show them.
func TestNoChildReadsWhatIsAnothers(t *testing.T) {
	h, program := newStage(t)
	h.Write("mcp/servers/other", harness.Map{"transport": "stdio", "command": program, "env": harness.Map{spyVariable: "1", "SECRET": "of-the-other-server"}})
	tokens := map[string]string{}
	for _, client := range []string{"first", "second"} {
		tokens[client] = h.CreateClient(client, harness.Map{"allowed_servers": "spy,other"})
	}
	ways := map[string]func(t *testing.T, h *harness.Harness) string{
		"as the gateway's own account, which is not root's": func(t *testing.T, h *harness.Harness) string {
			t.Helper()
			return startUnprivileged(t, h, program)
		},
		"as whom the file says": func(t *testing.T, h *harness.Harness) string {
			t.Helper()
			return h.StartGateway(harness.GatewayOptions{Blocks: stdioBlock(program)}).ServerURL("spy")
		},
	}
	if asRoot {
		ways["as accounts of their own"] = func(t *testing.T, h *harness.Harness) string {
			t.Helper()
			return h.StartGateway(harness.GatewayOptions{Blocks: map[string]string{
				"stdio": fmt.Sprintf("allowed_commands = [%q]\nuid_range = \"70000-70007\"\nmax_children = 8", program),
			}}).ServerURL("spy")
		}
		ways["as root"] = func(t *testing.T, h *harness.Harness) string {
			t.Helper()
			return h.StartGateway(harness.GatewayOptions{Blocks: map[string]string{"stdio": fmt.Sprintf("allowed_commands = [%q]", program)}}).ServerURL("spy")
		}
	}
	for name, start := range ways {
		t.Run(name, func(t *testing.T) {
			h := h.In(t)
			url := start(t, h)
			other := strings.Replace(url, "/servers/spy/", "/servers/other/", 1)
			spy := h.Connect(url, tokens["first"])
			for whose, session := range map[string]*mcp.ClientSession{
				"another client's":                    h.Connect(url, tokens["second"]),
				"another client's, of another server": h.Connect(other, tokens["second"]),
				"its own client's, of another server": h.Connect(other, tokens["first"]),
			} {
				victim := ask[sight](t, session, "look", nil)
				proc := fmt.Sprintf("/proc/%d/", victim.PID)
				for _, path := range []string{
					proc + "environ", proc + "mem", proc + "maps", proc + "fd", proc + "cwd/.", proc + "root/.",
					victim.Folder, filepath.Join(victim.Folder, "tmp"), filepath.Dir(victim.Folder),
				} {
					if got := ask[words](t, spy, "read", words{path}).Text; !strings.Contains(got, "permission denied") {
						t.Errorf("%s: it reads %s: %.60q", whose, path, got)
					}
				}
				if got := ask[words](t, spy, "attach", number{victim.PID}).Text; !strings.Contains(got, "operation not permitted") {
					t.Errorf("%s: it can trace it: %s", whose, got)
				}
			}
		})
	}
}

// spyOn has the spy look at its gateway, and read files.
func spyOn(t *testing.T, h *harness.Harness, url, token string, files ...string) {
	t.Helper()
	session := h.Connect(url, token)
	seen := ask[sight](t, session, "look", nil)
	for _, variable := range seen.Environment {
		name, value, _ := strings.Cut(variable, "=")
		if value == gatewaySecret || strings.HasPrefix(name, "VAULT_") || strings.HasPrefix(name, "MCP_") || strings.HasPrefix(name, "GO") {
			t.Errorf("its environment has %s", variable)
		}
	}
	pipes := 0
	for _, file := range seen.Files {
		switch {
		case strings.HasPrefix(file, "pipe:"):
			pipes++
		case strings.HasPrefix(file, "anon_inode:"), strings.HasPrefix(file, "/sys/fs/cgroup/"),
			file == fmt.Sprintf("/proc/%d/fd", seen.PID): // of its own run time
		default:
			t.Errorf("it has %s open", file)
		}
	}
	if pipes != 3 {
		t.Errorf("it has %d pipes, and not its input and two outputs: %v", pipes, seen.Files)
	}
	proc := fmt.Sprintf("/proc/%d/", seen.Parent)
	for _, path := range append([]string{proc + "environ", proc + "mem", proc + "maps", proc + "fd", proc + "cwd/.", proc + "root/."}, files...) {
		if got := ask[words](t, session, "read", words{path}).Text; !strings.Contains(got, "permission denied") {
			t.Errorf("it reads %s: %.60q", path, got)
		}
	}
	if got := ask[words](t, session, "attach", number{seen.Parent}).Text; !strings.Contains(got, "operation not permitted") {
		t.Errorf("it can trace the gateway: %s", got)
	}
}

// startUnprivileged starts a gateway whose account is nobody's, where the test is
// root's, and otherwise the test's; its children have the same. It returns the
// spy's URL.
func startUnprivileged(t *testing.T, h *harness.Harness, program string) string {
	t.Helper()
	// The files that it may read and write, in a folder of its own.
	dir := openFolder(t)
	source := h.StartGateway(harness.GatewayOptions{Blocks: map[string]string{"stdio": fmt.Sprintf("allowed_commands = [%q]", program)}})
	source.Stop()
	for _, name := range []string{"role_id", "secret_id"} {
		copyFile(t, filepath.Join(h.Dir, name), filepath.Join(dir, name), 0o600)
	}
	config, err := os.ReadFile(source.Config)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "gateway.hcl")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(string(config), h.Dir, dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	gateway := exec.CommandContext(context.WithoutCancel(t.Context()), copyProgram(t, h.Programs.Gateway, filepath.Join(dir, "mcp-gateway")), "-config="+file)
	gateway.Env = []string{"VAULT_TOKEN=" + gatewaySecret, "GORACE=halt_on_error=0 atexit_sleep_ms=50"}
	if asRoot {
		gateway.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return os.Chown(path, nobody, nobody)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	log, err := os.Create(filepath.Join(h.Dir, "unprivileged.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	gateway.Stderr = log
	if err := gateway.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = gateway.Process.Signal(syscall.SIGTERM)
		_ = gateway.Wait()
	})
	h.Within(30*time.Second, "the gateway is ready", func() error {
		response, err := http.Get(source.Admin + "/readyz")
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("%s", response.Status)
		}
		return nil
	})
	return source.ServerURL("spy")
}

func copyFile(t *testing.T, from, to string, mode os.FileMode) {
	t.Helper()
	content, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, content, mode)
	}
	if err != nil {
		t.Fatal(err)
	}
}
