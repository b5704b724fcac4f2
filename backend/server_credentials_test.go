package backend

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// leasing is a stdio server with one credential of each form.
func leasing(more data) data {
	return with(data{
		"transport": "stdio", "command": "/bin/server",
		"credentials": data{
			"db":  "database/creds/ro",
			"otp": data{"path": "ssh/creds/otp", "method": "write", "data": data{"ip": "s3cret-ip"}},
			"kv":  data{"path": "kv/data/mcp/{{client.alias}}", "refresh": "1m"},
		},
		"env":            data{"A": "{{db.password}}", "B": "{{otp.key}}", "KEY": "{{file.key}}", "VAULT_TOKEN": "{{vault.token}}"},
		"files":          data{"key": "s3cret {{kv.data.key}}"},
		"vault_policies": "mcp-a,mcp-b",
	}, more)
}

func TestCredentialsAreReadBackWithoutWhatMayBeSecret(t *testing.T) {
	e := newEnv(t)
	require.Empty(t, e.write("servers/s", leasing(nil)).Warnings)
	shown := e.read("servers/s")
	require.Equal(t, data{
		"db":  data{"path": "database/creds/ro", "method": "read", "refresh": nil, "data": []string{}},
		"otp": data{"path": "ssh/creds/otp", "method": "write", "refresh": nil, "data": []string{"ip"}},
		"kv":  data{"path": "kv/data/mcp/{{client.alias}}", "method": "read", "refresh": int64(60), "data": []string{}},
	}, shown["credentials"])
	require.Equal(t, []string{"key"}, shown["files"])
	require.Equal(t, []string{"mcp-a", "mcp-b"}, shown["vault_policies"])
	text, err := json.Marshal(shown)
	require.NoError(t, err)
	require.NotContains(t, string(text), "s3cret")

	got := e.registered("s")
	require.Equal(t, data{
		"db":  data{"path": "database/creds/ro", "method": "read", "refresh": int64(0), "data": map[string]string{}},
		"otp": data{"path": "ssh/creds/otp", "method": "write", "refresh": int64(0), "data": map[string]string{"ip": "s3cret-ip"}},
		"kv":  data{"path": "kv/data/mcp/{{client.alias}}", "method": "read", "refresh": int64(60), "data": map[string]string{}},
	}, got["credentials"])
	require.Equal(t, map[string]string{"key": "s3cret {{kv.data.key}}"}, got["files"])
	require.Equal(t, []string{"mcp-a", "mcp-b"}, got["vault_policies"])
}

func TestAServerWithoutCredentialsShowsNone(t *testing.T) {
	e := newEnv(t)
	e.write("servers/s", data{"transport": "http", "url": "https://h.example/"})
	shown := e.read("servers/s")
	require.Nil(t, shown["credentials"])
	require.Empty(t, shown["files"])
	require.Empty(t, shown["vault_policies"])
	entry, err := e.storage.Get(t.Context(), "server/s")
	require.NoError(t, err)
	for _, field := range []string{"credentials", "files", "vault_policies"} {
		require.NotContains(t, string(entry.Value), field, "what is stored has not changed")
	}
}

