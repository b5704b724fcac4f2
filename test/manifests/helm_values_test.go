package manifests

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write the chart's schema and the plain manifests")

func TestValuesThatCannotWorkAreRefused(t *testing.T) {
	for name, test := range map[string]struct {
		values string
		errors []string // texts of the message
	}{
		"no image":                           {"image: {repository: ''}", []string{"image.repository is required"}},
		"an image with its tag":              {"image: {repository: 'r.example.com/g:v1'}", []string{"/image/repository", "pattern"}},
		"a digest that is none":              {"image: {digest: abc}", []string{"/image/digest", "pattern"}},
		"no address of Vault":                {"config: {vault: {address: ''}}", []string{"config.vault.address is required"}},
		"no public URL":                      {"config: {listener: {public_url: ''}}", []string{"config.listener.public_url is required"}},
		"servers anywhere":                   {"config: {upstream_allow: []}", []string{"config.upstream_allow is required"}},
		"TLS without a certificate":          {"tls: {secret: ''}", []string{"tls.secret is required"}},
		"certificates of clients, no TLS":    {"tls: {enabled: false, clientCA: {secret: x}}", []string{"tls.clientCA needs tls.enabled"}},
		"two authorities":                    {"vaultCA: {configMap: a, secret: b}", []string{"vaultCA has a configMap and a secret"}},
		"a method that does not exist":       {"auth: {method: ldap}", []string{"/auth/method", "'kubernetes', 'jwt', 'approle', 'token_file'"}},
		"approle without its Secret":         {"auth: {method: approle}", []string{"auth.secret is required"}},
		"a token file without its path":      {"auth: {method: token_file}", []string{"auth.path is required"}},
		"a wrapped secret id for two pods":   {"auth: {method: approle, secret: x, wrapped: true}", []string{"auth.wrapped needs replicas: 1"}},
		"a wrapped service account token":    {"{replicas: 1, auth: {wrapped: true}}", []string{"auth.wrapped belongs to auth.method approle"}},
		"fewer pods than the fewest":         {"autoscaling: {minReplicas: 9}", []string{"autoscaling.minReplicas is greater"}},
		"accounts for children":              {"config: {stdio: {allowed_commands: [/bin/sh], uid_range: '70000-70063'}}", []string{"uid_range and user need root"}},
		"a text for a number":                {"replicas: two", []string{"/replicas", "want integer"}},
		"no pod may ever go":                 {"podDisruptionBudget: {maxUnavailable: 0}", []string{"/podDisruptionBudget/maxUnavailable"}},
		"a drain that is not in seconds":     {"config: {listener: {drain_delay: 1m}}", []string{"/config/listener/drain_delay", "pattern"}},
		"an unknown value":                   {"replicaCount: 3", []string{"additional properties 'replicaCount' not allowed"}},
		"an unknown value in a block":        {"tls: {secretName: x}", []string{"/tls", "additional properties 'secretName' not allowed"}},
		"an unknown block of the file":       {"config: {listner: {}}", []string{"/config", "additional properties 'listner' not allowed"}},
		"an unknown setting of the file":     {"config: {audit: {path: x}}", []string{"/config/audit", "additional properties 'path' not allowed"}},
		"an unknown setting, deeper":         {"config: {sign_in: {login: {x: {mont: oidc}}}}", []string{"/config/sign_in/login/x", "'mont'"}},
		"a setting that the chart writes":    {"config: {listener: {tls_cert_file: /x}}", []string{"/config/listener", "'tls_cert_file'"}},
		"the listener's address":             {"config: {listener: {address: ':1'}}", []string{"/config/listener", "'address'"}},
		"a name that is none in Kubernetes":  {"tls: {secret: My_Secret}", []string{"/tls/secret", "pattern"}},
		"a path out of the folder of a file": {"files: {secrets: ['../x']}", []string{"/files/secrets/0", "pattern"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := render(t, values(t, test.values))
			require.Error(t, err)
			for _, text := range test.errors {
				require.ErrorContains(t, err, text)
			}
		})
	}
}

// The chart itself writes these.
var written = map[string][]string{
	"vault":    {"ca_cert_file", "client_cert_file", "client_key_file"},
	"listener": {"address", "tls_cert_file", "tls_key_file", "tls_client_ca_file"},
}

var settingRow = regexp.MustCompile("(?m)^\\| `([a-z0-9_]+)` \\| [^|]+ \\|")

