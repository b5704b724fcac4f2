package backend

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

func TestAnOperationRefusesFieldsThatItIgnores(t *testing.T) {
	e := newEnv(t)
	e.write("policies/corp", data{"deniedMcpServers": `[{"serverName":"x"}]`})
	e.write("servers/s", data{"transport": "http", "url": "http://h.example/"})
	e.client("c", nil)
	for name, tc := range map[string]struct {
		op    logical.Operation
		path  string
		data  data
		field string
	}{
		"a dry run of a delete":            {logical.DeleteOperation, "policies/corp", data{"dry_run": "true"}, "dry_run"},
		"a list in a delete":               {logical.DeleteOperation, "policies/corp", data{"deniedMcpServers": "[]"}, "deniedMcpServers"},
		"what is unknown in a delete":      {logical.DeleteOperation, "policies/corp", data{"dryrun": "true"}, "dryrun"},
		"force in a read":                  {logical.ReadOperation, "policies/corp", data{"force": "true"}, "force"},
		"a dry run of a read":              {logical.ReadOperation, "policies/corp", data{"dry_run": "true"}, "dry_run"},
		"force in the write of config/kms": {logical.UpdateOperation, "config/kms", data{"key_id": "alias/x", "force": true}, "force"},
		"force in a read of config/kms":    {logical.ReadOperation, "config/kms", data{"force": "true"}, "force"},
		"force in a change of a server":    {logical.UpdateOperation, "servers/s", data{"force": true}, "force"},
		"a URL in a server's delete":       {logical.DeleteOperation, "servers/s", data{"url": "http://h.example/"}, "url"},
		"settings in a client's delete":    {logical.DeleteOperation, "clients/c", data{"disabled": "true"}, "disabled"},
		"settings in a client's read":      {logical.ReadOperation, "clients/c", data{"disabled": "true"}, "disabled"},
		"another name than the path's":     {logical.UpdateOperation, "clients/c", data{"name": "d"}, "name"},
	} {
		t.Run(name, func(t *testing.T) {
			require.Contains(t, e.refused(tc.op, tc.path, tc.data), tc.field)
		})
	}
	require.NotNil(t, e.read("policies/corp"), "a delete that was refused has deleted")
	require.NotNil(t, e.read("servers/s"))
	require.NotNil(t, e.read("clients/c"))
	e.write("clients/c", data{"name": "c"})
	e.delete("policies/corp")
}

func TestOpenAPIOffersNoFieldThatIsIgnored(t *testing.T) {
	e := newEnv(t)
	resp, err := e.b.HandleRequest(context.Background(), &logical.Request{
		Operation: logical.HelpOperation, Storage: e.storage, Data: data{"requestResponsePrefix": "mcp"},
	})
	require.NoError(t, err)
	doc := resp.Data["openapi"].(*framework.OASDocument)
	queries := func(op *framework.OASOperation) []string {
		names := []string{}
		for _, p := range op.Parameters {
			if p.In == "query" {
				names = append(names, p.Name)
			}
		}
		return names
	}
	body := func(op *framework.OASOperation) map[string]*framework.OASSchema {
		_, name, _ := strings.Cut(op.RequestBody.Content["application/json"].Schema.Ref, "schemas/")
		return doc.Components.Schemas[name].Properties
	}
	policies := doc.Paths["/policies/{name}"]
	require.Equal(t, []string{"force"}, queries(policies.Delete))
	require.Empty(t, queries(policies.Get))
	require.Contains(t, body(policies.Post), "dry_run")
	require.Contains(t, body(policies.Post), "force")
	kms := doc.Paths["/config/kms"]
	require.Equal(t, []string{"force"}, queries(kms.Delete))
	require.Empty(t, queries(kms.Get))
	require.NotContains(t, body(kms.Post), "force")
	servers, clients := body(doc.Paths["/servers/{name}"].Post), body(doc.Paths["/clients/{name}"].Post)
	for _, field := range []string{"force", "credentials", "files", "vault_policies"} {
		require.Contains(t, servers, field)
	}
	require.Contains(t, clients, "upstream_policies")
	require.Contains(t, body(doc.Paths["/evaluate"].Post), "alias_prefix")
	require.Equal(t, []string{"ttl"}, queries(doc.Paths["/creds/{name}"].Get))
	for field := range signInRequestFields() {
		require.Contains(t, body(doc.Paths["/creds/{name}"].Post), field)
	}
	require.Contains(t, clients, "sign_in")
	require.Contains(t, body(doc.Paths["/config"].Post), "sign_in_logins")
	require.NotNil(t, doc.Paths["/sign-ins/{accessor}"].Get)
	require.Nil(t, doc.Paths["/sign-ins/{accessor}"].Post)
	require.NotNil(t, doc.Paths["/gateway/sign-in"].Get)

	pins, reports := doc.Paths["/pins/{server}"], doc.Paths["/gateway/pins/{server}"]
	require.Equal(t, []string{"texts"}, queries(pins.Get))
	require.Empty(t, queries(pins.Delete))
	for _, field := range append([]string{"kind", "digest", "place", "dry_run"}, pinActs...) {
		require.Contains(t, body(pins.Post), field)
	}
	require.NotContains(t, body(pins.Post), "texts")
	require.Empty(t, queries(reports.Get))
	require.Equal(t, []string{"definitions", "place"}, sortedKeys(body(reports.Post)))
	for _, field := range []string{"pin", "pin_kinds"} {
		require.Contains(t, servers, field)
	}
}

