package manifests

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

const repository = "../.."

// updates is the configuration of GitHub's dependency bot.
type updates struct {
	Version int `json:"version"`
	Updates []struct {
		Ecosystem   string                         `json:"package-ecosystem"`
		Directory   string                         `json:"directory"`
		Directories []string                       `json:"directories"`
		Schedule    struct{ Interval string }      `json:"schedule"`
		Groups      map[string]map[string][]string `json:"groups"`
	} `json:"updates"`
}

// watches reports whether the bot looks at a folder's dependencies of that kind.
func (u *updates) watches(ecosystem, folder string) bool {
	for _, update := range u.Updates {
		patterns := append(slices.Clone(update.Directories), update.Directory)
		if update.Ecosystem == ecosystem && slices.ContainsFunc(patterns, func(pattern string) bool {
			matched, err := path.Match(pattern, folder)
			return err == nil && matched
		}) {
			return true
		}
	}
	return false
}

func TestEveryModuleOfTheRepositoryIsWatchedForUpdates(t *testing.T) {
	content, err := os.ReadFile(filepath.Join(repository, ".github/dependabot.yml"))
	require.NoError(t, err)
	var bot updates
	require.NoError(t, yaml.UnmarshalStrict(content, &bot))
	require.Equal(t, 2, bot.Version)

	ecosystems := map[string]string{"go.mod": "gomod", "package.json": "npm"}
	found := 0
	require.NoError(t, filepath.WalkDir(repository, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() && (entry.Name() == "node_modules" || entry.Name() == ".cache" || entry.Name() == ".git") {
			return fs.SkipDir
		}
		if ecosystem := ecosystems[entry.Name()]; ecosystem != "" {
			folder, err := filepath.Rel(repository, filepath.Dir(file))
			require.NoError(t, err)
			require.True(t, bot.watches(ecosystem, path.Join("/", filepath.ToSlash(folder))), "nobody watches %s", file)
			found++
		}
		return nil
	}))
	require.Greater(t, found, 3)
	require.True(t, bot.watches("github-actions", "/"))
	require.False(t, bot.watches("gomod", "/backend"), "a folder without a module")
}

// issueForm has the parts of a form for issues that GitHub reads.
type issueForm struct {
	Name        string   `json:"name"`
	Description string   `json:"description"`
	Labels      []string `json:"labels"`
	Body        []struct {
		Type        string          `json:"type"`
		ID          string          `json:"id"`
		Attributes  map[string]any  `json:"attributes"`
		Validations map[string]bool `json:"validations"`
	} `json:"body"`
}

func TestTheFormsForIssuesAreOnesThatGitHubTakes(t *testing.T) {
	forms, err := filepath.Glob(filepath.Join(repository, ".github/ISSUE_TEMPLATE/*.yml"))
	require.NoError(t, err)
	for _, file := range forms {
		if filepath.Base(file) == "config.yml" {
			continue
		}
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		var form issueForm
		require.NoError(t, yaml.UnmarshalStrict(content, &form), file)
		require.NotEmpty(t, form.Name, file)
		require.NotEmpty(t, form.Description, file)
		var ids []string
		for _, part := range form.Body {
			if part.Type == "markdown" {
				require.NotEmpty(t, part.Attributes["value"], file)
				continue
			}
			require.Contains(t, []string{"input", "textarea", "dropdown", "checkboxes"}, part.Type, file)
			require.NotEmpty(t, part.Attributes["label"], "%s: %s", file, part.ID)
			require.NotContains(t, ids, part.ID, file)
			ids = append(ids, part.ID)
		}
		require.NotEmpty(t, ids, file)
		require.NotContains(t, strings.ToLower(string(content)), "todo", file)
	}
	require.Greater(t, len(forms), 2)
}
