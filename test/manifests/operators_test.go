package manifests

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"k8s.io/kube-openapi/pkg/validation/strfmt"
	"k8s.io/kube-openapi/pkg/validation/validate"
	"sigs.k8s.io/yaml"
)

// operator is a program that brings its own kinds, whose schemas lie in its Go
// module.
type operator struct {
	module string // path and version
	sum    string // the checksum that `go mod download` must report
	crds   string // files in the module
}

var (
	vaultSecretsOperator = operator{
		module: "github.com/hashicorp/vault-secrets-operator@v0.10.0",
		sum:    "h1:BjOTBJRqx1SLo7NeyqNJWRPDyfRscbqPtGU1U2LzArg=",
		crds:   "config/crd/bases/*.yaml",
	}
	externalSecrets = operator{
		module: "github.com/external-secrets/external-secrets@v1.3.2",
		sum:    "h1:u2J8RjlHIeF0oZCqtl92adI/uZWUwOesJIDkfql6LqQ=",
		crds:   "config/crds/bases/*.yaml",
	}
)

// download returns the module's folder.
func (o *operator) download(t *testing.T) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", o.module)
	command.Dir = t.TempDir() // outside any module
	output, err := command.Output()
	require.NoError(t, err, string(output))
	var answer struct{ Dir, Sum string }
	require.NoError(t, json.Unmarshal(output, &answer))
	require.Equal(t, o.sum, answer.Sum)
	return answer.Dir
}

// schemas returns the schema of every kind, by "group/version/Kind".
func (o *operator) schemas(t *testing.T) map[string]*spec.Schema {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(o.download(t), o.crds))
	require.NoError(t, err)
	all := map[string]*spec.Schema{}
	for _, file := range files {
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		var crd struct {
			Spec struct {
				Group    string
				Names    struct{ Kind string }
				Versions []struct {
					Name   string
					Schema struct{ OpenAPIV3Schema map[string]any }
				}
			}
		}
		require.NoError(t, yaml.Unmarshal(content, &crd), file)
		for _, version := range crd.Spec.Versions {
			strict(version.Schema.OpenAPIV3Schema)
			text, err := json.Marshal(version.Schema.OpenAPIV3Schema)
			require.NoError(t, err)
			schema := &spec.Schema{}
			require.NoError(t, json.Unmarshal(text, schema))
			all[crd.Spec.Group+"/"+version.Name+"/"+crd.Spec.Names.Kind] = schema
		}
	}
	require.NotEmpty(t, all)
	return all
}

// strict refuses fields that a schema does not name, as Kubernetes does where it
// validates strictly. Fields below metadata are Kubernetes' own.
func strict(schema map[string]any) {
	if schema["x-kubernetes-preserve-unknown-fields"] == true {
		return
	}
	if properties, ok := schema["properties"].(map[string]any); ok {
		if _, ok := schema["additionalProperties"]; !ok {
			schema["additionalProperties"] = false
		}
		for name, property := range properties {
			if property, ok := property.(map[string]any); ok && name != "metadata" {
				strict(property)
			}
		}
	}
	for _, below := range []string{"items", "additionalProperties"} {
		if schema, ok := schema[below].(map[string]any); ok {
			strict(schema)
		}
	}
}

// check validates an object by the schema of its kind. Kinds of Kubernetes
// itself are decoded instead.
func check(t *testing.T, schemas map[string]*spec.Schema, o *object) error {
	t.Helper()
	name := o.apiVersion() + "/" + o.kind()
	if kinds[name] != nil {
		_, err := decode(o)
		return err
	}
	require.Contains(t, schemas, name)
	return validate.NewSchemaValidator(schemas[name], nil, "", strfmt.Default).Validate(o.fields).AsError()
}

