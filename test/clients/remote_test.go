package clients

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"
)

func (s *stage) openRemote(t *testing.T, at place) (session, error) {
	t.Helper()
	return s.remote(t, at.tool, remoteArgs(at.url, "--header", "Authorization: Bearer "+at.token))
}

func (s *stage) openRemoteWithFile(t *testing.T, at place) (session, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "header")
	require.NoError(t, os.WriteFile(file, []byte("Authorization: Bearer "+at.token+"\n"), 0o600))
	return s.remote(t, at.tool, remoteArgs(at.url, "--header-file", file))
}

// openRemoteWithoutSessions has the bridge ask which era the server speaks, instead
// of taking for granted that it has sessions.
func (s *stage) openRemoteWithoutSessions(t *testing.T, at place) (session, error) {
	t.Helper()
	return s.remote(t, at.tool, remoteArgs(at.url, "--protocol", "auto", "--header", "Authorization: Bearer "+at.token))
}

func remoteArgs(url string, header ...string) []string {
	return append([]string{url, "--allow-http", "--transport", "http-only"}, header...)
}

// remote is a client on stdio that mcp-remote connects, which has env in its
// environment.
func (s *stage) remote(t *testing.T, tool string, args []string, env ...string) (session, error) {
	t.Helper()
	cmd := s.program(t, "mcp-remote", args...)
	cmd.Env = append(cmd.Env, env...)
	var says bytes.Buffer
	cmd.Stderr = &says
	opened, err := connect(t, &mcp.CommandTransport{Command: cmd}, nil)
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, says.String())
	}
	return sdkSession{t, opened, tool}, nil
}
