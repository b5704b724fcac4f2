package apply

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCredentialsAreReadInEveryFormOfAFile(t *testing.T) {
	t.Setenv("OTP_HOST", `10.0.0."1`)
	t.Setenv("TEAM", "search")
	for name, content := range map[string]string{
		"own.hcl": `server "ssh" {
  transport = "stdio"
  command   = "/bin/ssh-server"
  credentials = {
    db  = "database/creds/${env("TEAM")}"
    otp = {
      path    = "ssh/creds/otp"
      method  = "write"
      data    = { ip = env("OTP_HOST"), port = 22, strict = true }
      refresh = "90s"
    }
  }
  files          = { key = "{{otp.key}}\n" }
  env            = { PGPASSWORD = "{{db.password}}", KEY = "{{file.key}}", VAULT_TOKEN = "{{vault.token}}" }
  vault_policies = ["mcp-ssh", "mcp-ssh"]
}`,
		"one.json": `{"name": "ssh", "transport": "stdio", "command": "/bin/ssh-server",
  "credentials": {"db": "database/creds/${TEAM}",
    "otp": {"path": "ssh/creds/otp", "method": "write", "data": {"ip": "${OTP_HOST}", "port": 22, "strict": true}, "refresh": 90}},
  "files": {"key": "{{otp.key}}\n"},
  "env": {"PGPASSWORD": "{{db.password}}", "KEY": "{{file.key}}", "VAULT_TOKEN": "{{vault.token}}"},
  "vault_policies": ["mcp-ssh"]}`,
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), name)
			require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
			servers, _, err := LoadServers(path)
			require.NoError(t, err)
			require.Len(t, servers, 1)
			require.Equal(t, map[string]any{
				"db": map[string]any{"path": "database/creds/search", "method": "read"},
				"otp": map[string]any{
					"path": "ssh/creds/otp", "method": "write", "refresh": int64(90),
					"data": map[string]string{"ip": `10.0.0."1`, "port": "22", "strict": "true"},
				},
			}, servers[0].Data["credentials"])
			require.Equal(t, map[string]string{"key": "{{otp.key}}\n"}, servers[0].Data["files"])
			require.Equal(t, []string{"mcp-ssh"}, servers[0].Data["vault_policies"])
		})
	}
}

func TestAMistakeInCredentialsIsToldWithItsPlaceAndWithoutValues(t *testing.T) {
	hcl := func(credentials string) map[string]string {
		return map[string]string{"a.hcl": "server \"a\" {\n  transport = \"http\"\n  url = \"https://a/\"\n  headers = { A = \"{{db.password}}\" }\n  credentials = " + credentials + "\n}\n"}
	}
	json := func(credentials string) map[string]string {
		return map[string]string{"a.json": "{\"name\": \"a\", \"transport\": \"http\", \"url\": \"https://a/\",\n \"headers\": {\"A\": \"{{db.password}}\"},\n \"credentials\": " + credentials + "}"}
	}
	for name, test := range map[string]struct {
		files map[string]string
		want  string
	}{
		"a text in HCL":          {hcl(`"s3cret/a"`), `a.hcl:5: server "a": field credentials: it is not a JSON object`},
		"a list in HCL":          {hcl(`{ db = ["s3cret"] }`), `a.hcl:5: server "a": field credentials: it has a value of "db" that is neither a path nor an object`},
		"null in HCL":            {hcl(`{ db = null }`), "neither a path nor an object"},
		"an unknown key in HCL":  {hcl(`{ db = { path = "s3cret/a", ttl = "1h" } }`), `a.hcl:5: server "a": field credentials: "db": has the key "ttl"`},
		"a bad path in HCL":      {hcl(`{ db = "/s3cret/a" }`), `a.hcl:5: server "a": field credentials: "db": its path begins with /`},
		"a text in JSON":         {json(`"s3cret/a"`), "a.json:3,2: field credentials: it is not a JSON object"},
		"a list in JSON":         {json(`{"db": ["s3cret"]}`), "a.json:3,2: field credentials: it has a value of \"db\""},
		"a key twice in JSON":    {json(`{"db": "a/s3cret", "db": "b/s3cret"}`), `a.json:3,36: the key "db" is in line 3 already: keep one of them`},
		"an unset variable":      {json(`{"db": "a/${NOT_SET_A}"}`), "a.json:3,18: field credentials.db: the environment variable NOT_SET_A is not set"},
		"a bad path in JSON":     {json(`{"db": "sys/s3cret"}`), `a.json:3,2: server "a": field credentials: "db": its path is below sys/`},
		"a policy in capitals":   {map[string]string{"a.hcl": "client \"c\" {\n  upstream_policies = [\"A\"]\n}\n"}, `a.hcl:2: client "c": field upstream_policies: `},
		"a credential too few":   {hcl(`{}`), `a.hcl:4: server "a": field headers: the value of "A" has {{db.password}}, and there is no such credential`},
		"a credential with null": {json(`null`), "there is no such credential"},
	} {
		t.Run(name, func(t *testing.T) {
			got, _ := loaded(t, test.files)
			require.Contains(t, got, test.want)
			require.Contains(t, got, "the files have 1 mistake:")
			require.NotContains(t, got, "s3cret")
		})
	}
}

