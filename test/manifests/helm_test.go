package manifests

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	psapi "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/yaml"
)

const chartFolder = deploy + "/helm/mcp-gateway"

var prometheusOperator = operator{
	module: "github.com/prometheus-operator/prometheus-operator@v0.85.0",
	sum:    "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=",
	crds:   "example/prometheus-operator-crd/*_servicemonitors.yaml",
}

// required are the values without a default in the chart.
const required = `
image: {repository: registry.example.com/mcp-gateway}
config:
  vault: {address: "https://vault.example.com:8200"}
  listener: {public_url: "https://mcp.example.com"}
  upstream_allow: ["*.mcp-servers.svc.cluster.local"]
tls: {secret: mcp-gateway-tls}
`

// values returns the required values with others put over them.
func values(t *testing.T, over string) map[string]any {
	t.Helper()
	var below, above map[string]any
	require.NoError(t, yaml.UnmarshalStrict([]byte(required), &below))
	require.NoError(t, yaml.UnmarshalStrict([]byte(over), &above))
	if above == nil {
		return below
	}
	return chartutil.CoalesceTables(above, below)
}

// render does what `helm install mcp-gateway -n mcp` does before it speaks to a cluster:
// it returns the text of each template that has one.
func render(t *testing.T, values map[string]any) (map[string]string, error) {
	t.Helper()
	chart, err := loader.LoadDir(chartFolder)
	require.NoError(t, err)
	release := chartutil.ReleaseOptions{Name: "mcp-gateway", Namespace: "mcp", Revision: 1, IsInstall: true}
	all, err := chartutil.ToRenderValues(chart, values, release, chartutil.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	rendered, err := engine.Render(chart, all)
	if err != nil {
		return nil, err
	}
	texts := map[string]string{}
	for name, text := range rendered {
		if strings.TrimSpace(text) != "" {
			texts[filepath.Base(name)] = text
		}
	}
	return texts, nil
}

// installed is the objects of a rendered chart.
type installed struct {
	kinds      []string
	deployment *apps.Deployment
	config     string // gateway.hcl
	notes      string
}

// install renders the chart and checks each object by the schema of its kind.
func install(t *testing.T, values map[string]any) *installed {
	t.Helper()
	texts, err := render(t, values)
	require.NoError(t, err)
	in := &installed{notes: texts["NOTES.txt"]}
	for _, file := range slices.Sorted(maps.Keys(texts)) {
		if file == "NOTES.txt" {
			continue
		}
		for _, o := range documents(t, file, []byte(texts[file])) {
			in.kinds = append(in.kinds, o.kind())
			if kinds[o.apiVersion()+"/"+o.kind()] == nil {
				require.NoError(t, check(t, prometheusOperator.schemas(t), &o), texts[file])
				continue
			}
			decoded, err := decode(&o)
			require.NoError(t, err, texts[file])
			switch decoded := decoded.(type) {
			case *apps.Deployment:
				in.deployment = decoded
			case *core.ConfigMap:
				in.config = decoded.Data["gateway.hcl"]
			}
		}
	}
	return in
}

// requireRestricted checks the pod by the strictest of Kubernetes' own standards.
func (in *installed) requireRestricted(t *testing.T) {
	t.Helper()
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	require.NoError(t, err)
	restricted := psapi.LevelVersion{Level: psapi.LevelRestricted, Version: psapi.LatestVersion()}
	pod := in.deployment.Spec.Template
	for _, result := range evaluator.EvaluatePod(restricted, &pod.ObjectMeta, &pod.Spec) {
		require.True(t, result.Allowed, "%s: %s", result.ForbiddenReason, result.ForbiddenDetail)
	}
}

// requireMounts checks that each mount has its volume, and each volume a mount.
func (in *installed) requireMounts(t *testing.T) {
	t.Helper()
	var volumes, mounts []string
	for _, volume := range in.deployment.Spec.Template.Spec.Volumes {
		volumes = append(volumes, volume.Name)
	}
	for _, mount := range in.deployment.Spec.Template.Spec.Containers[0].VolumeMounts {
		mounts = append(mounts, mount.Name)
	}
	require.ElementsMatch(t, volumes, mounts)
}

var quotedPath = regexp.MustCompile(`"(/[^"]+)"`)

// checkConfig has the real gateway check the file, with the files that it names where the
// pod's volumes put them.
func (in *installed) checkConfig(t *testing.T) (string, error) {
	t.Helper()
	programs := os.Getenv("TEST_PROGRAMS")
	require.NotEmpty(t, programs, "run `make test-manifests`, which builds the gateway first")
	folder := t.TempDir()
	source := quotedPath.ReplaceAllStringFunc(in.config, func(quoted string) string {
		path := strings.Trim(quoted, `"`)
		for _, mount := range in.deployment.Spec.Template.Spec.Containers[0].VolumeMounts {
			if strings.HasPrefix(path, mount.MountPath+"/") {
				file := filepath.Join(folder, path)
				require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o700))
				require.NoError(t, os.WriteFile(file, fileFor(t, path), 0o600))
				return `"` + file + `"`
			}
		}
		return quoted
	})
	file := filepath.Join(folder, "gateway.hcl")
	require.NoError(t, os.WriteFile(file, []byte(source), 0o600))
	command := exec.CommandContext(t.Context(), filepath.Join(programs, "mcp-gateway"), "-config", file, "-check-config")
	command.Env = []string{"HOME=" + folder}
	output, err := command.CombinedOutput()
	return string(output), err
}