// The command line has text, and JSON has objects. Both come to the same.
func TestEveryFormOfACredentialComesToTheSame(t *testing.T) {
	number := json.Number("7")
	for name, given := range map[string]any{
		"an object":                 data{"otp": data{"path": "ssh/creds/otp", "method": "write", "data": data{"ip": "10.0.0.1", "n": "7", "ok": "true"}, "refresh": "90s"}},
		"an object with scalars":    data{"otp": data{"path": "ssh/creds/otp", "method": "write", "data": data{"ip": "10.0.0.1", "n": number, "ok": true}, "refresh": json.Number("90")}},
		"as Vault hands it over":    data{"otp": data{"path": "ssh/creds/otp", "method": "write", "data": data{"ip": "10.0.0.1", "n": float64(7), "ok": true}, "refresh": float64(90)}},
		"text in an object":         data{"otp": `{"path":"ssh/creds/otp","method":"write","data":{"ip":"10.0.0.1","n":7,"ok":true},"refresh":90}`},
		"text on the command line":  `otp={"path":"ssh/creds/otp","method":"write","data":{"ip":"10.0.0.1","n":7,"ok":true},"refresh":"90s"}`,
		"two on the command line":   []any{`otp={"path":"ssh/creds/otp","method":"write","data":{"ip":"10.0.0.1","n":7,"ok":true},"refresh":"90s"}`},
		"a file with an object":     "\n" + `{"otp":{"path":"ssh/creds/otp","method":"write","data":{"ip":"10.0.0.1","n":7,"ok":true},"refresh":"90s"}}` + "\n",
		"a file with text in it":    `{"otp":"{\"path\":\"ssh/creds/otp\",\"method\":\"write\",\"data\":{\"ip\":\"10.0.0.1\",\"n\":7,\"ok\":true},\"refresh\":\"90s\"}"}`,
		"a file with a name before": "otp={\"path\":\"ssh/creds/otp\",\n\"method\":\"write\",\"data\":{\"ip\":\"10.0.0.1\",\"n\":7,\"ok\":true},\"refresh\":\"90s\"}\n",
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			e.write("servers/s", data{"transport": "http", "url": "https://h.example/", "credentials": given, "headers": data{"X-A": "{{otp.key}}"}})
			require.Equal(t, data{"otp": data{
				"path": "ssh/creds/otp", "method": "write", "refresh": int64(90), "data": map[string]string{"ip": "10.0.0.1", "n": "7", "ok": "true"},
			}}, e.registered("s")["credentials"])
		})
	}
}

func TestCredentialsOfABadFormAreRefusedWithoutTheirValues(t *testing.T) {
	for name, tc := range map[string]struct {
		given any
		want  string
	}{
		"a path without a name":     {"database/creds/s3cret", "write NAME=PATH, once for each"},
		"a list in the place":       {data{"db": []any{"s3cret"}}, "write NAME=PATH"},
		"a list of paths":           {[]any{"s3cret/a"}, "write NAME=PATH"},
		"an unknown key":            {data{"db": data{"path": "a/s3cret", "ttl": "1h"}}, `"db": has the key "ttl", which is not known`},
		"a name twice in a file":    {`{"db":"a/s3cret","db":"b/s3cret"}`, `has the key "db" twice`},
		"a file that is not JSON":   {`{"db": s3cret`, "not valid JSON"},
		"a list of data":            {data{"db": data{"path": "a/b", "method": "write", "data": []any{"s3cret"}}}, "its data is not a JSON object"},
		"an object in data":         {data{"db": data{"path": "a/b", "method": "write", "data": data{"x": data{"y": "s3cret"}}}}, "not a string"},
		"a number that lost digits": {data{"db": data{"path": "a/b", "method": "write", "data": data{"x": 1.1}}}, "may lose digits"},
		"null in data":              {data{"db": data{"path": "a/b", "method": "write", "data": data{"x": nil}}}, "is null"},
		"null for a path":           {data{"db": nil}, "is null"},
		"data of a read":            {data{"db": data{"path": "a/b", "data": data{"x": "s3cret"}}}, "needs method write"},
		"a bad path":                {data{"db": "sys/s3cret"}, "Vault's own"},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			text := e.refusedWrite("servers/x", data{"transport": "http", "url": "https://h.example/", "credentials": tc.given, "headers": data{"X-A": "{{db.a}}"}})
			require.Contains(t, text, "field credentials")
			require.Contains(t, text, tc.want)
			require.NotContains(t, text, "s3cret")
		})
	}
	e := newEnv(t)
	for _, field := range []string{"credentials", "files"} {
		require.Contains(t, e.refused(logical.ReadOperation, "servers/x", data{field: "s3cret"}), "treat it as leaked")
	}
}

