package measure

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFiguresGoIntoTheirSectionOfThePage(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "performance")
	t.Setenv(folderVariable, folder)
	page := folder + ".md"
	require.NoError(t, os.WriteFile(page, []byte("# P\n<!-- a -->\nold\n<!-- /a -->\nbetween\n<!-- b -->\n<!-- /b -->\nend\n"), 0o600))
	on := Machine{CPUs: 2, Model: "M", Kernel: "6", Go: "go1"}
	Publish(t, "a", on, "| new |", map[string]int{"n": 1}, Curve{Name: "c"})

	content, err := os.ReadFile(page)
	require.NoError(t, err)
	require.Equal(t, "# P\n<!-- a -->\n"+on.String()+"\n\n| new |\n<!-- /a -->\nbetween\n<!-- b -->\n<!-- /b -->\nend\n", string(content))
	figures, err := os.ReadFile(filepath.Join(folder, "a.json"))
	require.NoError(t, err)
	require.Contains(t, string(figures), `"n": 1`)
	require.ErrorContains(t, insert(page, "absent", "x"), "no section")
}

func TestABusyMachineIsSaidToBe(t *testing.T) {
	require.NotContains(t, Machine{Busy: 0.1}.String(), "other work")
	require.Contains(t, Machine{Busy: 1.26}.String(), "other work (1.3 of its CPUs)")
	require.Positive(t, ThisMachine(t).CPUs)
}

func TestASpreadIsTheMiddleAndTheEnds(t *testing.T) {
	require.Equal(t, Spread{Median: 2, Min: 1, Max: 9}, SpreadOf([]float64{9, 1, 2}))
	require.Zero(t, SpreadOf(nil))
}
