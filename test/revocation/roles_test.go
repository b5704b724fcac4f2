package revocation

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/stage"
)

// TestNarrowingARoleCutsTheStreamsOfAllItsClients takes a server from a role while each of its
// clients has a stream at each of two gateways.
func TestNarrowingARoleCutsTheStreamsOfAllItsClients(t *testing.T) {
	size, bound := stage.Crowd(t, 6)
	h := harness.New(t)
	h.Write("mcp/servers/calculator", harness.Map{"transport": "http", "url": h.StartUpstream(nil).URL})
	h.Write("mcp/roles/engineer", harness.Map{"allowed_servers": "calculator"})
	gateways := stage.CrowdGateways(h, size)
	bystander := openStream(t, h, gateways[0].ServerURL("calculator"), h.CreateClient("bystander", harness.Map{"allowed_servers": "calculator"}))
	var streams []*stream
	for i := range size {
		token := h.CreateClient(fmt.Sprintf("engineer-%d", i), harness.Map{"role": "engineer"})
		for _, g := range gateways {
			streams = append(streams, openStream(t, h, g.ServerURL("calculator"), token))
		}
	}

	h.Write("mcp/roles/engineer", harness.Map{"allowed_servers": "other"})
	written := time.Now()
	var ended sync.WaitGroup
	for _, s := range streams {
		ended.Go(func() { <-s.ended })
	}
	all := make(chan struct{})
	go func() { ended.Wait(); close(all) }()
	select {
	case <-all:
		t.Logf("%d streams of %d clients were cut within %s of the write", len(streams), size, time.Since(written).Round(time.Millisecond))
	case <-time.After(bound):
		open := 0
		for _, s := range streams {
			if s.isOpen() {
				open++
			}
		}
		t.Fatalf("%d of %d streams are open %s after the write", open, len(streams), bound)
	}
	require.True(t, bystander.isOpen(), "the stream of a client without the role was cut")
}
