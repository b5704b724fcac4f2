//go:build packaging

package packaging

import (
	"crypto/x509"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// installed are the files that both packages must have, beside the documents.
var installed = []string{
	"/usr/bin/mcp-gateway", "/usr/bin/mcp-bootstrap", "/usr/libexec/mcp-gateway/vault-plugin-secrets-mcp",
	"/usr/lib/systemd/system/mcp-gateway.service", "/usr/lib/sysusers.d/mcp-gateway.conf",
	"/etc/logrotate.d/mcp-gateway", "/etc/mcp-gateway/gateway.hcl",
	"/usr/share/man/man1/mcp-gateway.1.gz", "/usr/share/man/man1/mcp-bootstrap.1.gz",
	"/usr/share/bash-completion/completions/mcp-bootstrap",
	"/usr/share/fish/vendor_completions.d/mcp-gateway.fish", "/usr/share/doc/mcp-gateway/docs/gateway.md",
}

// commandOf returns the command of docs/install.md that begins like this.
func commandOf(t *testing.T, begin string) string {
	t.Helper()
	page, err := os.ReadFile("../../docs/install.md")
	require.NoError(t, err)
	var found []string
	for line := range strings.Lines(string(page)) {
		if strings.HasPrefix(line, begin) {
			found = append(found, strings.TrimSpace(line))
		}
	}
	require.Len(t, found, 1, begin)
	return found[0]
}

func one(t *testing.T, dir, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	require.NoError(t, err)
	require.Len(t, found, 1, pattern)
	path, err := filepath.Abs(found[0])
	require.NoError(t, err)
	return path
}

// The folders for zsh's completion differ.
const (
	debZsh = "/usr/share/zsh/vendor-completions/_mcp-gateway"
	rpmZsh = "/usr/share/zsh/site-functions/_mcp-gateway"
)

// debArch is Debian's name of this machine's architecture, and rpmArch Red Hat's.
var (
	debArch = runtime.GOARCH
	rpmArch = map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
)

// listed tests the list of files in the Red Hat package: there is no such system here to
// install it on.
func listed(t *testing.T, dir string) {
	output, err := exec.CommandContext(t.Context(), "rpm", "--query", "--package", "--list", one(t, dir, "*."+rpmArch+".rpm")).CombinedOutput()
	require.NoError(t, err, "%s (Debian's package rpm has it)", output)
	for _, path := range append(slices.Clone(installed), rpmZsh) {
		require.Contains(t, string(output), path+"\n")
	}
	output, err = exec.CommandContext(t.Context(), "rpm", "--query", "--package", "--configfiles", one(t, dir, "*."+rpmArch+".rpm")).CombinedOutput()
	require.NoError(t, err, string(output))
	require.Equal(t, "/etc/logrotate.d/mcp-gateway\n/etc/mcp-gateway/gateway.hcl\n", string(output))
}

// installs installs the Debian package with dpkg, on a copy of this machine that the test makes of
// an overlay, and looks at it.
func installs(t *testing.T, dir string) {
	if os.Geteuid() != 0 {
		t.Fatal("to install a package, the test must be root")
	}
	machine, err := os.MkdirTemp("", "machine-") // without a comma, as options of a mount need it
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(machine)) })
	require.NoError(t, os.Chmod(machine, 0o755))
	install := strings.ReplaceAll(commandOf(t, "dpkg --install"), "mcp-gateway_0.2.0-1_amd64.deb", "/package.deb")
	script := `set -e
mount --make-rprivate /
mkdir -p "$1/upper" "$1/work" "$1/root"
mount -t tmpfs none "$1/upper" && mkdir "$1/upper/u" "$1/upper/w"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper/u,workdir=$1/upper/w" "$1/root"
cp "$2" "$1/root/package.deb"
# There is no systemd. What says so in its place fails as it does when a gateway does not start.
printf '#!/bin/sh\necho "$*" >>/systemctl.log\ntest "$1" != try-restart\n' >"$1/root/usr/local/sbin/systemctl"
chmod 755 "$1/root/usr/local/sbin/systemctl"
exec chroot "$1/root" sh -ec '
step() { echo "== $*"; "$@"; }
step ` + install + `
step stat --format "%a %U:%G %n" /etc/mcp-gateway /etc/mcp-gateway/gateway.hcl
step getent passwd mcp-gateway
step mcp-gateway --version
step mcp-bootstrap --version
step grep ^ExecStart= /usr/lib/systemd/system/mcp-gateway.service
step ls ` + strings.Join(append(slices.Clone(installed), debZsh), " ") + `
echo "# ours" >>/etc/mcp-gateway/gateway.hcl
step dpkg --install /package.deb
step tail -n 1 /etc/mcp-gateway/gateway.hcl
chmod 700 /etc/mcp-gateway && chmod 600 /etc/mcp-gateway/gateway.hcl
dpkg --install /package.deb
step stat --format "%a %n after an update" /etc/mcp-gateway /etc/mcp-gateway/gateway.hcl
mv /etc/mcp-gateway/gateway.hcl /etc/mcp-gateway/another.hcl
step dpkg --install /package.deb
dpkg --status mcp-gateway | grep ^Status:
mv /etc/mcp-gateway/another.hcl /etc/mcp-gateway/gateway.hcl
mkdir -p /run/systemd/system
step dpkg --install /package.deb
step cat /systemctl.log
step dpkg --remove mcp-gateway
step ls /etc/mcp-gateway
step dpkg --purge mcp-gateway
test ! -e /etc/mcp-gateway/gateway.hcl && test ! -e /usr/bin/mcp-gateway && echo "nothing is left"
'`
	command := exec.CommandContext(t.Context(), "unshare", "--mount", "bash", "-c", script, "install", machine, one(t, dir, "*_"+debArch+".deb"))
	output, err := command.CombinedOutput()
	require.NoError(t, err, string(output))
	text := string(output)
	require.Contains(t, text, "750 root:mcp-gateway /etc/mcp-gateway\n640 root:mcp-gateway /etc/mcp-gateway/gateway.hcl\n")
	require.Contains(t, text, "\nmcp-gateway:x:")
	require.Contains(t, text, "\n"+version+" (commit ")
	require.Contains(t, text, "\nExecStart=/usr/bin/mcp-gateway -config /etc/mcp-gateway/gateway.hcl\n")
	require.Contains(t, text, "== tail -n 1 /etc/mcp-gateway/gateway.hcl\n# ours\n", "an update keeps what somebody has changed")
	require.Contains(t, text, "\n700 /etc/mcp-gateway after an update\n600 /etc/mcp-gateway/gateway.hcl after an update\n")
	require.Contains(t, text, "\nStatus: install ok installed\n", "an update succeeds without the file that somebody has moved")
	require.Contains(t, text, "\nmcp-gateway is installed, but did not start again: ")
	require.Contains(t, text, "== cat /systemctl.log\ndaemon-reload\ndaemon-reload\ntry-restart mcp-gateway.service\n== dpkg --remove", "it starts and enables nothing")
	require.Contains(t, text, "== ls /etc/mcp-gateway\ngateway.hcl\n", "a removal keeps the configuration")
	require.Contains(t, text, "nothing is left")
}

