package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/gatewaytest"
)

func TestReloadTakesWhatItCanAndTellsWhatItCannot(t *testing.T) {
	s := newStage(t)
	s.start("")
	s.ready()
	request := func() int {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url("http"), strings.NewReader(gatewaytest.Ping))
		require.NoError(t, err)
		r.Header.Set("Origin", "https://app.example.com")
		response, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		return response.StatusCode
	}
	require.Equal(t, http.StatusForbidden, request())
	next := s.settings("listener {\n allowed_origins = [\"https://app.example.com\"]\n}\ngrants {\n max_stale = \"12s\"\n}\n")
	s.gateway.reload(func() (*config.Config, error) { return next, nil })
	require.Equal(t, http.StatusUnauthorized, request(), "the origin is allowed now, and the token asked for")
	require.Contains(t, s.log.String(), "takes effect at the next start only: block=grants")
	s.gateway.reload(func() (*config.Config, error) { return nil, fmt.Errorf("a mistake") })
	require.Equal(t, http.StatusUnauthorized, request())
	require.Contains(t, s.log.String(), "the old one stays in effect")
}
