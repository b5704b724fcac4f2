package manifests

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

// Comments on lines in the plain manifests: a rendered value has no comment.
var remarks = map[string]string{
	"image: ": "CHANGE",
	"kubernetes.io/metadata.name: monitoring":  "CHANGE: where Prometheus runs",
	"cidr: 192.0.2.10/32":                      "CHANGE: Vault, or a namespaceSelector for one in the cluster",
	"kubernetes.io/metadata.name: mcp-servers": "CHANGE: servers in the cluster",
	"cidr: 0.0.0.0/0":                          "CHANGE: servers outside the cluster; remove this if there are none",
	`address = "https://vault`:                 "CHANGE",
	"public_url = ":                            "CHANGE",
	"upstream_allow = ":                        "CHANGE: without it, whoever may write mcp/servers/ could point the gateway at anything in the cluster",
	"jwt_file = ":                              "for Vault only: see deployment.yaml",
	`address = "0.0.0.0:8081"`:                 "for the kubelet's probes, which come from outside; networkpolicy.yaml keeps others away",
	`file = "stdout"`:                          "the gateway's own log is on stderr",
	"drain_delay = ":                           "Services and load balancers stop sending requests within this time",
}

var helmsLabels = regexp.MustCompile(`(?m)^ +(helm\.sh/chart|app\.kubernetes\.io/(managed-by|instance)): .*\n`)

// plain makes a plain manifest of a rendered one: without Helm's labels, and with
// remarks.
func plain(text string) string {
	var out strings.Builder
	for line := range strings.Lines(helmsLabels.ReplaceAllString(strings.TrimSpace(text)+"\n", "")) {
		for found, remark := range remarks {
			if strings.Contains(line, found) {
				line = strings.TrimSuffix(line, "\n") + " # " + remark + "\n"
			}
		}
		out.WriteString(line)
	}
	return out.String()
}

// TestThePlainManifestsAreTheCharts: the ConfigMap excepted, whose file kustomize takes.
func TestThePlainManifestsAreTheCharts(t *testing.T) {
	content, err := os.ReadFile(filepath.Join(deploy, "helm", "plain-manifests.yaml"))
	require.NoError(t, err)
	var of map[string]any
	require.NoError(t, yaml.UnmarshalStrict(content, &of))
	files := map[string]string{"gateway.hcl": install(t, of).config}
	of["existingConfigMap"] = "mcp-gateway"
	texts, err := render(t, of)
	require.NoError(t, err)
	delete(texts, "NOTES.txt")
	for name, text := range texts {
		files[name] = text
	}
	require.Len(t, files, 6)
	for name, text := range files {
		path := filepath.Join(deploy, "kubernetes", "gateway", name)
		if *update {
			require.NoError(t, os.WriteFile(path, []byte(plain(text)), 0o644))
			continue
		}
		found, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, plain(text), string(found), "%s: run make test-manifests TESTFLAGS='-update -run TestThePlain'", path)
	}
}