// TestThePageSetsUpWhatTheManifestsUse: the roles, for these namespaces and this
// audience.
func TestThePageSetsUpWhatTheManifestsUse(t *testing.T) {
	content, err := os.ReadFile("../../docs/kubernetes.md")
	require.NoError(t, err)
	roles := regexp.MustCompile(`auth/kubernetes/role/(\S+) audience=(\S+) [^$]*?bound_service_account_namespaces=(\S+)`)
	documented := map[string]string{}
	for _, found := range roles.FindAllStringSubmatch(strings.ReplaceAll(string(content), "\\\n", ""), -1) {
		require.Equal(t, "vault", found[2])
		documented[found[1]] = found[3]
	}
	require.Equal(t, map[string]string{"mcp-gateway": "mcp", "mcp-client": "agents", "mcp-client-eso": "agents"}, documented)
	for folder, role := range map[string]string{"gateway": "mcp-gateway", "vault-secrets-operator": "mcp-client", "external-secrets": "mcp-client-eso"} {
		files, err := filepath.Glob(filepath.Join(deploy, "kubernetes", folder, "*"))
		require.NoError(t, err)
		var all strings.Builder
		for _, file := range files {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			all.Write(text)
		}
		require.Regexp(t, `(?m)\brole\s*[:=]\s*"?`+role+`"?$`, all.String())
		require.Regexp(t, `audiences?: (vault|\[vault\])`, all.String())
	}
}

// TestThePagesPolicyGoesByTheServiceAccount runs the command with which the page
// makes the policy, up to where Vault would get it.
func TestThePagesPolicyGoesByTheServiceAccount(t *testing.T) {
	content, err := os.ReadFile("../../docs/kubernetes.md")
	require.NoError(t, err)
	command := regexp.MustCompile(`(?m)^(sed .*mcp-client\.hcl) \|$`).FindStringSubmatch(string(content))
	require.NotNil(t, command)
	sed := exec.CommandContext(t.Context(), "bash", "-c", command[1])
	sed.Dir, sed.Env = "../..", append(os.Environ(), "ACCESSOR=auth_kubernetes_1a2b3c4d")
	output, err := sed.Output()
	require.NoError(t, err)
	require.Contains(t, string(output), "path \"mcp/creds/{{identity.entity.aliases.auth_kubernetes_1a2b3c4d.metadata.service_account_name}}\" {")
	require.Equal(t, 1, strings.Count(string(output), "identity.entity"))
}

func TestManifestsOfOperatorsKeepTheirSchemas(t *testing.T) {
	for folder, test := range map[string]struct {
		operator operator
		kinds    []string
		broken   map[string][2]string // by kind: the changes
	}{
		"vault-secrets-operator": {
			vaultSecretsOperator,
			[]string{"ServiceAccount", "VaultConnection", "VaultAuth", "VaultDynamicSecret"},
			map[string][2]string{
				"VaultConnection":    {"address:", "host:"},
				"VaultAuth":          {"method: kubernetes", "method: cubernetes"},
				"VaultDynamicSecret": {"renewalPercent: 67", "renewalPercent: 99"},
			},
		},
		"external-secrets": {
			externalSecrets,
			[]string{"ServiceAccount", "VaultDynamicSecret", "ExternalSecret"},
			map[string][2]string{
				"VaultDynamicSecret": {"resultType: Data", "resultType: Token"},
				"ExternalSecret":     {"generatorRef:", "generatorReference:"},
			},
		},
	} {
		t.Run(folder, func(t *testing.T) {
			schemas := test.operator.schemas(t)
			var kinds []string
			for _, o := range objects(t, folder) {
				kinds = append(kinds, o.kind())
				require.NoError(t, check(t, schemas, &o), "%s: %s %s", o.file, o.kind(), o.name())
				require.Equal(t, "agents", o.fields["metadata"].(map[string]any)["namespace"])
				if change, ok := test.broken[o.kind()]; ok {
					broken := o.changed(t, change[0], change[1])
					require.Error(t, check(t, schemas, &broken), "%s with %q", o.kind(), change[1])
				}
			}
			require.Equal(t, test.kinds, kinds)
		})
	}
}
