package apply

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
)

// mistaken are files with one mistake of each kind, and the message about each.
func (a *applying) mistaken(t *testing.T) (want []string) {
	t.Helper()
	a.file(t, "broker.hcl", `config {
  default_ttl = "30d"
  max_ttl     = "1d"
  max_wait    = "1m"
  seal        = "kms"
}
server "a__b" {
  transport = "http"
  url       = "https://example.com/mcp"
}
server "two-mistakes" {
  transport = "http"
  url       = "HTTPS://example.com/a/../b"
  headers   = { "Mcp-Name" = "x" }
}
server "relative" {
  transport = "stdio"
  command   = "./server"
}
policy "Corp" {
  file = "corp.policy"
}
client "Upper" { access_token = "short" }
client "settings" {
  allowed_servers   = ["fine", "not fine"]
  denied_tools      = ["no-slash"]
  token_bound_cidrs = ["10.0.0.1/8"]
  token_ttl         = "2h"
  token_max_ttl     = "1h"
}
client "short" {
  access_token_ref {
    file = "short.token"
  }
}
client "taken" {
  access_token = "`+refToken+`"
}
`)
	a.file(t, "corp.policy", `{"deniedMcpServers": []}`)
	a.file(t, "short.token", "too-short")
	a.file(t, "clients.json", `[
  {"name": "twin-a", "allowed_servers": [], "access_token": "`+jungleToken+`"},
  {"name": "twin-b", "allowed_servers": [], "access_token": "`+jungleToken+`"},
  {"name": "unset", "allowed_servers": [], "access_token_ref": {"env": "NOT_SET"}}
]`)
	hcl, list := filepath.Join(a.dir, "broker.hcl"), filepath.Join(a.dir, "clients.json")
	return []string{
		hcl + `:2: config: field default_ttl: 720h0m0s is above max_ttl (24h0m0s)`,
		hcl + `:4: config: field max_wait: 1m0s is above 30s`,
		hcl + `:5: config: field seal: AWS KMS is not configured`,
		hcl + `:7: server "a__b": the server name "a__b" has a double underscore`,
		hcl + `:13: server "two-mistakes": field url: `,
		hcl + `:14: server "two-mistakes": field headers: Mcp-Name belongs to`,
		hcl + `:18: server "relative": field command: "./server" is relative`,
		hcl + `:20: policy "Corp": the policy name "Corp" has an upper-case letter`,
		hcl + `:23: client "Upper": the client name "Upper" has an upper-case letter`,
		hcl + `:23: client "Upper": field access_token: `,
		hcl + `:25: client "settings": field allowed_servers: "not fine" is not a valid server name`,
		hcl + `:26: client "settings": field denied_tools: `,
		hcl + `:27: client "settings": field token_bound_cidrs: "10.0.0.1/8" has bits set`,
		hcl + `:28: client "settings": field token_ttl: 2h0m0s is above token_max_ttl`,
		hcl + `:32: client "short": field access_token: `,
		list + `:3,45: client "twin-b": it has the token of the client "twin-a" (` + list + `:2,45)`,
		list + `:4,3: client "unset": field access_token_ref.env: the environment variable NOT_SET is not set`,
	}
}

// TestApplyTellsEveryMistakeAtOnceAndWritesNothing has one mistake of each kind in the
// files, before the engine is mounted and after. Each is told with its place, dry run
// or not, and nothing is written: not even the valid parts before it.
func TestApplyTellsEveryMistakeAtOnceAndWritesNothing(t *testing.T) {
	a := newApplying(t)
	for _, secret := range []string{jungleToken, refToken} {
		a.Secret(secret)
	}
	told := func(args []string, want ...string) {
		t.Helper()
		out, err := a.apply(t, args...)
		require.Error(t, err, out)
		noSecret(t, out)
		for _, text := range want {
			require.Contains(t, out, text)
		}
		require.Equal(t, len(want), strings.Count(out, "\n  "+a.dir), "another number of mistakes:\n%s", out)
		require.Contains(t, out, "nothing was changed")
	}
	want := a.mistaken(t)
	told([]string{"-dry-run"}, want...)
	told(nil, want...)
	mounts, err := a.Vault.Client().Sys().ListMountsWithContext(t.Context())
	require.NoError(t, err)
	require.NotContains(t, mounts, "mcp/", "something was written")

	a.files(t, map[string]string{"first.hcl": "config {\n  min_custom_token_length = 36\n}\nclient \"owner\" {\n  access_token = \"" + refToken + "\"\n}\n"})
	a.applied(t)
	index := a.Read("mcp/changes")["index"]
	a.files(t, nil)
	want = append(a.mistaken(t), ":37: client \"taken\": field access_token: this token is in use")
	told([]string{"-dry-run"}, want...)
	told(nil, want...)
	require.Equal(t, index, a.Read("mcp/changes")["index"], "something was written")

	t.Run("the engine's own words", func(t *testing.T) {
		for path, data := range map[string]harness.Map{
			"mcp/servers/relative": {"transport": "stdio", "command": "./server"},
			"mcp/clients/Upper":    {},
			"mcp/clients/short":    {"access_token": "too-short"},
			"mcp/clients/taken":    {"access_token": refToken},
			"mcp/config":           {"max_wait": "1m"},
		} {
			_, err := a.TryWrite(path, data)
			require.Error(t, err, path)
			lines := strings.Split(err.Error(), "* ")
			out, _ := a.apply(t, "-dry-run")
			require.Contains(t, out, strings.TrimSpace(lines[len(lines)-1]), path)
		}
	})
	a.Secret("a-token-of-29-characters-0123")
	t.Run("a token shorter than Vault's own bound, which no file names", func(t *testing.T) {
		a.files(t, map[string]string{"c.json": `{"name": "c", "allowed_servers": [], "access_token": "a-token-of-29-characters-0123"}`})
		told([]string{"-dry-run"}, `c.json:1,38: client "c": field access_token: `)
	})
	t.Run("a dry run tells of names that nobody has, which the engine takes", func(t *testing.T) {
		a.files(t, map[string]string{"c.json": `{"name": "c", "allowed_servers": ["nobody-has-it"]}`})
		require.Contains(t, a.applied(t, "-dry-run"), `warning: no server "nobody-has-it" is registered`)
	})
}

// files replaces all files.
func (a *applying) files(t *testing.T, files map[string]string) {
	t.Helper()
	require.NoError(t, os.RemoveAll(a.dir))
	require.NoError(t, os.Mkdir(a.dir, 0o700))
	for name, content := range files {
		a.file(t, name, content)
	}
}
