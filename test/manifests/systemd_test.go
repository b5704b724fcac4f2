package manifests

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/unit"
	"github.com/stretchr/testify/require"
)

func options(t *testing.T, name string) map[string][]string {
	t.Helper()
	file, err := os.Open(filepath.Join(deploy, "systemd", name))
	require.NoError(t, err)
	defer file.Close()
	sections, err := unit.DeserializeSections(file)
	require.NoError(t, err)
	all := map[string][]string{}
	for _, section := range sections {
		for _, entry := range section.Entries {
			key := section.Section + "." + entry.Name
			all[key] = append(all[key], entry.Value)
		}
	}
	return all
}

func TestTheServiceIsConfined(t *testing.T) {
	service := options(t, "mcp-gateway.service")
	for key, value := range map[string]string{
		"Service.User": "mcp-gateway", "Service.NoNewPrivileges": "yes", "Service.ProtectSystem": "strict", "Service.ProtectHome": "yes",
		"Service.CapabilityBoundingSet": "", "Service.AmbientCapabilities": "", "Service.MemoryDenyWriteExecute": "yes",
		"Service.KillMode": "mixed",
	} {
		require.Equal(t, []string{value}, service[key], key)
	}
	// The isolation of its children, and the folder of their homes.
	require.Contains(t, service["Service.SystemCallFilter"], "landlock_create_ruleset landlock_add_rule landlock_restrict_self")
	require.Equal(t, []string{"mcp-gateway"}, service["Service.StateDirectory"])
	require.Equal(t, []string{"0711"}, service["Service.StateDirectoryMode"])
	stop, err := time.ParseDuration(service["Service.TimeoutStopSec"][0] + "s")
	require.NoError(t, err)
	require.Greater(t, stop, 30*time.Second+500*time.Millisecond, "the defaults of drain_timeout and drain_delay")
	for _, key := range []string{"Service.ExecStart", "Service.ExecStartPre"} {
		require.True(t, strings.HasPrefix(service[key][0], "/usr/local/bin/mcp-gateway -config /etc/mcp-gateway/gateway.hcl"), key)
	}
}

// TestSystemdUnderstandsTheService asks systemd itself, where there is one: it
// finds directives that it does not know, and scores the rest: 1.2 is the best that a
// network service can reach.
func TestSystemdUnderstandsTheService(t *testing.T) {
	dir := t.TempDir()
	content, err := os.ReadFile(filepath.Join(deploy, "systemd", "mcp-gateway.service"))
	require.NoError(t, err)
	// The program is not installed here.
	path := filepath.Join(dir, "mcp-gateway.service")
	require.NoError(t, os.WriteFile(path, []byte(strings.ReplaceAll(string(content), "/usr/local/bin/mcp-gateway", "/bin/sh")), 0o600))
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Log("there is no systemd here to ask")
		return
	}
	for _, arguments := range [][]string{{"verify", "--man=no", path}, {"security", "--offline=true", "--threshold=15", path}} {
		output, err := exec.CommandContext(t.Context(), analyze, arguments...).CombinedOutput()
		require.NoError(t, err, string(output))
	}
}
