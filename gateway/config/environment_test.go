package config

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestASecretThatEveryoneMayReadIsWarnedOf(t *testing.T) {
	secret := t.TempDir() + "/secret"
	for name, test := range map[string]struct {
		mode   os.FileMode
		source string
		want   string // "": no warning
	}{
		"a secret id for all":        {0o644, "vault {\n auth \"approle\" {\n role_id = \"x\"\n secret_id_file = \"SECRET\"\n}\n}\n", "auth: secret_id_file: " + secret + " is open to every account of this machine (mode 0644)"},
		"a secret id that all write": {0o622, "vault {\n auth \"approle\" {\n role_id = \"x\"\n secret_id_file = \"SECRET\"\n}\n}\n", "(mode 0622)"},
		"a secret id for a group":    {0o640, "vault {\n auth \"approle\" {\n role_id = \"x\"\n secret_id_file = \"SECRET\"\n}\n}\n", ""},
		"a secret id for its owner":  {0o600, "vault {\n auth \"approle\" {\n role_id = \"x\"\n secret_id_file = \"SECRET\"\n}\n}\n", ""},
		"a role id for all":          {0o644, "vault {\n auth \"approle\" {\n role_id_file = \"SECRET\"\n secret_id_file = \"OTHER\"\n}\n}\n", ""},
		"an Agent's token for all":   {0o604, "vault {\n auth \"token_file\" {\n path = \"SECRET\"\n}\n}\n", "auth: path: " + secret},
		"an identity for all":        {0o644, "vault {\n auth \"jwt\" {\n role = \"x\"\n jwt_file = \"SECRET\"\n}\n}\n", "auth: jwt_file: " + secret},
		"a pod's identity for all":   {0o644, "vault {\n auth \"kubernetes\" {\n role = \"x\"\n jwt_file = \"SECRET\"\n}\n}\n", ""},
		"a token that is not there":  {0o644, "vault {\n auth \"token_file\" {\n path = \"/nowhere/token\"\n}\n}\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			other := t.TempDir() + "/other"
			require.NoError(t, os.WriteFile(other, []byte("x"), 0o600))
			require.NoError(t, os.WriteFile(secret, []byte("hunter2"), 0o600))
			require.NoError(t, os.Chmod(secret, test.mode))
			source := strings.NewReplacer("SECRET", secret, "OTHER", other).Replace(test.source)
			c, err := Parse([]byte(source), "gateway.hcl", noEnvironment)
			require.NoError(t, err)
			if test.want == "" {
				require.Empty(t, c.Warnings)
				return
			}
			require.Len(t, c.Warnings, 1)
			require.Contains(t, c.Warnings[0], test.want)
			require.Contains(t, c.Warnings[0], "chmod o= "+secret)
			require.NotContains(t, c.Warnings[0], "hunter2")
		})
	}
}

func TestUpstreamCredentialsThatCannotBeHadAreWarnedOf(t *testing.T) {
	const (
		block = "upstream_credentials {\n token_role = \"mcp-upstream\"\n policies = [\"mcp-upstream\"]\n}\n"
		paths = "upstream \"orders\" {\n credential_paths = [\"database/creds/orders-*\"]\n}\n"
	)
	stdio := func(uids string) string {
		return "stdio {\n allowed_commands = [\"/bin/cat\"]\n max_children = 10\n uid_range = \"" + uids + "\"\n}\n"
	}
	for name, test := range map[string]struct {
		token string // of another program; "" if it has written none yet
		more  string
		want  string // "": no warning
	}{
		"a batch token":                        {"hvb.AAAA-hunter2", block, "auth: FILE holds a batch token"},
		"a batch token behind an empty line":   {"\nhvb.AAAA-hunter2", block, "token_type=service"},
		"a batch token that need mint none":    {"hvb.AAAA-hunter2", "", ""},
		"a service token":                      {"hvs.hvb.hunter2", block, ""},
		"a token that is not there yet":        {"", block, ""},
		"an account for each child":            {"hvs.hunter2", block + stdio("70000-70009"), "needs two"},
		"two accounts for each child":          {"hvs.hunter2", block + stdio("70000-70019"), ""},
		"an account without credentials":       {"hvs.hunter2", stdio("70000-70009"), ""},
		"paths of credentials that are leased": {"hvs.hunter2", block + paths, ""},
		"paths of credentials that are not":    {"hvs.hunter2", paths, `upstream "orders": credential_paths has no effect without a block upstream_credentials`},
	} {
		t.Run(name, func(t *testing.T) {
			file := t.TempDir() + "/token"
			if test.token != "" {
				require.NoError(t, os.WriteFile(file, []byte(test.token), 0o600))
			}
			source := "vault {\n auth \"token_file\" {\n path = \"" + file + "\"\n}\n}\n" + test.more
			c, err := Parse([]byte(source), "gateway.hcl", noEnvironment)
			require.NoError(t, err)
			if test.want == "" {
				require.Empty(t, c.Warnings)
				return
			}
			require.Len(t, c.Warnings, 1)
			require.Contains(t, c.Warnings[0], strings.ReplaceAll(test.want, "FILE", file))
			require.NotContains(t, c.Warnings[0], "hunter2")
		})
	}
	_, err := HoldsBatchToken(t.TempDir())
	require.ErrorIs(t, err, errNotRegular)
}

func TestAKeyThatEveryoneMayReadIsWarnedOf(t *testing.T) {
	c := &Config{Listener: Listener{TLSKeyFile: t.TempDir() + "/key"}, Upstreams: map[string]Upstream{}}
	c.Upstreams["github"] = Upstream{ClientKeyFile: c.Listener.TLSKeyFile}
	require.NoError(t, os.WriteFile(c.Listener.TLSKeyFile, []byte("x"), 0o600))
	require.Empty(t, c.exposed())
	require.NoError(t, os.Chmod(c.Listener.TLSKeyFile, 0o644))
	warnings := c.exposed()
	require.Len(t, warnings, 2)
	require.Contains(t, warnings[0], "listener: tls_key_file: ")
	require.Contains(t, warnings[1], `upstream "github": client_key_file: `)
}
