package harness

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"

	"vault-plugin-secrets-mcp/bootstrap/process"
	"vault-plugin-secrets-mcp/bootstrap/provision"
)

// Vault is the Vault in which the engine runs.
type Vault struct {
	// Nodes are its servers: one in dev mode, or those of the cluster.
	Nodes []*Node
	// RootToken may do anything.
	RootToken string

	h       *Harness
	plugins string // the plugin folder
	unseal  string // the key, base64, that unseals every node of a cluster; dev mode needs none
}

// Client returns a new client with the root token, for the first node that runs.
// Standbys forward requests to the leader.
func (v *Vault) Client() *api.Client {
	v.h.t.Helper()
	for _, node := range v.Nodes {
		if node.Running() {
			return node.Client()
		}
	}
	v.h.t.Fatal("no node of Vault runs")
	return nil
}

// ClientWithToken returns a new client with the given token.
func (v *Vault) ClientWithToken(token string) *api.Client {
	v.h.t.Helper()
	client := v.Client()
	client.SetToken(token)
	return client
}

// Address is the URL of the first node that runs.
func (v *Vault) Address() string {
	v.h.t.Helper()
	return v.Client().Address()
}

// client is for one server. It ignores the environment, and never repeats a request. A
// server with TLS has a certificate of the authority.
func client(t testing.TB, address, token, authority string) *api.Client {
	t.Helper()
	config := api.DefaultConfig()
	if config.Error != nil {
		t.Fatal(config.Error)
	}
	config.Address = address
	config.MaxRetries = 0
	if authority != "" {
		if err := config.ConfigureTLS(&api.TLSConfig{CACert: authority}); err != nil {
			t.Fatal(err)
		}
	}
	client, err := api.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	client.SetToken(token)
	client.ClearNamespace()
	return client
}

// newVault prepares the files that all servers of one Vault share.
func newVault(h *Harness) (*Vault, error) {
	v := &Vault{h: h, RootToken: "root-" + rand.Text(), plugins: filepath.Join(h.Dir, "plugins")}
	if err := os.Mkdir(v.plugins, 0o755); err != nil {
		return nil, err
	}
	// A copy: a test may replace it.
	return v, provision.CopyProgram(h.Programs.Plugin, filepath.Join(v.plugins, provision.PluginName), 0o755)
}

// Plugin enters another secrets engine's program in the catalog, under that name.
func (h *Harness) Plugin(name, program string) {
	h.t.Helper()
	err := provision.CopyProgram(program, filepath.Join(h.Vault.plugins, name), 0o755)
	var sum string
	if err == nil {
		sum, err = provision.Checksum(program)
	}
	if err != nil {
		h.t.Fatal(err)
	}
	h.Write("sys/plugins/catalog/secret/"+name, Map{"command": name, "sha256": sum})
}

// UseEngine replaces the engine's program, for example by another version. If the engine is
// mounted, that is an upgrade in place, also while it is in use: the mount names its
// version.
func (h *Harness) UseEngine(program string) {
	h.t.Helper()
	if err := h.useEngine(program); err != nil {
		h.t.Fatal(err)
	}
}

func (h *Harness) useEngine(program string) error {
	ctx, client := h.t.Context(), h.Vault.Client()
	out, err := exec.CommandContext(ctx, program, "-version").Output()
	if err != nil {
		return fmt.Errorf("cannot read the version of %s: %w", program, err)
	}
	version, _, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	command := fmt.Sprintf("engine-%d", h.count("engine"))
	sum, err := provision.Checksum(program)
	if err != nil {
		return err
	}
	if err := provision.CopyProgram(program, filepath.Join(h.Vault.plugins, command), 0o755); err != nil {
		return err
	}
	err = client.Sys().RegisterPluginWithContext(ctx, &api.RegisterPluginInput{
		Name: provision.PluginName, Type: api.PluginTypeSecrets, Command: command, SHA256: sum, Version: version,
	})
	if err != nil {
		return err
	}
	mounts, err := client.Sys().ListMountsWithContext(ctx)
	if err != nil {
		return err
	}
	if mounts[Mount+"/"] == nil {
		return provision.MountVersion(ctx, client, Mount, version)
	}
	if err := client.Sys().TuneMountAllowNilWithContext(ctx, Mount, api.TuneMountConfigInput{PluginVersion: &version}); err != nil {
		return err
	}
	_, err = client.Sys().ReloadPluginWithContext(ctx, &api.ReloadPluginInput{Mounts: []string{Mount + "/"}})
	return err
}

// common are the lines of every server's file. They allow reading raw storage, so that
// tests can look into it.
func (v *Vault) common() string { return "raw_storage_endpoint = true\n" + v.h.auditLines() }

// settings are those of dev mode.
func (v *Vault) settings() string {
	return v.common() + fmt.Sprintf("plugin_directory = %q\ndisable_mlock = true\n", v.plugins)
}

func startDev(ctx context.Context, h *Harness, lines string) (*Vault, error) {
	v, err := newVault(h)
	if err != nil {
		return nil, err
	}
	config := filepath.Join(h.Dir, "vault.hcl")
	// A lone server would listen for others on a port next to its own.
	if err := os.WriteFile(config, []byte(v.settings()+"disable_clustering = true\n"+lines), 0o600); err != nil {
		return nil, err
	}
	node := &Node{vault: v, name: "vault", address: FreeAddress(h.t)}
	node.spec = process.Spec{
		Name: node.name,
		Path: h.Programs.Vault,
		Args: []string{"server", "-dev", "-dev-no-store-token", "-dev-listen-address=" + node.address, "-config=" + config},
		Env:  append(RaceEnv(), "VAULT_DEV_ROOT_TOKEN_ID="+v.RootToken),
		Log:  filepath.Join(h.Dir, "vault.log"),
		Keep: keepLine,
	}
	v.Nodes = []*Node{node}
	if err := node.start(ctx); err != nil {
		return nil, err
	}
	return v, node.process.Await(ctx, patience, func(ctx context.Context) error { return healthy(ctx, node.Client()) })
}

// healthy is nil where the server is unsealed and has a leader it can reach.
func healthy(ctx context.Context, client *api.Client) error {
	health, err := client.Sys().HealthWithContext(ctx)
	if err != nil {
		return err
	}
	if !health.Initialized || health.Sealed {
		return fmt.Errorf("initialized %v, sealed %v", health.Initialized, health.Sealed)
	}
	// Health is good before dev mode has made its root token.
	_, err = client.Auth().Token().LookupSelfWithContext(ctx)
	return err
}

// keepLine drops the lines in which dev mode prints its secrets.
func keepLine(line []byte) bool {
	text := string(line)
	return !strings.HasPrefix(text, "Root Token:") && !strings.HasPrefix(text, "Unseal Key:")
}

// RaceEnv makes a program continue after a race, so that its log has all races, and
// checkLogs finds them. It also removes the second that a program waits at its end.
func RaceEnv() []string { return []string{"GORACE=halt_on_error=0 atexit_sleep_ms=50"} }
