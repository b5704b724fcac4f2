package doctor

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/bootstrap/console"
)

func TestDoctorHasTheGatewayStartServers(t *testing.T) {
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch name := strings.Split(r.URL.Path, "/")[2]; name {
		case "good":
			_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":{}}`)
		case "others":
			w.WriteHeader(http.StatusForbidden)
		default:
			w.WriteHeader(http.StatusBadGateway)
			_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"The server cannot be reached."}}`)
		}
	}))
	defer gateway.Close()
	var out strings.Builder
	e := &examination{Options: Options{GatewayURL: gateway.URL, ClientToken: "a-token", Out: &out}, terminal: console.Of(&out), stdio: []string{"good", "others", "bad"}}
	e.tryCommands(t.Context())
	require.Equal(t, 1, e.findings, out.String())
	require.Contains(t, out.String(), "the gateway starts the server good, and it answers")
	require.Contains(t, out.String(), "whether the server others starts was not tried")
	require.Contains(t, out.String(), "the server bad does not start at the gateway: The server cannot be reached.")
	require.NotContains(t, out.String(), "a-token")
}
