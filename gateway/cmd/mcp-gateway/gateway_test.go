package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"vault-plugin-secrets-mcp/gateway/gatewaytest"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"
)

func TestGatewayServesAndStops(t *testing.T) {
	s := newStage(t)
	s.start("")
	s.ready()
	require.Equal(t, http.StatusOK, s.admin("/healthz"))
	require.Equal(t, http.StatusOK, s.admin("/metrics"))
	s.works(http.DefaultClient, s.url("http"))
	s.stop()
	s.awaitEnd()
	audit, err := os.ReadFile(filepath.Join(s.dir, "audit.log"))
	require.NoError(t, err)
	require.Equal(t, 2, strings.Count(string(audit), "\n"))
	require.NotContains(t, string(audit)+s.log.String(), goodToken)
}

func TestGatewayWaitsForVault(t *testing.T) {
	s := newStage(t)
	s.vault.Fail(http.StatusServiceUnavailable)
	s.start("")
	s.vault.Await("the log line", func() bool { return strings.Contains(s.log.String(), "cannot log in to Vault") })
	require.Equal(t, http.StatusOK, s.admin("/healthz"))
	require.Equal(t, http.StatusServiceUnavailable, s.admin("/readyz"))
	status, err := s.post(http.DefaultClient, s.url("http"))
	require.NoError(t, err)
	require.Equal(t, http.StatusServiceUnavailable, status)
	s.vault.Fail(0)
	s.ready()
	s.works(http.DefaultClient, s.url("http"))
}

func TestGatewayStaysReadyWhenVaultFails(t *testing.T) {
	s := newStage(t)
	s.start("")
	s.ready()
	s.works(http.DefaultClient, s.url("http"))
	s.vault.Fail(http.StatusInternalServerError)
	require.Equal(t, http.StatusOK, s.admin("/readyz"))
	s.works(http.DefaultClient, s.url("http"))
}

func TestWhatIsWrongWithTheMachineIsTold(t *testing.T) {
	s := newStage(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	settings := s.settings("")
	settings.Listener.Address = taken.Addr().String()
	_, err = newGateway(settings, hclog.NewNullLogger())
	require.ErrorContains(t, err, "address already in use")

	settings = s.settings("")
	settings.Audit.File = s.dir
	_, err = newGateway(settings, hclog.NewNullLogger())
	require.ErrorContains(t, err, "audit log")
}

func TestRequestInFlightEndsBeforeTheGatewayDoes(t *testing.T) {
	s := newStage(t)
	arrived, release := make(chan struct{}), make(chan struct{})
	s.serve = func(w http.ResponseWriter, _ *http.Request) {
		close(arrived)
		<-release
		gatewaytest.Reply(w, gatewaytest.Pong)
	}
	s.start("")
	s.ready()
	answered := make(chan int, 1)
	go func() {
		status, err := s.post(&http.Client{}, s.url("http"))
		if err != nil {
			status = 0
		}
		answered <- status
	}()
	<-arrived
	s.stop()
	s.vault.Await("the drain", func() bool { return s.gateway.draining.Load() })
	close(release)
	require.Equal(t, http.StatusOK, <-answered)
	s.awaitEnd()
}

func TestWellKnownPathsAreAbsentWithoutAToken(t *testing.T) {
	s := newStage(t)
	s.start("")
	s.ready()
	base := strings.TrimSuffix(s.url("http"), "/servers/files/mcp")
	for _, path := range []string{"/.well-known/oauth-protected-resource", "/.well-known/oauth-authorization-server/servers/files/mcp", "/register", "/metrics", "/healthz"} {
		response, err := http.Get(base + path)
		require.NoError(t, err)
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, http.StatusNotFound, response.StatusCode, path)
		require.Contains(t, string(body), "There is no sign-in at this gateway", path)
		require.Empty(t, response.Header.Get("WWW-Authenticate"))
	}
	require.Zero(t, s.vault.Lookups())
}

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
	s.awaitEnd()
}

// TestARequestIsAnsweredWhoseConnectionIsOlderThanTheEnd: a proxy that opens a connection
// for each request may have opened one when the listener closes, and sends the request
// a moment later.
func TestARequestIsAnsweredWhoseConnectionIsOlderThanTheEnd(t *testing.T) {
	s := newStage(t)
	s.start("")
	s.ready()
	address := s.gateway.mainListener.Addr().String()
	conn, err := net.Dial("tcp", address)
	require.NoError(t, err)
	defer conn.Close()
	s.vault.Await("the gateway to have the connection", func() bool { return s.gateway.connections.Awaited() > 0 })
	s.stop()
	s.vault.Await("the listener to be closed", func() bool {
		another, err := net.Dial("tcp", address)
		if err == nil {
			_ = another.Close()
		}
		return err != nil
	})
	_, err = fmt.Fprintf(conn, "POST /servers/files/mcp HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\nContent-Length: 40\r\n\r\n{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}", address, goodToken)
	require.NoError(t, err)
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.True(t, response.Close, "the connection stays open")
	s.awaitEnd()
}