func TestTheChartIsCompleteWithEachBlockOnAndOff(t *testing.T) {
	usual := []string{"ConfigMap", "Deployment", "NetworkPolicy", "PodDisruptionBudget", "Service", "ServiceAccount"}
	checked := map[string]bool{} // files that the gateway has accepted
	without := func(kind string) []string {
		return slices.DeleteFunc(slices.Clone(usual), func(k string) bool { return k == kind })
	}
	for name, test := range map[string]struct {
		values string
		kinds  []string // nil: the usual ones
		config []string // lines of gateway.hcl
		lacks  string   // is not in gateway.hcl
	}{
		"nothing but what is required": {"", nil, []string{
			`address = "https://vault.example.com:8200"`, `auth "kubernetes" {`, `role = "mcp-gateway"`, `jwt_file = "/var/run/vault/token"`,
			`allowed_hosts = ["mcp-gateway.mcp.svc"]`, `tls_cert_file = "/etc/mcp-gateway-tls/tls.crt"`,
		}, "ca_cert_file"},
		"a login by jwt":                   {"auth: {method: jwt, mount: jwt-cluster}", nil, []string{`auth "jwt" {`, `mount = "jwt-cluster"`, `role = "mcp-gateway"`}, "role_id"},
		"a login by approle":               {"auth: {method: approle, secret: approle}", nil, []string{`auth "approle" {`, `role_id_file = "/var/run/vault/role_id"`}, "jwt_file"},
		"a wrapped secret id":              {"{replicas: 1, auth: {method: approle, secret: approle, wrapped: true}}", nil, []string{`secret_id_wrapped = true`}, "jwt_file"},
		"a token that an Agent keeps":      {agentValues, nil, []string{`auth "token_file" {`, `path = "/run/vault-agent/token"`}, "jwt_file"},
		"Vault's authority in a ConfigMap": {"vaultCA: {configMap: vault-ca}", nil, []string{`ca_cert_file = "/etc/vault-ca/ca.crt"`}, ""},
		"Vault's authority in a Secret":    {"vaultCA: {secret: vault-ca, key: tls.crt}", nil, []string{`ca_cert_file = "/etc/vault-ca/tls.crt"`}, ""},
		"a certificate for Vault":          {"vaultClientCertificate: {secret: vault-client}", nil, []string{`client_cert_file = "/etc/vault-client/tls.crt"`}, ""},
		"no TLS":                           {"tls: {enabled: false, secret: ''}", nil, nil, "tls_"},
		"clients with certificates":        {"tls: {clientCA: {configMap: clients}}", nil, []string{`tls_client_ca_file = "/etc/mcp-gateway-client-ca/ca.crt"`}, ""},
		"upstream credentials":             {"config: {upstream_credentials: {token_role: mcp-upstream, policies: [mcp-upstream], max_leases: 1000000}}", nil, []string{"upstream_credentials {", "max_leases = 1000000"}, ""},
		"sign-in":                          {signInValues, nil, []string{`login "employees" {`, `application "intranet" {`, `machine "ci" {`}, ""},
		"an upstream with a proxy":         {upstreamValues, nil, []string{`upstream "github" {`, "proxy {"}, ""},
		"sealed tokens":                    {"{config: {kms: {audience: 'https://mcp.example.com'}}, serviceAccount: {annotations: {eks.amazonaws.com/role-arn: 'arn:aws:iam::1:role/x'}}}", nil, []string{"kms {"}, ""},
		"an empty block":                   {"config: {kms: {}}", nil, []string{"kms {"}, ""},
		"servers that are programs":        {"config: {stdio: {allowed_commands: [/bin/sh]}}", nil, []string{`home_dir = "/var/lib/mcp-gateway/children"`}, ""},
		"further names":                    {"config: {listener: {allowed_hosts: [mcp.internal], trusted_proxies: [10.0.0.0/8]}}", nil, []string{`allowed_hosts = ["mcp-gateway.mcp.svc","mcp.internal"]`}, ""},
		"text of one's own":                {"extraConfig: |\n  limits {\n    max_body = \"8MiB\"\n  }\n", nil, []string{"limits {", `  max_body = "8MiB"`}, ""},
		"autoscaling":                      {"autoscaling: {enabled: true}", slices.Sorted(slices.Values(append([]string{"HorizontalPodAutoscaler"}, usual...))), nil, ""},
		"no disruption budget":             {"podDisruptionBudget: {enabled: false}", without("PodDisruptionBudget"), nil, ""},
		"a disruption budget in percent":   {"podDisruptionBudget: {maxUnavailable: 25%}", nil, nil, ""},
		"no network policy":                {"networkPolicy: {enabled: false}", without("NetworkPolicy"), nil, ""},
		"a network policy for all ways":    {networkValues, nil, nil, ""},
		"a ServiceMonitor":                 {"serviceMonitor: {enabled: true, labels: {release: prometheus}}", slices.Sorted(slices.Values(append([]string{"Service", "ServiceMonitor"}, usual...))), nil, ""},
		"a service account that exists":    {"serviceAccount: {create: false, name: gateways}", without("ServiceAccount"), nil, ""},
		"another name for everything":      {"fullnameOverride: edge", nil, []string{`allowed_hosts = ["edge.mcp.svc"]`}, ""},
		"an image by its digest":           {"image: {digest: 'sha256:" + strings.Repeat("ab", 32) + "', pullSecrets: [registry]}", nil, nil, ""},
		"places and priorities":            {placeValues, nil, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			in := install(t, values(t, test.values))
			expected := test.kinds
			if expected == nil {
				expected = usual
			}
			require.ElementsMatch(t, expected, in.kinds)
			for _, line := range test.config {
				require.Contains(t, in.config, line)
			}
			if test.lacks != "" {
				require.NotContains(t, in.config, test.lacks)
			}
			in.requireRestricted(t)
			in.requireMounts(t)
			if checked[in.config] {
				return
			}
			output, err := in.checkConfig(t)
			require.NoError(t, err, "%s\n%s", output, in.config)
			checked[in.config] = true
		})
	}
}

