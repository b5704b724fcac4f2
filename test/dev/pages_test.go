package dev

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/docrun"
	"vault-plugin-secrets-mcp/test/harness"
)

// TestDocsAggregate runs the commands of docs/aggregate.md as written.
func TestDocsAggregate(t *testing.T) {
	d := newDev(t)
	d.runCommands(t, docrun.Read(t, "aggregate.md").Commands())
}

// TestReadme runs the commands of README.md beside the system that its first command
// starts.
func TestReadme(t *testing.T) {
	d := newDev(t)
	d.warm(t)
	commands := docrun.Read(t, filepath.Join("..", "README.md")).Commands()
	require.Equal(t, "source .dev/env", commands[0].Text)
	commands[0].Text = "source '" + strings.ReplaceAll(filepath.Join(d.dir, "env"), "'", `'\''`) + "'"
	dir := t.TempDir()
	require.NoError(t, os.Symlink(filepath.Dir(harness.FindPrograms(t).Bootstrap), filepath.Join(dir, "bin")))
	outputs := docrun.Run(t, dir, commands, nil)[:len(commands)]
	for i, output := range outputs {
		require.NotContains(t, output, "Error", commands[i].Text)
		require.NotContains(t, output, "not found", commands[i].Text)
	}
	require.Contains(t, outputs[len(outputs)-1], "Nothing is wrong.", "the page's own steps leave something wrong")
}

// leasedSection is the section of docs/quickstart.md that begins with -upstream.
const leasedSection = "Credentials that end with a client"

// signInSection is the section of docs/quickstart.md that begins with -sign-in.
const signInSection = "Sign in with a browser"

// TestDocsQuickstart runs the commands of docs/quickstart.md as written, but for sections that
// the tests of -upstream and -sign-in run.
func TestDocsQuickstart(t *testing.T) {
	d := newDev(t)
	_, commands := docrun.Read(t, "quickstart.md").Section(leasedSection, signInSection)
	d.runCommands(t, commands)
}

// runCommands runs a page's commands in a folder with the files of `mcp-bootstrap dev`,
// and compares their output with the page.
func (d *devSystem) runCommands(t *testing.T, commands []docrun.Command) {
	t.Helper()
	d.warm(t)
	dir := t.TempDir()
	require.NoError(t, os.Symlink(d.dir, filepath.Join(dir, ".dev")))
	require.NoError(t, os.Symlink(filepath.Dir(harness.FindPrograms(t).Bootstrap), filepath.Join(dir, "bin")))
	docrun.VaultBinary(t, filepath.Join(dir, "vault"))

	require.NotEmpty(t, commands, "the page has no command")
	outputs := docrun.Run(t, dir, commands, []string{"PATH=" + filepath.Join(dir, "vault", "bin") + ":" + os.Getenv("PATH")})
	for i, output := range outputs {
		outputs[i] = strings.ReplaceAll(output, d.dir, ".dev")
	}
	docrun.WantOutputs(t, commands, outputs)
}