func TestValuesAreStoredAsTheyWereWritten(t *testing.T) {
	number := func(text string) any { return json.Number(text) }
	e := newEnv(t)
	e.write("servers/s", data{
		"transport": "stdio", "command": "/bin/x",
		"args": []any{true, "a", number("8080"), float64(7)},
		"env":  map[string]any{"DEBUG": true, "OFF": false, "PORT": number("8080"), "N": float64(12)},
	})
	got := e.registered("s")
	require.Equal(t, []string{"true", "a", "8080", "7"}, got["args"])
	require.Equal(t, map[string]string{"DEBUG": "true", "OFF": "false", "PORT": "8080", "N": "12"}, got["env"])
	e.write("servers/h", data{"transport": "http", "url": "http://h.example/", "headers": map[string]any{"X-Debug": true}, "description": true})
	require.Equal(t, map[string]string{"X-Debug": "true"}, e.registered("h")["headers"])
	require.Equal(t, "true", e.registered("h")["description"])
	e.client("c", data{"metadata": map[string]any{"beta": true}, "denied_tools": []any{"s/x"}})
	require.Equal(t, map[string]string{"beta": "true"}, e.read("clients/c")["metadata"])

	for name, tc := range map[string]struct {
		path string
		data data
	}{
		"a number with a point":      {"servers/s", data{"env": map[string]any{"V": number("1.10")}}},
		"the same as Vault hands it": {"servers/s", data{"env": map[string]any{"V": 1.1}}},
		"a number with many digits":  {"servers/s", data{"args": []any{float64(12345678901234567890)}}},
		"null in a list":             {"servers/s", data{"args": []any{"a", nil}}},
		"null as a value":            {"servers/s", data{"env": map[string]any{"V": nil}}},
		"a list as a value":          {"servers/s", data{"env": map[string]any{"V": []any{"a"}}}},
		"true for a number":          {"config", data{"max_watchers": true}},
		"true for a duration":        {"config", data{"max_ttl": true}},
	} {
		require.NotEmpty(t, e.refusedWrite(tc.path, tc.data), name)
	}
	require.Equal(t, got, e.registered("s"))
}

func TestEnvAndHeadersAreEmptiedFromTheCommandLine(t *testing.T) {
	e := newEnv(t)
	e.write("servers/h", data{"transport": "http", "url": "http://h.example/", "headers": data{"X-A": "b"}})
	e.write("servers/s", data{"transport": "stdio", "command": "/bin/x", "env": "A=b", "args": "x"})
	e.client("c", data{"metadata": "team=a"})
	e.write("servers/h", data{"headers": ""})
	e.write("servers/s", data{"env": " "})
	e.write("clients/c", data{"metadata": ""})
	require.Empty(t, e.registered("h")["headers"])
	require.Empty(t, e.registered("s")["env"])
	require.Empty(t, e.read("clients/c")["metadata"])
	require.Equal(t, []string{"x"}, e.registered("s")["args"])
}
