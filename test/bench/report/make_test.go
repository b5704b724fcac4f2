package report

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

const performance = "../../../docs/performance"

// TestThePageAndItsPicturesAreMadeOfTheStoredFigures fails where somebody has changed one of
// them without the others: `make plot` mends that.
func TestThePageAndItsPicturesAreMadeOfTheStoredFigures(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "performance")
	require.NoError(t, os.CopyFS(folder, os.DirFS(performance)))
	page, err := os.ReadFile(PageOf(performance))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(PageOf(folder), page, 0o600))
	require.NoError(t, Make(folder))
	again, err := os.ReadFile(PageOf(folder))
	require.NoError(t, err)
	require.Equal(t, string(page), string(again), "docs/performance.md")

	pictures, err := filepath.Glob(filepath.Join(performance, "*.svg"))
	require.NoError(t, err)
	require.NotEmpty(t, pictures)
	for _, path := range pictures {
		stored, err := os.ReadFile(path)
		require.NoError(t, err)
		made, err := os.ReadFile(filepath.Join(folder, filepath.Base(path)))
		require.NoError(t, err)
		require.Equal(t, string(stored), string(made), path)
		require.Contains(t, string(page), "performance/"+filepath.Base(path), "no page shows it")
	}
}

func TestWhatWasNotMeasuredHasNoAnswer(t *testing.T) {
	require.NotContains(t, new(Calls).answers(), "memory")
	require.NotContains(t, new(Calls).answers(), "reached")
	require.Contains(t, new(Calls).answers()["time"], "–")
}