// descriptor is one of OCI's image layout.
type descriptor struct {
	MediaType, Digest string
	Platform          *struct{ OS, Architecture string }
}

// startsFromItsImage unpacks the image, and starts the gateway in it as the image says.
func startsFromItsImage(t *testing.T, dir string) {
	folder, root := t.TempDir(), t.TempDir()
	output, err := exec.CommandContext(t.Context(), "tar", "-xf", one(t, dir, "*_oci.tar"), "-C", folder).CombinedOutput()
	require.NoError(t, err, string(output))
	blob := func(digest string, into any) string {
		path := filepath.Join(folder, "blobs", strings.ReplaceAll(digest, ":", "/"))
		if into != nil {
			content, err := os.ReadFile(path)
			require.NoError(t, err)
			require.NoError(t, json.Unmarshal(content, into))
		}
		return path
	}
	var index struct{ Manifests []descriptor }
	content, err := os.ReadFile(filepath.Join(folder, "index.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(content, &index))
	require.Len(t, index.Manifests, 1)
	blob(index.Manifests[0].Digest, &index)
	for _, manifest := range index.Manifests {
		if manifest.Platform.OS+"/"+manifest.Platform.Architecture != runtime.GOOS+"/"+runtime.GOARCH {
			continue
		}
		var image struct {
			Config descriptor
			Layers []descriptor
		}
		blob(manifest.Digest, &image)
		var config struct {
			Config struct {
				User            string
				Entrypoint, Cmd []string
				Labels          map[string]string
			}
		}
		blob(image.Config.Digest, &config)
		require.Equal(t, "65532:65532", config.Config.User)
		require.Equal(t, []string{"/mcp-gateway"}, config.Config.Entrypoint)
		require.Equal(t, version, config.Config.Labels["org.opencontainers.image.version"])
		for _, layer := range image.Layers {
			output, err := exec.CommandContext(t.Context(), "tar", "-xf", blob(layer.Digest, nil), "-C", root).CombinedOutput()
			require.NoError(t, err, string(output))
		}
		require.NoError(t, os.Chmod(root, 0o755))

		certificates, err := os.ReadFile(filepath.Join(root, "etc/ssl/certs/ca-certificates.crt"))
		require.NoError(t, err)
		require.True(t, x509.NewCertPool().AppendCertsFromPEM(certificates))
		require.Greater(t, strings.Count(string(certificates), "BEGIN CERTIFICATE"), 100)

		output, err := inRoot(t, root, config.Config.Entrypoint[0], "-version").CombinedOutput()
		require.NoError(t, err, string(output))
		require.True(t, strings.HasPrefix(string(output), version+" (commit "), string(output))
		output, err = inRoot(t, root, append(config.Config.Entrypoint, config.Config.Cmd...)...).CombinedOutput()
		require.Error(t, err, "it has no configuration yet")
		require.Contains(t, string(output), "/etc/mcp-gateway/gateway.hcl")

		folder := filepath.Join(root, "etc", "mcp-gateway")
		require.NoError(t, os.Mkdir(folder, 0o755))
		for name, from := range map[string]string{"gateway.hcl": "../../gateway/config/smallest.hcl", "role_id": "", "secret_id": ""} {
			content := []byte("an-id")
			if from != "" {
				content, err = os.ReadFile(from)
				require.NoError(t, err)
			}
			require.NoError(t, os.WriteFile(filepath.Join(folder, name), content, 0o644))
		}
		output, err = inRoot(t, root, append(append(config.Config.Entrypoint, config.Config.Cmd...), "-check-config")...).CombinedOutput()
		require.NoError(t, err, string(output))
		return
	}
	t.Fatal("the image has nothing for this machine")
}

// inRoot starts a program where there is nothing but a folder's files, under an account without
// rights: in a user's own namespace where the account is not root.
func inRoot(t *testing.T, root string, args ...string) *exec.Cmd {
	if os.Geteuid() == 0 {
		return exec.CommandContext(t.Context(), "chroot", append([]string{"--userspec=65532:65532", root}, args...)...)
	}
	return exec.CommandContext(t.Context(), "unshare", append([]string{"--user", "--map-root-user", "--root=" + root}, args...)...)
}

// isSigned signs the digests and checks the signature with the commands of docs/install.md.
func isSigned(t *testing.T, dir string) {
	keys := t.TempDir()
	command := exec.CommandContext(t.Context(), "bash", "-ec", `
ssh-keygen -q -t ed25519 -N "" -C release -f "$KEYS/key"
cd "$FILES"
printf 'release@example.com namespaces="file" %s\n' "$(cat "$KEYS/key.pub")" >allowed_signers
`+strings.ReplaceAll(commandOf(t, "ssh-keygen -Y sign"), "KEY", `"$KEYS/key"`)+`
`+commandOf(t, "ssh-keygen -Y verify")+`
`+commandOf(t, "sha256sum --check")+`
echo "0  another" >>SHA256SUMS
! `+commandOf(t, "ssh-keygen -Y verify"))
	files := t.TempDir()
	require.NoError(t, os.CopyFS(files, os.DirFS(dir)))
	command.Env = append(os.Environ(), "KEYS="+keys, "FILES="+files)
	output, err := command.CombinedOutput()
	require.NoError(t, err, string(output))
	require.Contains(t, string(output), `Good "file" signature for release@example.com`)
}
