package clients

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// withEtc shows a program an /etc of its own, with the given files beside those that
// any program needs: for files that administrators deploy there. The machine's own is
// left alone: only the program, in a mount namespace, sees the other.
func withEtc(t *testing.T, cmd *exec.Cmd, files map[string]string) *exec.Cmd {
	t.Helper()
	etc := t.TempDir()
	for _, name := range []string{"passwd", "group", "hosts", "nsswitch.conf"} {
		content, err := os.ReadFile(filepath.Join("/etc", name))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(etc, name), content, 0o644))
	}
	for name, content := range files {
		path := filepath.Join(etc, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(content), 0o644))
	}
	unshare, namespace := unshared(t)
	const within = `mount --bind "$0" /etc && exec "$@"`
	cmd.Args = append(append(namespace, "sh", "-c", within, etc), cmd.Args...)
	cmd.Path = unshare
	return cmd
}

// unshared is the command that makes a mount namespace on this machine.
func unshared(t *testing.T) (path string, args []string) {
	t.Helper()
	path, err := exec.LookPath("unshare")
	require.NoError(t, err, "it comes with util-linux")
	for _, args := range [][]string{{path, "--mount"}, {path, "--map-root-user", "--mount"}} {
		if exec.CommandContext(t.Context(), path, append(args[1:], "true")...).Run() == nil {
			return path, args
		}
	}
	t.Fatal("this machine allows no mount namespace, in which a client would read an /etc of its own: run the tests as root, or allow user namespaces")
	return "", nil
}
