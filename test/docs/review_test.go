package docs

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/docrun"
	"vault-plugin-secrets-mcp/test/harness"
)

// TestDocsReview runs the commands of docs/review.md in a folder that has the policies.
func TestDocsReview(t *testing.T) {
	h := harness.New(t)
	policies, err := filepath.Abs("../../bootstrap/policies")
	require.NoError(t, err)
	folder := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(folder, "bootstrap"), 0o700))
	require.NoError(t, os.Symlink(policies, filepath.Join(folder, "bootstrap", "policies")))
	docrun.RunPageIn(t, h, folder, "review.md", []string{
		"PATH=" + filepath.Dir(h.Programs.Bootstrap) + ":" + filepath.Join(folder, "bin") + ":" + os.Getenv("PATH"),
	})
}
