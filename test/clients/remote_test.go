package clients

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/mcpclient"
)

func (s *stage) openRemote(t *testing.T, at mcpclient.Place) (mcpclient.Session, error) {
	t.Helper()
	return s.Remote(t, at.Tool, mcpclient.RemoteArgs(at.URL, "--header", "Authorization: Bearer "+at.Token))
}

func (s *stage) openRemoteWithFile(t *testing.T, at mcpclient.Place) (mcpclient.Session, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "header")
	require.NoError(t, os.WriteFile(file, []byte("Authorization: Bearer "+at.Token+"\n"), 0o600))
	return s.Remote(t, at.Tool, mcpclient.RemoteArgs(at.URL, "--header-file", file))
}

// openRemoteWithoutSessions has the bridge ask which era the server speaks, instead
// of taking for granted that it has sessions.
func (s *stage) openRemoteWithoutSessions(t *testing.T, at mcpclient.Place) (mcpclient.Session, error) {
	t.Helper()
	return s.Remote(t, at.Tool, mcpclient.RemoteArgs(at.URL, "--protocol", "auto", "--header", "Authorization: Bearer "+at.Token))
}