// TestAConfigMapOfOnesOwnTakesThePlaceOfTheChartsOne and asks for no values of its content.
func TestAConfigMapOfOnesOwnTakesThePlaceOfTheChartsOne(t *testing.T) {
	in := install(t, map[string]any{
		"existingConfigMap": "mine", "image": map[string]any{"repository": "r.example.com/g"}, "tls": map[string]any{"secret": "tls"},
	})
	require.NotContains(t, in.kinds, "ConfigMap")
	require.Equal(t, "mine", in.deployment.Spec.Template.Spec.Volumes[0].ConfigMap.Name)
	require.NotContains(t, in.deployment.Spec.Template.Annotations, "checksum/config")
}

func TestAChangedFileRollsThePods(t *testing.T) {
	sum := func(over string) string {
		return install(t, values(t, over)).deployment.Spec.Template.Annotations["checksum/config"]
	}
	require.NotEmpty(t, sum(""))
	require.Equal(t, sum(""), sum("replicas: 3"))
	require.NotEqual(t, sum(""), sum("config: {limits: {max_body: 8MiB}}"))
	require.NotEqual(t, sum(""), sum("extraConfig: '# x'"))
}

func TestAPodHasTimeToDrain(t *testing.T) {
	in := install(t, values(t, "config: {listener: {drain_delay: 20s, drain_timeout: 120s}}"))
	require.EqualValues(t, 145, *in.deployment.Spec.Template.Spec.TerminationGracePeriodSeconds)
}

