package serverside

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
)

func TestARequestIsForOnePurpose(t *testing.T) {
	const (
		initialize = `{"jsonrpc":"2.0","id":1,"method":"initialize"}`
		ping       = `{"jsonrpc":"2.0","id":1,"method":"ping"}`
		response   = `{"jsonrpc":"2.0","id":1,"result":{}}`
		stateless  = `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`
		unheardOf  = `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"x"}}}`
	)
	session := []string{protocol.HeaderSession, "s"}
	newest := []string{protocol.HeaderVersion, protocol.VersionStateless}
	for name, c := range map[string]struct {
		method, message string
		header          []string
		refuses         string // what the client does not accept
		want            Purpose
		status          int // of the refusal; 0 without one
	}{
		"a session is opened":                   {"POST", initialize, nil, "", Initialize, 0},
		"a session is opened in another":        {"POST", initialize, session, "", Initialize, 0},
		"a message of a session":                {"POST", ping, session, "", InSession, 0},
		"a response of a session":               {"POST", response, session, "", InSession, 0},
		"a message without its session":         {"POST", ping, nil, "", InSession, 400},
		"a message of an unknown version":       {"POST", ping, append([]string{protocol.HeaderVersion, "2020-01-01"}, session...), "", 0, 400},
		"a message without a session":           {"POST", stateless, newest, "", Stateless, 0},
		"one that does not accept JSON":         {"POST", stateless, newest, "json", Stateless, 0},
		"one that accepts nothing":              {"POST", stateless, newest, "json stream", 0, 406},
		"one that names a session all the same": {"POST", stateless, append(newest, session...), "", Stateless, 0},
		"one of a version that nobody knows":    {"POST", unheardOf, nil, "", Stateless, 0},
		"one without a version":                 {"POST", ping, newest, "", Stateless, 400},
		"initialize without a session":          {"POST", initialize, newest, "", Stateless, 400},
		"a response without a session":          {"POST", response, newest, "", Stateless, 400},
		"a session's stream":                    {"GET", "", session, "", Listen, 0},
		"a stream that cannot be one":           {"GET", "", session, "stream", Listen, 406},
		"a stream without a session":            {"GET", "", nil, "", Listen, 405},
		"a stream of a version without them":    {"GET", "", append(newest, session...), "", 0, 405},
		"a session is ended":                    {"DELETE", "", session, "json stream", Terminate, 0},
		"no session is ended":                   {"DELETE", "", nil, "", Terminate, 400},
		"nothing to end":                        {"DELETE", "", newest, "", 0, 405},
	} {
		t.Run(name, func(t *testing.T) {
			r := &Request{Method: c.method, Header: http.Header{}, Message: &envelope.Envelope{}}
			for i := 0; i < len(c.header); i += 2 {
				r.Header.Set(c.header[i], c.header[i+1])
			}
			if c.message != "" {
				e, err := envelope.Parse([]byte(c.message))
				require.NoError(t, err)
				r.Message = &e
				if e.Kind == envelope.Request {
					r.ID = e.IDOf([]byte(c.message))
				}
			}
			r.Stateless = r.Message.Stateless(r.Header)
			r.AcceptsJSON = c.refuses != "json" && c.refuses != "json stream"
			r.AcceptsStream = c.refuses != "stream" && c.refuses != "json stream"
			purpose, f := PurposeOf(r)
			if c.status == 0 {
				require.Nil(t, f)
				require.Equal(t, c.want, purpose)
				return
			}
			require.NotNil(t, f)
			require.Equal(t, c.status, f.Status)
			require.Equal(t, string(r.ID), string(f.RPCID), "the refusal answers a request, and only a request")
			require.Equal(t, c.status == http.StatusMethodNotAllowed, f.Allow == http.MethodPost)
		})
	}
}
