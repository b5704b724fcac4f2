package docs

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/docrun"
	"vault-plugin-secrets-mcp/test/harness"
)

// TestDocsEngine runs every command of docs/engine.md, in order, against one Vault.
func TestDocsEngine(t *testing.T) {
	h := harness.New(t)
	docrun.RunPage(t, h, "engine.md", nil)
}

// TestDocsPolicy does the same with docs/policy.md.
func TestDocsPolicy(t *testing.T) {
	h := harness.New(t)
	docrun.RunPage(t, h, "policy.md", nil)
}

// TestDependencies wants a reason in docs/dependencies.md for every module that
// go.mod requires directly.
func TestDependencies(t *testing.T) {
	reasons, err := os.ReadFile("../../docs/dependencies.md")
	require.NoError(t, err)
	gomod, err := os.ReadFile("../../go.mod")
	require.NoError(t, err)
	direct := regexp.MustCompile(`(?m)^\s*(?:require )?(\S+\.\S+/\S+) v\S+$`).FindAllStringSubmatch(string(gomod), -1)
	require.NotEmpty(t, direct)
	for _, module := range direct {
		root, rest, _ := strings.Cut(module[1], "/api/")
		if rest != "" {
			root, rest = root+"/api", strings.TrimPrefix(rest, "/")
		}
		if sub, ok := strings.CutPrefix(module[1], "github.com/aws/aws-sdk-go-v2/"); ok {
			root, rest = "github.com/aws/aws-sdk-go-v2", sub
		}
		require.Contains(t, string(reasons), "`"+root+"`", module[1])
		require.Contains(t, string(reasons), rest, module[1])
	}
}