// blockSchema is the schema of a block, with the settings that its table in docs/gateway.md has.
func blockSchema(t *testing.T, name string) map[string]any {
	t.Helper()
	page, err := os.ReadFile("../../docs/gateway.md")
	require.NoError(t, err)
	_, after, found := strings.Cut(string(page), "\n### `"+name+"`\n")
	require.True(t, found, name)
	_, table, found := strings.Cut(after, "\n| setting | default | |\n")
	require.True(t, found, name)
	table, _, _ = strings.Cut(table, "\n\n")
	properties := map[string]any{}
	for _, row := range settingRow.FindAllStringSubmatch(table, -1) {
		if slices.Contains(written[name], row[1]) {
			continue
		}
		properties[row[1]] = map[string]any{"type": []string{"string", "number", "boolean", "array"}}
	}
	require.NotEmpty(t, properties, name)
	return map[string]any{"type": "object", "properties": properties, "additionalProperties": false}
}

// configSchema is the schema of the value `config`.
func configSchema(t *testing.T) map[string]any {
	t.Helper()
	properties := func(block map[string]any) map[string]any { return block["properties"].(map[string]any) }
	named := func(block map[string]any) map[string]any {
		return map[string]any{"type": "object", "additionalProperties": block}
	}
	all := map[string]any{"upstream_allow": map[string]any{"type": "array", "items": map[string]any{"type": "string"}}}
	for _, name := range []string{"vault", "listener", "grants", "kms", "audit", "stdio", "upstream", "upstream_proxy", "upstream_credentials", "sign_in", "limits", "aggregate", "log"} {
		all[name] = blockSchema(t, name)
	}
	seconds := map[string]any{"type": "string", "pattern": "^[0-9]{1,6}s$"}
	listener := properties(all["listener"].(map[string]any))
	listener["drain_delay"], listener["drain_timeout"] = seconds, seconds
	listener["allowed_hosts"] = map[string]any{"type": "array", "items": map[string]any{"type": "string"}}
	properties(all["audit"].(map[string]any))["syslog"] = blockSchema(t, "syslog")
	properties(all["upstream"].(map[string]any))["proxy"] = all["upstream_proxy"]
	all["upstream"] = named(all["upstream"].(map[string]any))
	for _, name := range []string{"login", "machine", "application"} {
		properties(all["sign_in"].(map[string]any))[name] = named(blockSchema(t, name))
	}
	return map[string]any{"type": "object", "properties": all, "additionalProperties": false, "required": []string{"listener", "vault"}}
}

// TestTheChartKnowsEverySettingOfTheGateway: its schema has those of docs/gateway.md, which
// other tests compare with the source.
func TestTheChartKnowsEverySettingOfTheGateway(t *testing.T) {
	path := filepath.Join(chartFolder, "values.schema.json")
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	var schema map[string]any
	require.NoError(t, json.Unmarshal(content, &schema))
	schema["properties"].(map[string]any)["config"] = configSchema(t)
	var expected bytes.Buffer
	encoder := json.NewEncoder(&expected)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	require.NoError(t, encoder.Encode(schema))
	if *update {
		require.NoError(t, os.WriteFile(path, expected.Bytes(), 0o644))
		return
	}
	require.Equal(t, expected.String(), string(content), "run: make test-manifests TESTFLAGS='-update -run TestTheChart'")
}

// TestEveryValueOfTheChartIsInItsSchema, so that none is refused, or unknown.
func TestEveryValueOfTheChartIsInItsSchema(t *testing.T) {
	content, err := os.ReadFile(filepath.Join(chartFolder, "values.yaml"))
	require.NoError(t, err)
	var defaults map[string]any
	require.NoError(t, yaml.UnmarshalStrict(content, &defaults))
	content, err = os.ReadFile(filepath.Join(chartFolder, "values.schema.json"))
	require.NoError(t, err)
	var schema struct{ Properties map[string]any }
	require.NoError(t, json.Unmarshal(content, &schema))
	for name := range schema.Properties {
		if name != "global" { // Helm's own
			require.Contains(t, defaults, name, "values.yaml does not say what it is")
		}
	}
	_, err = render(t, values(t, ""))
	require.NoError(t, err)
}

// TestTheChartHasTheVersionOfTheProject: that of the last release, until the next one.
func TestTheChartHasTheVersionOfTheProject(t *testing.T) {
	content, err := os.ReadFile(filepath.Join(chartFolder, "Chart.yaml"))
	require.NoError(t, err)
	var chart struct{ Version, AppVersion string }
	require.NoError(t, yaml.Unmarshal(content, &chart))
	changes, err := os.ReadFile(filepath.Join(repository, "CHANGELOG.md"))
	require.NoError(t, err)
	released := regexp.MustCompile(`(?m)^## \[(\d+\.\d+\.\d+)\]`).FindSubmatch(changes)
	require.NotNil(t, released)
	require.Equal(t, string(released[1]), chart.Version)
	require.Equal(t, "v"+string(released[1]), chart.AppVersion)
}
