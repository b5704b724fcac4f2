package upgrade

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// release is an earlier version: its engine and its gateway, and the ACL policy of its gateways.
type release struct{ engine, gateway, policy string }

// v010 is the commit that the changelog calls v0.1.0.
const v010 = "24d8595b43642826dcdde3f6868e0f28ae13957b"

// sources are the paths in that commit of the files of a release, by their names in its
// folder.
var sources = map[string]string{"engine": "plugin", "gateway": "gateway", "policy": "bootstrap/policies/mcp-gateway.hcl"}

// released returns v0.1.0. It is built once, and kept below .cache by its commit.
func released(t *testing.T) release {
	t.Helper()
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	folder := filepath.Join(root, ".cache", "released", v010[:12])
	if _, err := os.Stat(folder); err != nil {
		needCommit(t, root)
		build(t, root, folder)
	}
	at := func(name string) string { return filepath.Join(folder, name) }
	return release{engine: at("engine"), gateway: at("gateway"), policy: at("policy")}
}

func needCommit(t *testing.T, root string) {
	t.Helper()
	if exec.CommandContext(t.Context(), "git", "-C", root, "cat-file", "-e", v010+"^{commit}").Run() == nil {
		return
	}
	message := fmt.Sprintf("v0.1.0 cannot be built: this clone does not have its commit %s. Get the whole history: git fetch --unshallow", v010)
	if os.Getenv("TEST_RELEASED") == "required" {
		t.Fatal(message)
	}
	t.Skip(message)
}

// build makes the folder. What is there is whole: it gets its name at the end. The libraries are the
// present ones, in the mode in which other tests have compiled them: those of then would be compiled
// for this test alone, and downloaded.
func build(t *testing.T, root, folder string) {
	t.Helper()
	began := time.Now()
	source, made := t.TempDir(), folder+".new"
	archive, err := exec.CommandContext(t.Context(), "git", "-C", root, "archive", v010).Output()
	require.NoError(t, err)
	unpack := exec.CommandContext(t.Context(), "tar", "-x", "-C", source)
	unpack.Stdin = bytes.NewReader(archive)
	require.NoError(t, unpack.Run())
	for _, libraries := range []string{"go.mod", "go.sum"} {
		copyFile(t, filepath.Join(root, libraries), filepath.Join(source, libraries))
	}
	require.NoError(t, os.RemoveAll(made))
	require.NoError(t, os.MkdirAll(made, 0o755))
	for name, path := range sources {
		if strings.HasSuffix(path, ".hcl") {
			copyFile(t, filepath.Join(source, path), filepath.Join(made, name))
			continue
		}
		compile := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false",
			"-ldflags", "-s -w -X main.version=v0.1.0 -X vault-plugin-secrets-mcp/backend.Version=v0.1.0",
			"-o", filepath.Join(made, name), "./"+path)
		compile.Dir = source
		out, err := compile.CombinedOutput()
		require.NoError(t, err, string(out))
	}
	require.NoError(t, os.Rename(made, folder))
	t.Logf("built v0.1.0 in %s", time.Since(began).Round(time.Second))
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	require.NoError(t, err)
	defer in.Close()
	out, err := os.Create(to)
	require.NoError(t, err)
	_, err = io.Copy(out, in)
	require.NoError(t, err)
	require.NoError(t, out.Close())
}
