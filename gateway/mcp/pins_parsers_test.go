package mcp

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/pin"
	"vault-plugin-secrets-mcp/gateway/gatewaytest"
)

// enforcing is a gateway whose server gives this answer, and nothing of which is approved.
func enforcing(t *testing.T, status int, media, body string) *gateway {
	t.Helper()
	up := gatewaytest.NewUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", media)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	})
	return newGateway(t, testConfig(), registration(up).WithPins(pinsOf(t, pin.Enforce, nil)))
}

// Clients differ in where they end a line of a stream: the Go SDK at LF alone, those who use
// Python's splitlines at U+2028 too. Some read events of any type, and cut more white space off.
func TestNoClientReadsMoreInAStreamThanTheGateway(t *testing.T) {
	const progress = `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}`
	for name, stream := range map[string]string{
		"behind a CR":                     "data: \r" + twoTools + "\n\n",
		"in a comment, on another line":   ": \u2028data: " + twoTools + "\u2028\u2028\n\n",
		"in an id, on another line":       "id: 1\u2028data: " + twoTools + "\u2028\u2028\ndata: " + progress + "\n\n",
		"in a field that nobody knows":    "x: \x1cdata: " + twoTools + "\x1c\x1c\n\n",
		"in an event of another type":     "event: x\ndata: \u00a0" + twoTools + "\n\n",
		"in another type, on other lines": "event: x\ndata: y\u0085\u0085data: " + twoTools + "\u0085\u0085\n\n",
	} {
		t.Run(name, func(t *testing.T) {
			got := enforcing(t, http.StatusOK, "text/event-stream", stream+"id: 2\ndata: "+progress+"\n\n").Ask(t, ping)
			require.NotContains(t, got.Body, "get-env")
			require.True(t, strings.HasSuffix(got.Body, "id: 2\ndata: "+progress+"\n\n"), got.Body)
		})
	}
}

func TestALineOfAStreamEndsForNoClientWithinAString(t *testing.T) {
	const result = `{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"€END END ENDx"}]}}`
	for _, end := range []string{"\u0085", "\u2028", "\u2029"} {
		sent := strings.ReplaceAll(result, "END", end)
		got := enforcing(t, http.StatusOK, "text/event-stream", "data: "+sent+"\n\n").Ask(t, ping)
		require.NotContains(t, got.Body, end)
		require.JSONEq(t, sent, strings.TrimPrefix(strings.TrimSpace(got.Body), "data: "))
	}
}

func TestNoCharsetHidesWhatAnAnswerSays(t *testing.T) {
	for media, body := range map[string]string{
		"application/json":  noTools,
		"text/event-stream": "data: " + noTools + "\n\n",
	} {
		for _, parameter := range []string{"; charset=utf-7", "; charset=unicode_escape", "; x=text/event-stream, application/json"} {
			got := enforcing(t, http.StatusOK, media+parameter, body).Ask(t, listTools)
			require.Equal(t, http.StatusOK, got.Status, got.Body)
			require.Equal(t, []string{media}, got.Header["Content-Type"])
			require.Equal(t, body, got.Body)
		}
	}
}

func TestNoErrorOfHTTPHidesADefinition(t *testing.T) {
	for _, media := range []string{"text/plain", "text/html", ""} {
		require.NotContains(t, enforcing(t, http.StatusBadRequest, media, twoTools).Ask(t, listTools).Body, "get-env", media)
		require.NotContains(t, enforcing(t, http.StatusBadRequest, media, "["+twoTools+"]").Ask(t, listTools).Body, "get-env", media)
		got := enforcing(t, http.StatusBadRequest, media, "[no session]").Ask(t, listTools)
		require.Equal(t, http.StatusBadRequest, got.Status)
		require.Equal(t, "[no session]", got.Body)
	}
}
