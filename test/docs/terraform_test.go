package docs

import (
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/stretchr/testify/require"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"

	"vault-plugin-secrets-mcp/test/harness"
)

// genericEndpoint is a resource vault_generic_endpoint.
type genericEndpoint struct {
	path                      string
	data                      string // JSON
	disableRead, ignoreAbsent bool
}

// endpointsOf reads the resources of docs/terraform.md.
func endpointsOf(t *testing.T) []genericEndpoint {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("..", "..", "docs", "terraform.md"))
	require.NoError(t, err)
	_, without, found := strings.Cut(string(content), "\n## Without the module\n")
	require.True(t, found)
	_, after, found := strings.Cut(without, "```hcl\n")
	require.True(t, found)
	source, _, _ := strings.Cut(after, "```")
	file, diags := hclsyntax.ParseConfig([]byte(source), "main.tf", hcl.InitialPos)
	require.False(t, diags.HasErrors(), diags)
	functions := &hcl.EvalContext{Functions: map[string]function.Function{"jsonencode": stdlib.JSONEncodeFunc}}
	var endpoints []genericEndpoint
	for _, block := range file.Body.(*hclsyntax.Body).Blocks {
		if block.Type != "resource" {
			continue
		}
		require.Equal(t, "vault_generic_endpoint", block.Labels[0])
		value := func(name string, missing cty.Value) cty.Value {
			attribute, ok := block.Body.Attributes[name]
			if !ok {
				return missing
			}
			value, diags := attribute.Expr.Value(functions)
			require.False(t, diags.HasErrors(), diags)
			return value
		}
		endpoints = append(endpoints, genericEndpoint{
			path: value("path", cty.NilVal).AsString(), data: value("data_json", cty.NilVal).AsString(),
			disableRead: value("disable_read", cty.False).True(), ignoreAbsent: value("ignore_absent_fields", cty.False).True(),
		})
	}
	return endpoints
}

// apply sends the provider's request: the JSON unchanged, with PUT.
func (e *genericEndpoint) apply(t *testing.T, h *harness.Harness) {
	t.Helper()
	answer := h.Do(http.MethodPut, h.Vault.Address()+"/v1/"+e.path, "", http.Header{"X-Vault-Token": {h.Vault.RootToken}, "X-Vault-Request": {"true"}}, e.data)
	require.Less(t, answer.Status, 300, answer.Body)
	var body struct{ Data harness.Map }
	if json.Unmarshal([]byte(answer.Body), &body) == nil && body.Data["token"] != nil {
		h.Secret(h.Token(body.Data))
	}
}

// plan has the two texts that the provider compares after a read: the file's, and Vault's.
func (e *genericEndpoint) plan(t *testing.T, h *harness.Harness) (want, have string) {
	t.Helper()
	var wanted harness.Map
	require.NoError(t, json.Unmarshal([]byte(e.data), &wanted))
	if e.disableRead {
		return text(t, wanted), text(t, wanted)
	}
	read := h.Read(e.path)
	require.NotNil(t, read)
	if e.ignoreAbsent {
		named := maps.Clone(wanted)
		for field := range wanted {
			if value, ok := read[field]; ok {
				named[field] = value
			}
		}
		read = named
	}
	return text(t, wanted), text(t, read)
}

func text(t *testing.T, value any) string {
	t.Helper()
	encoded, err := json.Marshal(value)
	require.NoError(t, err)
	return string(encoded)
}

// TestDocsTerraform applies the page's resources, and finds no difference afterwards;
// the forms that the page's table warns of differ.
func TestDocsTerraform(t *testing.T) {
	h := harness.New(t)
	endpoints := endpointsOf(t)
	require.Len(t, endpoints, 3)
	for range 2 { // the second time nothing is new
		for _, e := range endpoints {
			e.apply(t, h)
			want, have := e.plan(t, h)
			require.Equal(t, want, have, e.path)
		}
	}
	for _, differs := range []genericEndpoint{
		{path: "mcp/clients/cursor-local", data: `{"token_ttl":"15m"}`},
		{path: "mcp/clients/cursor-local", data: `{"token_ttl":"900"}`},
		{path: "mcp/clients/cursor-local", data: `{"allowed_servers":"calculator,github"}`},
		{path: "mcp/clients/cursor-local", data: `{"allowed_servers":["calculator","github","calculator"]}`},
		{path: "mcp/clients/cursor-local", data: `{"metadata":{"cost":7}}`},
		{path: "mcp/clients/cursor-local", data: `{"metadata":{"shared":true}}`},
		{path: "mcp/clients/cursor-local", data: `{"metadata":{}}`},
		{path: "mcp/clients/cursor-local", data: `{"seal":""}`},
		{path: "mcp/servers/calculator", data: `{"description":""}`},
		{path: "mcp/servers/github", data: `{"headers":{"Authorization":"Bearer example-of-a-credential"}}`},
		{path: "mcp/servers/github", data: `{"credentials":{"gh":"kv/data/gh"},"headers":{"Authorization":"Bearer {{gh.data.token}}"}}`},
		{path: "mcp/clients/cursor-local", data: `{"upstream_policies":"mcp-search,mcp-upstream"}`},
		{path: "mcp/servers/github", data: `{"url":"https://api.githubcopilot.com/mcp/?key=example-of-a-credential"}`},
	} {
		differs.ignoreAbsent = true
		differs.apply(t, h)
		want, have := differs.plan(t, h)
		require.NotEqual(t, want, have, "the page warns of what is clean")
	}
	for _, clean := range []genericEndpoint{
		{path: "mcp/clients/cursor-local", data: `{"allowed_servers":["github","calculator"],"allowed_tools":[]}`},
		{path: "mcp/clients/cursor-local", data: `{"allowed_servers":["calculator","github"]}`},
		{path: "mcp/clients/cursor-local", data: `{"metadata":null,"seal":null,"token_ttl":0}`},
		{path: "mcp/servers/calculator", data: `{"description":null}`},
		{path: "mcp/clients/cursor-local", data: `{"upstream_policies":["mcp-search","mcp-upstream"]}`},
		{path: "mcp/clients/cursor-local", data: `{"upstream_policies":null}`},
	} {
		clean.ignoreAbsent = true
		clean.apply(t, h)
		want, have := clean.plan(t, h)
		require.Equal(t, want, have, "the page says that this stays equal")
	}

	// A field that the file names no more keeps its value; an empty one takes it away.
	client := genericEndpoint{path: "mcp/clients/cursor-local", data: `{"disabled":false}`}
	client.apply(t, h)
	require.Equal(t, []any{"calculator", "github"}, h.Read(client.path)["allowed_servers"])
	client.data = `{"allowed_servers":[]}`
	client.apply(t, h)
	require.Empty(t, h.Read(client.path)["allowed_servers"])
}
