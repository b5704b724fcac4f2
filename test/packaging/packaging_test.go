//go:build packaging

package packaging

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"debug/elf"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const version = "v9.8.7-rc.1"

var programs = []string{"vault-plugin-secrets-mcp", "mcp-gateway", "mcp-bootstrap"}

// pack packs for this machine, and returns the package's path and its digest.
func pack(t *testing.T) (path, digest string) {
	t.Helper()
	dir := t.TempDir()
	output, err := exec.CommandContext(t.Context(), "../../scripts/package.sh", version, dir, runtime.GOOS+"/"+runtime.GOARCH).CombinedOutput()
	require.NoError(t, err, string(output))
	path = filepath.Join(dir, "vault-plugin-secrets-mcp_"+version+"_"+runtime.GOOS+"_"+runtime.GOARCH+".tar.gz")
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	sum := sha256.Sum256(content)
	digest = hex.EncodeToString(sum[:])
	sums, err := os.ReadFile(filepath.Join(dir, "SHA256SUMS"))
	require.NoError(t, err)
	require.Equal(t, digest+"  "+filepath.Base(path)+"\n", string(sums))
	return path, digest
}

// unpack returns the folder that is in a package.
func unpack(t *testing.T, path string) string {
	t.Helper()
	dir := t.TempDir()
	output, err := exec.CommandContext(t.Context(), "tar", "-xzf", path, "-C", dir).CombinedOutput()
	require.NoError(t, err, string(output))
	return filepath.Join(dir, strings.TrimSuffix(filepath.Base(path), ".tar.gz"))
}

func TestPackage(t *testing.T) {
	path, digest := pack(t)
	root := unpack(t, path)

	t.Run("The programs are linked statically", func(t *testing.T) {
		for _, name := range programs {
			file, err := elf.Open(filepath.Join(root, name))
			require.NoError(t, err)
			for _, header := range file.Progs {
				require.NotEqual(t, elf.PT_INTERP, header.Type, "%s needs a loader", name)
				require.NotEqual(t, elf.PT_DYNAMIC, header.Type, "%s needs libraries", name)
			}
			require.NoError(t, file.Close())
			info, err := buildinfo.ReadFile(filepath.Join(root, name))
			require.NoError(t, err)
			for _, setting := range info.Settings {
				require.False(t, setting.Key == "CGO_ENABLED" && setting.Value != "0", name)
			}
		}
	})

	t.Run("They know their version, and no path of the machine that built them", func(t *testing.T) {
		folder, err := filepath.Abs("../..")
		require.NoError(t, err)
		for _, name := range programs {
			content, err := os.ReadFile(filepath.Join(root, name))
			require.NoError(t, err)
			require.True(t, bytes.Contains(content, []byte(version)), name)
			require.False(t, bytes.Contains(content, []byte(folder)), name)
		}
		for name, argument := range map[string]string{"vault-plugin-secrets-mcp": "-version", "mcp-gateway": "--version", "mcp-bootstrap": "version"} {
			output, err := exec.CommandContext(t.Context(), filepath.Join(root, name), argument).Output()
			require.NoError(t, err)
			require.Contains(t, string(output), version)
		}
	})

	t.Run("The plugin's digest is what Vault's catalog wants", func(t *testing.T) {
		check := exec.CommandContext(t.Context(), "sha256sum", "--check", "vault-plugin-secrets-mcp.sha256")
		check.Dir = root
		output, err := check.CombinedOutput()
		require.NoError(t, err, string(output))
	})

	t.Run("The gateway runs where there is nothing else", func(t *testing.T) {
		empty := t.TempDir()
		content, err := os.ReadFile(filepath.Join(root, "mcp-gateway"))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(empty, "mcp-gateway"), content, 0o755))
		require.NoError(t, os.Chmod(empty, 0o755))
		// In a user's own namespace where the account is not root.
		command := exec.CommandContext(t.Context(), "unshare", "--user", "--map-root-user", "--root="+empty, "/mcp-gateway", "-version")
		if os.Geteuid() == 0 {
			command = exec.CommandContext(t.Context(), "chroot", "--userspec=65532:65532", empty, "/mcp-gateway", "-version")
		}
		output, err := command.CombinedOutput()
		require.NoError(t, err, string(output))
		require.Equal(t, version+"\n", string(output))
	})

	t.Run("What goes with them is there", func(t *testing.T) {
		for _, name := range []string{
			"LICENSE", "CHANGELOG.md", "gateway.hcl", "docs/gateway.md", "bootstrap/policies/mcp-gateway.hcl",
			"bootstrap/deploy/systemd/mcp-gateway.service", "bootstrap/deploy/kubernetes/gateway/kustomization.yaml", "bootstrap/agent/exec.hcl",
		} {
			require.FileExists(t, filepath.Join(root, name))
		}
	})

	t.Run("Building again makes the same bytes", func(t *testing.T) {
		_, again := pack(t)
		require.Equal(t, digest, again)
	})
}

func TestAVersionThatVaultWouldRefuseIsRefused(t *testing.T) {
	output, err := exec.CommandContext(t.Context(), "../../scripts/package.sh", "1.2.3", t.TempDir()).CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(output), "is not a version")
}
