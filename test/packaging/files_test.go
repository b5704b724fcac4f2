package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/config"
)

// layOut returns a folder with the files of a package, except its programs.
func layOut(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	output, err := exec.CommandContext(t.Context(), "../../scripts/package-files.sh", root).CombinedOutput()
	require.NoError(t, err, string(output))
	return root
}

// link is a link of Markdown, without its fragment.
var link = regexp.MustCompile(`\]\(([^)#\s]+)(?:#[^)]*)?\)`)

func TestWhatThePagesOfAPackageLinkToIsInIt(t *testing.T) {
	root := layOut(t)
	pages, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	require.NoError(t, err)
	require.NotEmpty(t, pages)
	links := 0
	for _, page := range append(pages, filepath.Join(root, "README.md"), filepath.Join(root, "CHANGELOG.md")) {
		content, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, found := range link.FindAllStringSubmatch(string(content), -1) {
			if strings.Contains(found[1], "://") {
				continue
			}
			links++
			path := filepath.Join(filepath.Dir(page), found[1])
			require.True(t, strings.HasPrefix(path, root), "%s links to %s, which no package holds", page, found[1])
			_, err := os.Stat(path)
			require.NoError(t, err, "%s links to it", page)
		}
	}
	require.Greater(t, links, 20)
	for _, example := range []string{"approved-catalog", "denylist-only", "no-restrictions"} {
		require.DirExists(t, filepath.Join(root, "bootstrap", "examples", example))
	}
}

func TestTheReadmesTableLinksEveryPage(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	pages, err := filepath.Glob("../../docs/*.md")
	require.NoError(t, err)
	require.NotEmpty(t, pages)
	for _, page := range pages {
		name := "docs/" + filepath.Base(page)
		require.Contains(t, string(readme), "\n| ["+name+"]("+name+") |")
	}
}

// TestAServiceIsInstalledAsThePageSays runs the commands with which docs/operations.md
// installs files, into another root.
func TestAServiceIsInstalledAsThePageSays(t *testing.T) {
	root, machine := layOut(t), t.TempDir()
	for name, content := range map[string]string{"mcp-gateway": "", "mcp-bootstrap": "", "role_id": "a-role", "secret_id": "a-secret"} {
		require.NoError(t, os.WriteFile(filepath.Join(root, name), []byte(content), 0o600))
	}
	page, err := os.ReadFile(filepath.Join(root, "docs", "operations.md"))
	require.NoError(t, err)
	_, block, found := strings.Cut(string(page), "```sh\n")
	require.True(t, found)
	block, _, _ = strings.Cut(block, "```")
	ran := 0
	for line := range strings.Lines(block) {
		program, _, _ := strings.Cut(line, " ")
		if program != "install" && program != "cp" {
			continue // lines that need systemd, or the program itself
		}
		line, _, _ = strings.Cut(line, "   #")
		line = regexp.MustCompile(` (/\S*)`).ReplaceAllString(line, " "+machine+"$1")
		line = regexp.MustCompile(` -[og] \S+`).ReplaceAllString(line, "") // accounts that this machine has not got
		for _, dir := range []string{"/usr/local/bin", "/usr/lib/sysusers.d", "/etc/systemd/system", "/etc/logrotate.d"} {
			require.NoError(t, os.MkdirAll(machine+dir, 0o755))
		}
		command := exec.CommandContext(t.Context(), "bash", "-ec", line)
		command.Dir = root
		output, err := command.CombinedOutput()
		require.NoError(t, err, "%s\n%s", line, output)
		ran++
	}
	require.Greater(t, ran, 6)

	unit, err := os.ReadFile(machine + "/etc/systemd/system/mcp-gateway.service")
	require.NoError(t, err)
	documentation := regexp.MustCompile(`(?m)^Documentation=file://(\S+)$`).FindSubmatch(unit)
	require.NotNil(t, documentation)
	require.FileExists(t, machine+string(documentation[1]))

	source, err := os.ReadFile(machine + "/etc/mcp-gateway/gateway.hcl")
	require.NoError(t, err)
	none := func(string) string { return "" }
	_, err = config.Parse([]byte(strings.ReplaceAll(string(source), "/etc/mcp-gateway", machine+"/etc/mcp-gateway")), "gateway.hcl", none)
	require.NoError(t, err, "the gateway refuses the file that the page has people install")
}