// TestNoValueIsMoreThanAValueInTheFile: the characters of a value end neither its quotes
// nor its block, and begin no template of HCL. The gateway refuses two of these titles,
// as titles.
func TestNoValueIsMoreThanAValueInTheFile(t *testing.T) {
	logins := map[string]any{}
	for name, title := range map[string]string{
		"quotes": `x" } stdio { allowed_commands = ["/bin/sh"] } #`, "line": "x\n}\nstdio {\n}", "template": "${file}", "directive": "%{ if true }x%{ endif }",
		"backslash": `x\`, "html": "<a&b>", "letters": "größe", "separator": "x\u2028y",
	} {
		logins[name] = map[string]any{"mount": "oidc", "role": "mcp", "title": title}
	}
	over := values(t, "")
	over["config"].(map[string]any)["sign_in"] = map[string]any{"login": logins}
	in := install(t, over)
	output, err := in.checkConfig(t)
	require.Error(t, err)
	lines := strings.Split(strings.TrimSpace(output), "\n")
	require.Len(t, lines, 2, output)
	for _, line := range lines {
		require.Contains(t, line, "login: title: it is not a text for a page")
	}
}

func TestHelmsOwnLinterFindsNothing(t *testing.T) {
	linted := lint.All(chartFolder, values(t, ""), "mcp", true)
	for _, message := range linted.Messages {
		require.Less(t, message.Severity, support.WarningSev, message.Error())
	}
}

// TestThePagesCommandsInstallTheChart: with the values that the page has, and with no other
// name, namespace or chart.
func TestThePagesCommandsInstallTheChart(t *testing.T) {
	content, err := os.ReadFile("../../docs/kubernetes.md")
	require.NoError(t, err)
	for _, command := range []string{"install", "upgrade"} {
		require.Contains(t, string(content), "\nhelm "+command+" mcp-gateway bootstrap/deploy/helm/mcp-gateway --namespace mcp --values values.yaml\n")
	}
	_, after, found := strings.Cut(string(content), "\n## The gateway with Helm\n")
	require.True(t, found)
	_, after, found = strings.Cut(after, "```yaml\n")
	require.True(t, found)
	text, _, _ := strings.Cut(after, "```")
	var documented map[string]any
	require.NoError(t, yaml.UnmarshalStrict([]byte(text), &documented))
	in := install(t, documented)
	require.Contains(t, in.notes, "vault write auth/kubernetes/role/mcp-gateway audience=vault")
	output, err := in.checkConfig(t)
	require.NoError(t, err, output)
	for _, message := range lint.All(chartFolder, documented, "mcp", true).Messages {
		require.Less(t, message.Severity, support.WarningSev, message.Error())
	}
}
