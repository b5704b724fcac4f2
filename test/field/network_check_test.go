package field

import (
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/bootstrap/process"
)

// TestALinkIsCutInOneDirection: what this bed says of links is true.
func TestALinkIsCutInOneDirection(t *testing.T) {
	n := newNetwork(t, []string{"near", "far"})
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", n.machines[office].Address+":0")
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
	// A second after the link is mended, TCP has not tried again yet.
	knock := func(from string) error {
		m := n.machines[from]
		p, err := process.Start(m.enter(process.Spec{
			Name: "knock", Path: "/bin/bash", Log: t.TempDir() + "/knock.log",
			Args: []string{"-c", "exec timeout 1 bash -c ': </dev/tcp/" + listener.Addr().(*net.TCPAddr).IP.String() + "/" + fmt.Sprint(listener.Addr().(*net.TCPAddr).Port) + "'"},
		}))
		require.NoError(t, err)
		defer p.Kill()
		select {
		case address := <-arrived:
			require.Equal(t, m.Address, address)
			return nil
		case <-time.After(time.Second):
			return errors.New("nobody came")
		}
	}
	require.NoError(t, knock("near"))
	mend := n.cut(t, n.to(office, "near"))
	require.Error(t, knock("near"))
	require.NoError(t, knock("far"))
	mend()
	require.NoError(t, knock("near"))
	// The way back alone: its first packet arrives, and is never acknowledged.
	n.cut(t, n.from(office, "near"))
	require.Error(t, knock("near"))
}
