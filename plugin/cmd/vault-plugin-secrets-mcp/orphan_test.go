package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/hashicorp/vault/sdk/plugin"
	"github.com/stretchr/testify/require"
)

// roleVariable has the test's program act as Vault, or as the plugin that this
// one starts.
const roleVariable = "TEST_PLUGIN_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "vault":
		actAsVault()
	case "plugin":
		os.Args = os.Args[:1]
		main()
	default:
		os.Exit(m.Run())
	}
}

// actAsVault starts the plugin as Vault does, says its process id once it serves,
// and never ends.
func actAsVault() {
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), roleVariable+"=plugin", "PLUGIN_PROTOCOL_VERSIONS=5", api.PluginAutoMTLSEnv+"=true",
		plugin.HandshakeConfig.MagicCookieKey+"="+plugin.HandshakeConfig.MagicCookieValue)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err == nil {
		err = child.Start()
	}
	if err == nil {
		_, err = bufio.NewReader(out).ReadString('\n') // where it listens
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(child.Process.Pid)
	_, _ = io.Copy(io.Discard, os.Stdin) // which does not end
}

func TestThePluginEndsWhenVaultIsKilled(t *testing.T) {
	self, err := os.Executable()
	require.NoError(t, err)
	vault := exec.CommandContext(t.Context(), self)
	vault.Env = append(os.Environ(), roleVariable+"=vault")
	vault.Stderr = os.Stderr
	in, err := vault.StdinPipe()
	require.NoError(t, err)
	defer in.Close()
	out, err := vault.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, vault.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	require.NoError(t, err, line)
	started, err := os.FindProcess(pid)
	require.NoError(t, err)
	t.Cleanup(func() { _ = started.Kill() })
	require.True(t, runs(pid))

	require.NoError(t, vault.Process.Kill())
	_ = vault.Wait()
	require.Eventually(t, func() bool { return !runs(pid) }, 10*orphanPoll, 10*time.Millisecond)
}

// runs reports whether a process has not ended, whether or not somebody has taken
// note of its end.
func runs(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !bytes.Contains(stat, []byte(") Z "))
}

func TestAPluginWhoseParentStaysGoesOn(t *testing.T) {
	parent := []int{7, 7, 7, 7, 1}
	looks := 0
	ended := false
	whenOrphaned(func() int {
		looks++
		return parent[looks-1]
	}, time.Millisecond, func() { ended = true })
	require.True(t, ended)
	require.Equal(t, len(parent), looks, "it ended before its parent did")
}
