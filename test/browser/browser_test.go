package browser

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/browser/chromium"
)

// run runs a script of this folder in Node, and decodes what it prints.
func run(t *testing.T, script string, input, output any) {
	t.Helper()
	modules := chromium.Modules(t)
	text, err := json.Marshal(input)
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), modules.Node, script, modules.Dir)
	var told bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader(text), &told
	out, err := cmd.Output()
	require.NoError(t, err, "%s", &told)
	require.NoError(t, json.Unmarshal(out, output))
}