// A writer of registrations must not be able to send credentials for one place to
// another.
func TestCredentialsDoNotFollowAServerElsewhere(t *testing.T) {
	e := newEnv(t)
	e.write("servers/s", leasing(nil))
	resp := e.write("servers/s", data{"command": "/bin/other"})
	warnings := strings.Join(resp.Warnings, "\n")
	for _, dropped := range []string{"the env of the earlier place", "A, B, KEY, VAULT_TOKEN", "the credentials of the earlier place", "db, kv, otp", "the files of the earlier place", "key", "the vault_policies of the earlier place", "mcp-a, mcp-b"} {
		require.Contains(t, warnings, dropped)
	}
	require.NotContains(t, warnings, "s3cret")
	got := e.registered("s")
	for _, field := range []string{"env", "credentials", "files", "vault_policies"} {
		require.Empty(t, got[field], field)
	}

	e.write("servers/s", leasing(data{"command": "/bin/other"}))
	text := e.refusedWrite("servers/s", data{"command": "/bin/third", "env": data{"A": "{{db.password}}"}})
	require.Contains(t, text, "there is no such credential: write credentials=db=PATH")
	require.Contains(t, text, "command changed, so the credentials of the earlier place were dropped")
	require.Equal(t, "/bin/other", e.registered("s")["command"])

	require.Empty(t, e.write("servers/s", leasing(data{"command": "/bin/third"})).Warnings, "it has them again")
	require.NotEmpty(t, e.registered("s")["credentials"])
}

func TestAChildIsAnotherOneWithOtherCredentials(t *testing.T) {
	stdio, remote := leasing(nil), data{
		"transport": "http", "url": "https://h.example/", "credentials": data{"db": "database/creds/ro"},
		"headers": data{"X-A": "{{db.password}}", "X-V": "{{vault.token}}"}, "vault_policies": "mcp-a",
	}
	credentials := leasing(nil)["credentials"].(data)
	for _, tc := range []struct {
		name        string
		held, write data
		same        bool
	}{
		{"another path of a child", stdio, data{"credentials": with(data{}, with(leasing(nil)["credentials"].(data), data{"db": "database/creds/rw"}))}, false},
		{"other data of a child", stdio, data{"credentials": with(leasing(nil)["credentials"].(data), data{"otp": data{"path": "ssh/creds/otp", "method": "write", "data": data{"ip": "b"}}})}, false},
		{"another file of a child", stdio, data{"files": data{"key": "{{kv.data.other}}"}}, false},
		{"other policies of a child", stdio, data{"vault_policies": "mcp-a"}, false},
		{"the same of a child", stdio, data{"credentials": credentials, "files": stdio["files"], "vault_policies": []string{"mcp-a", "mcp-b"}}, true},
		{"another path of a remote server", remote, data{"credentials": data{"db": "database/creds/rw"}}, true},
		{"other policies of a remote server", remote, data{"vault_policies": "mcp-b"}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := newEnv(t)
			e.write("servers/s", tc.held)
			before := e.read("servers/s")["id"]
			e.write("servers/s", tc.write)
			require.Equal(t, tc.same, before == e.read("servers/s")["id"])
		})
	}
}

func TestCredentialsAreEmptiedFromTheCommandLine(t *testing.T) {
	e := newEnv(t)
	e.write("servers/s", leasing(nil))
	e.write("servers/s", data{"credentials": "", "env": "", "files": "", "vault_policies": ""})
	got := e.registered("s")
	for _, field := range []string{"credentials", "env", "files", "vault_policies"} {
		require.Empty(t, got[field], field)
	}
}

func TestAServerWhoseCredentialsNotEveryClientCanHaveIsWarnedOf(t *testing.T) {
	e := newEnv(t)
	write := func(path string) string {
		return strings.Join(e.write("servers/s", data{
			"transport": "http", "url": "https://h.example/", "credentials": data{"gh": path}, "headers": data{"X-A": "{{gh.a}}"},
		}).Warnings, "\n")
	}
	require.Contains(t, write("kv/data/{{client.metadata.team}}"), "clients without upstream_policies of their own are refused")
	require.Contains(t, write("kv/data/{{person.alias}}"), "clients without a sign-in are refused")
	require.Empty(t, write("kv/data/{{client.alias}}"))
}

func TestWhoeverDeletesAClientIsToldThatVaultKnowsItByItsName(t *testing.T) {
	const told = `a later client with the name "c" gets`
	remove := func(e *env) string {
		resp := e.must(logical.DeleteOperation, "clients/c", nil)
		if resp == nil {
			return ""
		}
		return strings.Join(resp.Warnings, "\n")
	}
	e := newEnv(t)
	e.client("c", nil)
	e.write("servers/plain", data{"transport": "http", "url": "https://h.example/"})
	require.Empty(t, remove(e), "no server has credentials")
	e.client("c", data{"upstream_policies": "team-a"})
	require.Contains(t, remove(e), told)
	e.client("c", nil)
	e.write("servers/leasing", leasing(nil))
	require.Contains(t, remove(e), told)
	require.Empty(t, remove(e), "there was none")
}

