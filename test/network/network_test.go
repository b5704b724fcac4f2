package network

import (
	"fmt"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/bootstrap/process"
)

func TestMain(m *testing.M) { Main(m, "network") }

// TestALinkIsCutInOneDirection: links behave as the package says.
func TestALinkIsCutInOneDirection(t *testing.T) {
	n := New(t, []string{"near", "far"})
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", n.Machines[Office].Address+":0")
	require.NoError(t, err)
	defer listener.Close()
	arrived := make(chan string, 100)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			arrived <- conn.RemoteAddr().(*net.TCPAddr).IP.String()
			_ = conn.Close()
		}
	}()
	knock := func(from string) error {
		m, to := n.Machines[from], listener.Addr().(*net.TCPAddr)
		spec := m.enter(process.Spec{Path: "timeout", Args: []string{"2", "bash", "-c", fmt.Sprintf(": </dev/tcp/%s/%d", to.IP, to.Port)}})
		if err := run(spec.Path, spec.Args...); err != nil {
			return err
		}
		require.Equal(t, m.Address, <-arrived)
		return nil
	}
	require.NoError(t, knock("near"))
	mend := n.Cut(t, n.To(Office, "near"))
	require.Error(t, knock("near"))
	require.NoError(t, knock("far"))
	mend()
	require.NoError(t, knock("near"))
	// The way back alone: its first packet arrives, and is never acknowledged.
	n.Cut(t, n.From(Office, "near"))
	require.Error(t, knock("near"))
}
