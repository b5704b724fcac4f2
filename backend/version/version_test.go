package version

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestABuildSaysWhatTheGoCommandNoted(t *testing.T) {
	noted := func(version string, settings ...string) *debug.BuildInfo {
		info := &debug.BuildInfo{GoVersion: "go1.26.8", Main: debug.Module{Version: version}}
		for i := 0; i < len(settings); i += 2 {
			info.Settings = append(info.Settings, debug.BuildSetting{Key: settings[i], Value: settings[i+1]})
		}
		return info
	}
	for name, tc := range map[string]struct {
		info   *debug.BuildInfo
		number string
		want   string
	}{
		"a module that was installed by its version": {noted("v0.2.0"), "v0.2.0", "v0.2.0 (go1.26.8)"},
		"a working copy": {
			noted("v0.2.1-0.20261201021246-810099fabcde", "vcs.revision", "810099fabcde", "vcs.time", "2026-12-01T02:12:46Z", "vcs.modified", "false"),
			"v0.2.1-0.20261201021246-810099fabcde", "v0.2.1-0.20261201021246-810099fabcde (commit 810099fabcde, 2026-12-01T02:12:46Z, go1.26.8)",
		},
		"a working copy with changes": {
			noted("(devel)", "vcs.revision", "810099fabcde", "vcs.time", "2026-12-01T02:12:46Z", "vcs.modified", "true"),
			"", " (commit 810099fabcde with changes, 2026-12-01T02:12:46Z, go1.26.8)",
		},
		"no working copy": {noted("(devel)"), "", " (go1.26.8)"},
	} {
		t.Run(name, func(t *testing.T) {
			b := read(tc.info)
			require.Equal(t, tc.number, b.number)
			require.Equal(t, tc.want, b.String())
		})
	}
}

// TestAReleaseSaysItsVersionCommitAndDate builds a program as a release is built.
func TestAReleaseSaysItsVersionCommitAndDate(t *testing.T) {
	dir := t.TempDir()
	main := filepath.Join(dir, "main.go")
	require.NoError(t, os.WriteFile(main, []byte(`package main

import "vault-plugin-secrets-mcp/backend/version"

func main() { println(version.Number() + "|" + version.String()) }
`), 0o600))
	built := func(flags ...string) string {
		program := filepath.Join(dir, "program")
		out, err := exec.CommandContext(t.Context(), "go", append(append([]string{"build", "-buildvcs=false", "-o", program}, flags...), main)...).CombinedOutput()
		require.NoError(t, err, "%s", out)
		out, err = exec.CommandContext(t.Context(), program).CombinedOutput()
		require.NoError(t, err)
		return strings.TrimSpace(string(out))
	}
	const at = "-X vault-plugin-secrets-mcp/backend/version."
	require.Equal(t, "v1.2.3|v1.2.3 (commit 0123456789ab, 2026-12-01T00:00:00Z, "+runtime.Version()+")",
		built("-ldflags", at+"number=v1.2.3 "+at+"commit=0123456789ab "+at+"date=2026-12-01T00:00:00Z"))
	require.Equal(t, "v0.0.0-dev|v0.0.0-dev ("+runtime.Version()+")", built())
}