func TestUpstreamPoliciesOfAClientAreToldApartFromNone(t *testing.T) {
	e := newEnv(t)
	token := e.client("c", data{})
	same := func(want any) {
		t.Helper()
		require.Equal(t, want, e.read("clients/c")["upstream_policies"])
		require.Equal(t, want, e.lookup(token)["upstream_policies"])
	}
	same(nil)
	before := e.lookup(token)["client_version"]
	e.write("clients/c", data{"upstream_policies": "team-a,team-b,team-a"})
	same([]string{"team-a", "team-b"})
	require.NotEqual(t, before, e.lookup(token)["client_version"])
	require.Contains(t, strings.Join(e.write("clients/c", data{"upstream_policies": ""}).Warnings, "\n"), "upstream_policies is set and empty")
	same([]string{})
	e = e.restart()
	same([]string{}) // in storage an empty list must not become none, which is the gateway's whole list
	e.patch("clients/c", data{"upstream_policies": nil})
	same(nil)
	e = e.restart()
	same(nil)
	require.Contains(t, e.refusedWrite("clients/c", data{"upstream_policies": "Team"}), "field upstream_policies")
}

func TestEvaluateShowsThePathsThatAClientWouldRead(t *testing.T) {
	e := newEnv(t)
	e.write("servers/s", data{
		"transport": "http", "url": "https://h.example/", "headers": data{"X-A": "{{a.x}}{{b.x}}{{c.x}}{{d.x}}"},
		"credentials": data{
			"a": "database/creds/ro", "b": "kv/data/{{client.alias}}/x", "c": "kv/data/{{client.metadata.team}}",
			"d": data{"path": "pki/issue/{{person.alias}}", "method": "write"},
		},
	})
	e.client("cur.sor", data{"allowed_servers": "s", "metadata": data{"team": "core"}})
	evaluate := func(more data) data {
		return e.write("evaluate", with(data{"client": "cur.sor", "server": "s"}, more)).Data
	}
	use := func(name, method, path, problem string) map[string]any {
		return map[string]any{"name": name, "method": method, "path": path, "problem": problem}
	}
	notTrusted := "its path has {{client.metadata.team}}, and that is for clients with upstream_policies alone: set upstream_policies on the client, or name the path without it"
	nobody := "its path has {{person.alias}}, and nobody is signed in: only a person who has signed in has one"
	got := evaluate(nil)
	require.Equal(t, []map[string]any{
		use("a", "read", "database/creds/ro", ""), use("b", "read", "kv/data/mcp:cur.sor/x", ""),
		use("c", "read", "", notTrusted), use("d", "write", "", nobody),
	}, got["credentials"])
	require.Contains(t, got["summary"], "CREDENTIAL  METHOD  PATH\na           read    database/creds/ro\nb           read    kv/data/mcp:cur.sor/x\nc           read    none: its path has")

	e.write("clients/cur.sor", data{"upstream_policies": "team-a"})
	got = evaluate(data{"alias_prefix": "corp"})
	require.Contains(t, got["credentials"], use("b", "read", "kv/data/corp:cur.sor/x", ""))
	require.Contains(t, got["credentials"], use("c", "read", "kv/data/core", ""))
	e.write("clients/cur.sor", data{"upstream_policies": ""})
	require.Contains(t, evaluate(nil)["credentials"], use("a", "read", "", "the client's upstream_policies is empty"))

	require.Contains(t, e.refusedWrite("evaluate", data{"client": "cur.sor", "server": "s", "alias_prefix": "a/b"}), "field alias_prefix")
	require.Empty(t, e.write("evaluate", data{"policies": "", "server": "s"}).Data["credentials"])
	require.Empty(t, e.write("evaluate", data{"client": "cur.sor", "server": "nothing"}).Data["credentials"])
}
