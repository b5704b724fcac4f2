package measure

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/bench/report"
	"vault-plugin-secrets-mcp/test/bench/report/picture"
)

func TestFiguresGoIntoTheirSectionOfThePage(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "performance")
	t.Setenv(folderVariable, folder)
	page := folder + ".md"
	require.NoError(t, os.WriteFile(page, []byte("# P\n<!-- a -->\nold\n<!-- /a -->\nbetween\n<!-- b -->\n<!-- /b -->\nend\n"), 0o600))
	on := report.Machine{CPUs: 2, Model: "M", Kernel: "6", Go: "go1"}
	Publish(t, "a", on, "| new |", map[string]int{"n": 1}, picture.Lines{Name: "c"})

	content, err := os.ReadFile(page)
	require.NoError(t, err)
	require.Equal(t, "# P\n<!-- a -->\n"+on.String()+"\n\n| new |\n<!-- /a -->\nbetween\n<!-- b -->\n<!-- /b -->\nend\n", string(content))
	figures, err := os.ReadFile(filepath.Join(folder, "a.json"))
	require.NoError(t, err)
	require.Contains(t, string(figures), `"n": 1`)
	require.ErrorContains(t, report.Insert(page, "absent", "x"), "no section")
}

func TestThisMachineIsDescribed(t *testing.T) {
	require.Positive(t, ThisMachine(t).CPUs)
}