func TestUpstreamPoliciesInAFileAreToldApartFromNone(t *testing.T) {
	_, d := loaded(t, map[string]string{
		"a.hcl":  "client \"unset\" {}\nclient \"empty\" {\n  upstream_policies = []\n}\nclient \"one\" {\n  upstream_policies = [\"a\", \"a\"]\n}\n",
		"b.json": `[{"name": "json", "allowed_servers": [], "upstream_policies": ["b"]}, {"name": "json-empty", "allowed_servers": [], "upstream_policies": []}]`,
	})
	got := map[string]string{}
	for _, c := range d.clients {
		got[c.name] = canonical(c.fields["upstream_policies"])
		require.Equal(t, got[c.name], canonical(merged(map[string]any{"upstream_policies": c.fields["upstream_policies"]})["upstream_policies"]), "a patch keeps the difference")
	}
	require.Equal(t, map[string]string{"unset": "null", "empty": "[]", "one": `["a"]`, "json": `["b"]`, "json-empty": "[]"}, got)
}

// A record of before has fingerprints of servers without credentials: they must stay as
// they are, or every run after an upgrade would write every server again.
func TestAFingerprintIsOfNothingNewWhereThereIsNothingNew(t *testing.T) {
	s := server{env: map[string]string{"A": "b"}}
	require.Equal(t, `["",{"A":"b"},{}]`, s.secrets())
	require.Empty(t, differences(s.shown(), map[string]any{
		"transport": "", "url": nil, "url_query": []any{}, "command": "", "args": []any{}, "env": []any{"A"}, "headers": []any{}, "shared": false, "description": nil,
	}), "an older engine's answer")

	_, d := loaded(t, map[string]string{"a.json": `{"name": "a", "transport": "stdio", "command": "/x", "env": {"A": "{{o.k}}"}, "files": {"f": "s3cret"},
		"credentials": {"o": {"path": "a/b", "method": "write", "data": {"x": "s3cret2"}}}}`})
	before := d.servers[0].secrets()
	require.True(t, d.servers[0].hasSecrets())
	require.NotContains(t, canonical(d.servers[0].shown()), "s3cret")
	d.servers[0].files["f"] = "other"
	require.NotEqual(t, before, d.servers[0].secrets())
	d.servers[0].files["f"] = "s3cret"
	require.Equal(t, before, d.servers[0].secrets())
	d.servers[0].credentials["o"].Data["x"] = "other"
	require.NotEqual(t, before, d.servers[0].secrets())
	require.True(t, strings.HasPrefix(before, `["",{"A":"{{o.k}}"},{}`))
}
