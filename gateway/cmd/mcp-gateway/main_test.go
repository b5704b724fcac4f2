package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/version"
	"vault-plugin-secrets-mcp/gateway/commandline"
	"vault-plugin-secrets-mcp/gateway/commandline/commandlinetest"
)

func TestFlagsAreChecked(t *testing.T) {
	good := filepath.Join(t.TempDir(), "gateway.hcl")
	require.NoError(t, os.WriteFile(good, []byte("vault {\n  auth \"token_file\" { path = \"/x\" }\n}\n"), 0o600))
	bad := filepath.Join(t.TempDir(), "bad.hcl")
	require.NoError(t, os.WriteFile(bad, []byte("vault {}\nlog { level = \"loud\" }\n"), 0o600))
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	inUse := filepath.Join(t.TempDir(), "in-use.hcl")
	require.NoError(t, os.WriteFile(inUse, fmt.Appendf(nil, "vault {\n  auth \"token_file\" { path = \"/x\" }\n}\nlistener { address = %q }\n", taken.Addr()), 0o600))
	tests := map[string]struct {
		args   []string
		code   int
		stdout string
		stderr string
	}{
		"a good file":            {[]string{"-config", good, "-check-config"}, commandline.ExitOK, good + ": ok\n", ""},
		"a bad file":             {[]string{"-config", bad, "-check-config"}, commandline.ExitFailed, "", bad + ":2,15: log: level"},
		"a bad file, to be run":  {[]string{"-config", bad}, commandline.ExitFailed, "", bad + ":2,15: log: level"},
		"an address in use":      {[]string{"-config", inUse}, commandline.ExitFailed, "", taken.Addr().String() + ": bind: address already in use"},
		"a file that is missing": {[]string{"-config", "/nowhere/gateway.hcl", "-check-config"}, commandline.ExitFailed, "", "/nowhere/gateway.hcl"},
		"the version":            {[]string{"-version"}, commandline.ExitOK, version.String() + "\n", ""},
		"--version":              {[]string{"--version"}, commandline.ExitOK, version.String() + "\n", ""},
		"version":                {[]string{"version"}, commandline.ExitOK, version.String() + "\n", ""},
		"a word that is near":    {[]string{"versio"}, commandline.ExitUsage, "", `there is no command "versio"; did you mean version?`},
		"completion":             {[]string{"completion", "bash"}, commandline.ExitOK, "complete -F _mcp_gateway mcp-gateway\n", ""},
		"no file":                {nil, commandline.ExitUsage, "", "give the configuration with -config FILE"},
		"an argument too many":   {[]string{"-config", good, "now"}, commandline.ExitUsage, "", `it takes no argument "now"`},
		"an unknown level":       {[]string{"-config", good, "-log-level", "loud"}, commandline.ExitUsage, "", `"loud" is not one of`},
		"all mistakes at once": {
			[]string{"-log-level", "loud", "now"},
			commandline.ExitUsage, "",
			"it takes no argument \"now\"\nmcp-gateway: give the configuration with -config FILE\nmcp-gateway: -log-level: \"loud\"",
		},
		"an unknown flag": {[]string{"-verbose"}, commandline.ExitUsage, "", "flag provided but not defined"},
		"-help":           {[]string{"-help"}, commandline.ExitOK, "VAULT_ADDR", ""},
		"--help":          {[]string{"--help"}, commandline.ExitOK, "-check-config", ""},
		"-h":              {[]string{"-h"}, commandline.ExitOK, "Usage: mcp-gateway", ""},
		"help":            {[]string{"help"}, commandline.ExitOK, "Usage: mcp-gateway", ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			require.Equal(t, test.code, run(test.args, &stdout, &stderr))
			require.Contains(t, stdout.String(), test.stdout)
			require.Contains(t, stderr.String(), test.stderr)
			if test.code == commandline.ExitOK {
				require.Empty(t, stderr.String())
			}
		})
	}
}

func TestEachFlagIsInHelpCompletionAndManual(t *testing.T) {
	commandlinetest.Check(t, program)
}

// TestCheckConfigFindsMistakesOfTheEnvironment, which would end the gateway at its start,
// and warns of settings that work and should not stay.
func TestCheckConfigFindsMistakesOfTheEnvironment(t *testing.T) {
	file := filepath.Join(t.TempDir(), "gateway.hcl")
	require.NoError(t, os.WriteFile(file, []byte("vault {\n  address = \"http://vault.example.com:8200\"\n  auth \"token_file\" { path = \"/x\" }\n}\n"+
		"listener { address = \"0.0.0.0:8080\" }\n"), 0o600))
	check := func() (code int, stdout, stderr string) {
		var out, err bytes.Buffer
		code = run([]string{"-config", file, "-check-config"}, &out, &err)
		return code, out.String(), err.String()
	}
	t.Setenv("VAULT_WRAP_TTL", "60s")
	code, stdout, stderr := check()
	require.Equal(t, commandline.ExitOK, code, stderr)
	require.Equal(t, file+": ok\n", stdout)
	for _, want := range []string{"vault.example.com:8200 is plain HTTP", "0.0.0.0:8080 takes plain HTTP", "VAULT_WRAP_TTL has no effect"} {
		require.Contains(t, stderr, want)
	}
	t.Setenv("VAULT_SKIP_VERIFY", "yes")
	t.Setenv("VAULT_MAX_RETRIES", "many")
	code, _, stderr = check()
	require.Equal(t, commandline.ExitFailed, code)
	require.Contains(t, stderr, "VAULT_SKIP_VERIFY: ")
	require.Contains(t, stderr, "VAULT_MAX_RETRIES: ")
}
