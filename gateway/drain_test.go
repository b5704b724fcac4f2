package main

import (
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestNoRequestIsLostWhenTheGatewayStops: clients that keep their connections
// are answered until they are told to go, and refused a connection after that;
// nothing in between.
func TestNoRequestIsLostWhenTheGatewayStops(t *testing.T) {
	s := newStage(t)
	s.start("")
	s.ready()
	var served atomic.Int64
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			client := &http.Client{Transport: &http.Transport{}}
			for {
				status, err := s.post(client, s.url("http"))
				switch {
				case errors.Is(err, syscall.ECONNREFUSED):
					return
				case err != nil || status != http.StatusOK:
					t.Errorf("a request was lost: %d %v", status, err)
					return
				}
				served.Add(1)
			}
		})
	}
	s.vault.Await("some requests", func() bool { return served.Load() > 100 })
	s.stop()
	clients.Wait()
	require.NoError(t, <-s.ended)
	s.ended = nil
}
