package dev

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestServersThatAreDisabledInAnMCPClientsFileAreLeftOut(t *testing.T) {
	path := filepath.Join(t.TempDir(), ".mcp.json")
	require.NoError(t, os.WriteFile(path, []byte(`{"mcpServers": {
		"on": {"command": "sh", "args": ["-c", "true"]},
		"off": {"command": "not-installed-here", "disabled": true}
	}}`), 0o600))
	s := &system{Options: Options{Servers: path}}
	require.NoError(t, s.loadServers())
	require.Equal(t, []string{"on"}, s.ownNames())
	require.Equal(t, []string{"the server off is disabled in " + path + ", so it is left out here"}, s.ownNotes)
}
