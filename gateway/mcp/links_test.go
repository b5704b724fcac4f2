package mcp

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/gatewaytest"
	"vault-plugin-secrets-mcp/gateway/grants"
)

func TestAChangedRegistrationIsUsedAtOnce(t *testing.T) {
	first := gatewaytest.NewUpstream(t, gatewaytest.Pongs)
	second := gatewaytest.NewUpstream(t, gatewaytest.Pongs)
	g := newGateway(t, testConfig(), registration(first))
	g.Ask(t, ping)
	server := registration(second)
	server.ID = "registration-2"
	g.registry.put(server)
	g.Ask(t, ping)
	require.Equal(t, 1, first.Count())
	require.Equal(t, 1, second.Count())
	g.registry.watch(grants.End{Server: server})
	_, found := g.links.Load("up")
	require.False(t, found)
}

func TestAServerThatCannotBeUsedSaysSoToTheLogAlone(t *testing.T) {
	for name, server := range map[string]*grants.Server{
		"no URL":      {Name: "up", ID: "1", Transport: "http", URL: "ftp://secret@host"},
		"a transport": {Name: "up", ID: "1", Transport: "carrier pigeon"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGateway(t, testConfig(), server)
			for range 2 {
				got := g.Ask(t, ping)
				require.Equal(t, http.StatusBadGateway, got.Status)
				require.NotContains(t, got.Body, "secret")
				require.NotContains(t, got.Body, "pigeon")
			}
		})
	}
}

func TestAnUpstreamThatSpeaksTLSIsChecked(t *testing.T) {
	up := httptest.NewTLSServer(http.HandlerFunc(gatewaytest.Pongs))
	defer up.Close()
	up.Config.ErrorLog = nil
	g := newGateway(t, testConfig(), &grants.Server{Name: "up", ID: "1", Transport: "http", URL: up.URL})
	require.Equal(t, http.StatusBadGateway, g.Ask(t, ping).Status)
}
