package connect

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTryingAServerTellsWhatAClientWouldSee(t *testing.T) {
	const result = `{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-11-25"}}`
	tests := map[string]struct {
		status      int
		media, body string
		want        error  // nil: it answers
		text        string // of an error that is not ours
	}{
		"it answers":                 {200, "application/json", result, nil, ""},
		"it answers with events":     {200, "text/event-stream", ": keep-alive\n\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/x\"}\n\nevent: message\ndata: " + result + "\n\n", nil, ""},
		"it cannot be started":       {502, "application/json", `{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"The server cannot be reached."}}`, &TryError{502, "The server cannot be reached."}, ""},
		"it refuses":                 {200, "application/json", `{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"no"}}`, &TryError{200, "no"}, ""},
		"the client may not":         {403, "text/plain", "no", &TryError{403, "Forbidden"}, ""},
		"it answers with something":  {200, "text/html", "<html>", nil, "does not answer with a result"},
		"it hangs up":                {200, "text/event-stream", ": keep-alive\n\n", nil, "ends without an answer"},
		"it answers without result":  {200, "application/json", `{"jsonrpc":"2.0","id":1}`, nil, "does not answer with a result"},
		"the answer is of no status": {418, "application/json", "{}", &TryError{418, "I'm a teapot"}, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			ended := 0
			gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/servers/mine/mcp" || r.Header.Get("Authorization") != "Bearer a-token" {
					t.Errorf("%s %s %s", r.Method, r.URL, r.Header)
				}
				if r.Method == http.MethodDelete && r.Header.Get("Mcp-Session-Id") == "the-session" {
					ended++
					return
				}
				w.Header().Set("Content-Type", test.media)
				w.Header().Set("Mcp-Session-Id", "the-session")
				w.WriteHeader(test.status)
				_, _ = io.WriteString(w, test.body)
			}))
			defer gateway.Close()
			err := Try(t.Context(), gateway.URL+"/", "mine", "a-token")
			switch {
			case test.text != "":
				require.ErrorContains(t, err, test.text)
			case test.want == nil:
				require.NoError(t, err)
				require.Equal(t, 1, ended, "the session is not left behind")
			default:
				require.Equal(t, test.want, err)
			}
		})
	}
}

func TestTryingAServerHasABound(t *testing.T) {
	gateway := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then is it noticed that the client has gone
		<-r.Context().Done()
	}))
	defer gateway.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, Try(ctx, gateway.URL, "mine", "a-token"), context.DeadlineExceeded)
}
