package main

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestNoRequestIsLostWhenTheGatewayStops: whoever goes elsewhere once /readyz
// says so has every request answered, also on connections that are kept open.
func TestNoRequestIsLostWhenTheGatewayStops(t *testing.T) {
	s := newStage(t)
	s.start("")
	s.ready()
	var served atomic.Int64
	var gone atomic.Bool // the load balancer has seen that the gateway is not ready
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for !gone.Load() {
				status, err := s.post(client, s.url("http"))
				if err != nil || status != http.StatusOK {
					t.Errorf("a request was lost: %d %v", status, err)
					return
				}
				served.Add(1)
			}
		})
	}
	s.vault.Await("some requests", func() bool { return served.Load() > 100 })
	s.stop()
	s.vault.Await("the gateway to be seen as not ready", func() bool { return s.admin("/readyz") == http.StatusServiceUnavailable })
	before := served.Load()
	s.vault.Await("requests that are taken all the same", func() bool { return served.Load() > before+20 })
	gone.Store(true)
	clients.Wait()
	require.NoError(t, <-s.ended)
	s.ended = nil
}
