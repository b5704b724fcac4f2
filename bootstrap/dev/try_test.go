package dev

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/bootstrap/apply"
)

func TestServersThatCannotBeStartedAreTold(t *testing.T) {
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if strings.Contains(r.URL.Path, "/good/") {
			_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":{}}`)
			return
		}
		w.WriteHeader(http.StatusBadGateway)
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"The server cannot be reached."}}`)
	}))
	defer gateway.Close()
	s := &system{
		Options: Options{Dir: t.TempDir(), GatewayAddress: strings.TrimPrefix(gateway.URL, "http://")},
		own: []apply.Server{
			{Name: "good", Command: "good"}, {Name: "bad", Command: "npx"}, {Name: "missing", Command: "uvx"}, {Name: "silent", Command: "x"}, {Name: "remote"},
		},
		clientToken: "a-token",
	}
	require.NoError(t, os.Mkdir(s.path("logs"), 0o700))
	require.NoError(t, os.WriteFile(s.log("gateway"), []byte(`not JSON
{"@message":"stderr","server":"bad","line":"npm error"}
{"@message":"a stdio server has ended by itself","server":"bad","state":"exit status 1","stderr":"npm error code EACCES\nnpm error path /.npm"}
{"@message":"a stdio server has ended by itself","server":"good","stderr":"never mind"}
{"@message":"cannot start the server","server":"missing","error":"exec: permission denied"}
`), 0o600))
	require.NoError(t, s.tryCommands(t.Context()))
	require.Len(t, s.ownNotes, 3)
	require.Equal(t, "your server bad cannot be started: The server cannot be reached. It says:\n\n  npm error code EACCES\n  npm error path /.npm\n", s.ownNotes[0])
	require.Contains(t, s.ownNotes[1], "your server missing cannot be started")
	require.Contains(t, s.ownNotes[1], "exec: permission denied")
	require.Contains(t, s.ownNotes[2], "your server silent cannot be started: The server cannot be reached. See ")
}
