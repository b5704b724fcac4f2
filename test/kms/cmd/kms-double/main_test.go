package main

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/kms"
)

// TestTheFileSaysAllThatTheCLIReads: its version 1 takes the region from a variable of
// its own, and other variables of AWS in the shell would send requests elsewhere.
func TestTheFileSaysAllThatTheCLIReads(t *testing.T) {
	server, err := kms.Start(kms.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	script := environment(server) + "env\n"
	command := exec.CommandContext(t.Context(), "/bin/sh", "-euc", script)
	command.Env = []string{"PATH=/usr/bin:/bin", "AWS_PROFILE=work", "AWS_SESSION_TOKEN=x", "AWS_REGION=eu-west-1", "AWS_DEFAULT_REGION=eu-west-1"}
	output, err := command.Output()
	require.NoError(t, err)
	var names []string
	for line := range strings.Lines(string(output)) {
		if name, value, _ := strings.Cut(strings.TrimSpace(line), "="); strings.HasPrefix(name, "AWS_") {
			names = append(names, name)
			if strings.HasSuffix(name, "REGION") {
				require.Equal(t, server.Region(), value, name)
			}
		}
	}
	require.ElementsMatch(t, []string{"AWS_ENDPOINT_URL_KMS", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}, names)
}
