package signin

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/doctable"
)

// TestThePageHasEveryEventAndReason compares docs/gateway.md with the constants.
func TestThePageHasEveryEventAndReason(t *testing.T) {
	want := map[string][]string{}
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	constant := regexp.MustCompile(`(?m)^\t(event|reason)[A-Z]\w*\s*= "([^"]+)"`)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		for _, found := range constant.FindAllStringSubmatch(string(text), -1) {
			want[found[1]] = append(want[found[1]], found[2])
		}
	}
	rows, err := doctable.Read("../../docs/gateway.md", "### Events of sign-ins")
	require.NoError(t, err)
	got := doctable.Column(rows, 0)
	all := slices.Concat(want["event"], want["reason"])
	slices.Sort(all)
	slices.Sort(got)
	require.NotEmpty(t, want["event"])
	require.NotEmpty(t, want["reason"])
	require.Equal(t, all, got)
}
