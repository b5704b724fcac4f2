package aggregate

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/mcp"
)

// noAudit takes all lines.
type noAudit struct{}

func (noAudit) Decision(*access.Request, access.Decision) error { return nil }
func (noAudit) Refused(*access.Request, *access.Refusal)        {}
func (noAudit) Outcome(*access.Request, access.Outcome)         {}

// TestAMessageForAllServersStaysWhereItIs: a server may answer before it has read all of it. The rest
// must not be what another client's message has in the same memory.
func TestAMessageForAllServersStaysWhereItIs(t *testing.T) {
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/mcp",
		strings.NewReader(`{"jsonrpc":"2.0","method":"notifications/roots/list_changed","params":{"_meta":{"x":"`+strings.Repeat("x", 20<<10)+`"}}}`))
	r.Header.Set("Content-Type", "application/json")
	request := &access.Request{}
	r = r.WithContext(access.NewContext(t.Context(), request, noAudit{}))
	x := &exchange{handler: &Handler{listWait: time.Minute}, w: httptest.NewRecorder(), r: r, request: request, session: &session{}}
	var f *access.Refusal
	x.message, f = mcp.ReadMessage(r, 1<<20)
	require.Nil(t, f)
	require.Nil(t, x.forwardNotification())
	x.release()
	require.NotNil(t, x.message.Data, "it was given back")
}
