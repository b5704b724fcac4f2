package harness_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/doctable"
	"vault-plugin-secrets-mcp/test/harness"
)

// TestDifferencesOnOpenBao: the page has the rows of the list, and each names a test in its first
// column (test/pages sees that it exists). It prints them, for a run in which they were left out.
func TestDifferencesOnOpenBao(t *testing.T) {
	rows, err := doctable.Read("../../docs/compatibility.md", "### Differences")
	require.NoError(t, err)
	var page []harness.Difference
	for _, row := range rows {
		names := doctable.Names(row[0])
		require.Len(t, names, 1, "%v", row)
		page = append(page, harness.Difference{Test: names[0], Reason: row[1]})
	}
	require.ElementsMatch(t, harness.Differences, page)
	for _, difference := range harness.Differences {
		t.Logf("left out: %s: %s", difference.Test, difference.Reason)
	}
}
