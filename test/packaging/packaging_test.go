//go:build packaging

package packaging

import (
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"debug/macho"
	"encoding/json"
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

// platforms are this machine's, or those that RELEASE_PLATFORMS names; "all" stands for
// every one.
func platforms() []string {
	switch named := os.Getenv("RELEASE_PLATFORMS"); named {
	case "":
		return []string{runtime.GOOS + "/" + runtime.GOARCH}
	case "all":
		return nil
	default:
		return strings.Fields(named)
	}
}

// pack packs the commit of a clone, and returns the folder with the files.
func pack(t *testing.T, clone string, env ...string) string {
	t.Helper()
	dir := t.TempDir()
	command := exec.CommandContext(t.Context(), "go", append([]string{"run", ".", "-version", version, "-out", dir}, platforms()...)...)
	command.Dir, command.Env = filepath.Join(clone, "scripts", "release"), append(os.Environ(), env...)
	output, err := command.CombinedOutput()
	require.NoError(t, err, string(output))
	require.Contains(t, string(output), "vault plugin register -sha256=")
	return dir
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
	dir := pack(t, "../..")
	root := unpack(t, filepath.Join(dir, "vault-plugin-secrets-mcp_"+version+"_"+runtime.GOOS+"_"+runtime.GOARCH+".tar.gz"))

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
		output, err := exec.CommandContext(t.Context(), "go", "env", "GOMODCACHE").Output()
		require.NoError(t, err)
		modules := strings.TrimSpace(string(output))
		for _, name := range programs {
			content, err := os.ReadFile(filepath.Join(root, name))
			require.NoError(t, err)
			require.True(t, bytes.Contains(content, []byte(version)), name)
			for _, path := range []string{folder, filepath.Join(os.TempDir(), "release-"), modules} {
				require.False(t, bytes.Contains(content, []byte(path)), "%s has %s", name, path)
			}
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
		command := inRoot(t, empty, "/mcp-gateway", "-version")
		output, err := command.CombinedOutput()
		require.NoError(t, err, string(output))
		require.True(t, strings.HasPrefix(string(output), version+" (commit "), string(output))
	})

	t.Run("Vault's side of the protocol starts the plugin", func(t *testing.T) {
		answersAsAPlugin(t, filepath.Join(root, "vault-plugin-secrets-mcp"))
	})

	t.Run("The digests are those of the files", func(t *testing.T) {
		check := exec.CommandContext(t.Context(), "sha256sum", "--check", "SHA256SUMS")
		check.Dir = dir
		output, err := check.CombinedOutput()
		require.NoError(t, err, string(output))
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Equal(t, len(entries)-1, strings.Count(string(output), ": OK\n"), "each file but the list itself")
	})

	t.Run("Debian installs, updates and removes its package", func(t *testing.T) { installs(t, dir) })
	t.Run("Red Hat's package has the same files", func(t *testing.T) { listed(t, dir) })
	t.Run("The gateway starts from its image", func(t *testing.T) { startsFromItsImage(t, dir) })
	t.Run("The digests can be signed, and the signature checked", func(t *testing.T) { isSigned(t, dir) })

	t.Run("Programs for macOS are that", func(t *testing.T) {
		found, err := filepath.Glob(filepath.Join(dir, "*_darwin_*.tar.gz"))
		require.NoError(t, err)
		if len(platforms()) > 0 {
			require.Empty(t, found)
			return
		}
		require.Len(t, found, 2)
		for _, path := range found {
			arch := strings.TrimSuffix(path[strings.LastIndex(path, "_")+1:], ".tar.gz")
			folder := unpack(t, path)
			for _, name := range programs {
				output, err := exec.CommandContext(t.Context(), "go", "version", "-m", filepath.Join(folder, name)).CombinedOutput()
				require.NoError(t, err, string(output))
				require.Contains(t, string(output), "\tGOOS=darwin\n")
				require.Contains(t, string(output), "\tGOARCH="+arch+"\n")
				require.Contains(t, string(output), "\tCGO_ENABLED=0\n")
				file, err := macho.Open(filepath.Join(folder, name))
				require.NoError(t, err)
				require.NoError(t, file.Close())
			}
		}
	})

	t.Run("The list of what is in it names every module of every program", func(t *testing.T) {
		content, err := os.ReadFile(filepath.Join(dir, "vault-plugin-secrets-mcp_"+version+"_"+runtime.GOOS+"_"+runtime.GOARCH+".cdx.json"))
		require.NoError(t, err)
		var bill struct {
			BOMFormat  string
			Components []struct{ Name, Version, PURL string }
		}
		require.NoError(t, json.Unmarshal(content, &bill))
		require.Equal(t, "CycloneDX", bill.BOMFormat)
		named := map[string]bool{}
		for _, component := range bill.Components {
			named[component.Name+"@"+component.Version] = true
		}
		for _, name := range programs {
			require.True(t, named[name+"@"+version], name)
			info, err := buildinfo.ReadFile(filepath.Join(root, name))
			require.NoError(t, err)
			for _, module := range info.Deps {
				if module.Replace != nil {
					module = module.Replace
				}
				require.True(t, named[module.Path+"@"+module.Version], "%s: %s %s", name, module.Path, module.Version)
			}
		}
	})

	t.Run("What goes with them is there", func(t *testing.T) {
		for _, name := range []string{
			"LICENSE", "CHANGELOG.md", "gateway.hcl", "docs/gateway.md", "bootstrap/policies/mcp-gateway.hcl",
			"bootstrap/deploy/systemd/mcp-gateway.service", "bootstrap/deploy/kubernetes/gateway/kustomization.yaml", "share/man1/mcp-gateway.1", "bootstrap/agent/exec.hcl",
		} {
			require.FileExists(t, filepath.Join(root, name))
		}
	})

	t.Run("The Helm chart has the version", func(t *testing.T) {
		charts := t.TempDir()
		output, err := exec.CommandContext(t.Context(), "tar", "-xzf", one(t, dir, "mcp-gateway-*.tgz"), "-C", charts).CombinedOutput()
		require.NoError(t, err, string(output))
		for _, folder := range []string{filepath.Join(charts, "mcp-gateway"), filepath.Join(root, "bootstrap/deploy/helm/mcp-gateway")} {
			chart, err := os.ReadFile(filepath.Join(folder, "Chart.yaml"))
			require.NoError(t, err)
			require.Contains(t, string(chart), "\nversion: "+strings.TrimPrefix(version, "v")+"\nappVersion: "+version+"\n")
			require.FileExists(t, filepath.Join(folder, "templates", "deployment.yaml"))
		}
		deployment, err := os.ReadFile(filepath.Join(root, "bootstrap/deploy/kubernetes/gateway/deployment.yaml"))
		require.NoError(t, err)
		require.Contains(t, string(deployment), "/mcp-gateway:"+version+`"`)
	})

	t.Run("Building the commit again, elsewhere, makes the same bytes", func(t *testing.T) {
		clone := filepath.Join(t.TempDir(), "elsewhere")
		output, err := exec.CommandContext(t.Context(), "git", "clone", "--quiet", "../..", clone).CombinedOutput()
		require.NoError(t, err, string(output))
		cache := t.TempDir() // so that nothing is taken from the first build
		again := pack(t, clone, "GOCACHE="+cache, "TZ=Asia/Tokyo", "GOAMD64=v3", "GOFLAGS=-ldflags=-X=main.x=y")
		first, err := os.ReadFile(filepath.Join(dir, "SHA256SUMS"))
		require.NoError(t, err)
		second, err := os.ReadFile(filepath.Join(again, "SHA256SUMS"))
		require.NoError(t, err)
		require.Equal(t, string(first), string(second))
	})
}

func TestAReleaseThatCannotBeIsRefused(t *testing.T) {
	full := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(full, "x"), nil, 0o600))
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"a version that Vault would refuse": {[]string{"-version", "1.2.3", "-out", t.TempDir()}, "is not a version"},
		"a platform that is not built":      {[]string{"-version", version, "-out", t.TempDir(), "plan9/amd64"}, "is not one of the platforms"},
		"a folder with other files":         {[]string{"-version", version, "-out", full}, "is not empty"},
	} {
		t.Run(name, func(t *testing.T) {
			command := exec.CommandContext(t.Context(), "go", append([]string{"run", "."}, tc.args...)...)
			command.Dir = "../../scripts/release"
			output, err := command.CombinedOutput()
			require.Error(t, err)
			require.Contains(t, string(output), tc.want)
		})
	}
}
