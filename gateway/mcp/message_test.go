package mcp

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
)

// TestAnEditedMessageKeepsEveryOtherByte: what is before a part that becomes shorter moves, in the
// memory in which it was read.
func TestAnEditedMessageKeepsEveryOtherByte(t *testing.T) {
	for name, test := range map[string]struct{ name, text string }{
		"a shorter name":        {"calc__add", "add"},
		"one of the same size":  {"calc__add", "calc--add"},
		"a longer name":         {"add", "calc__add"},
		"nothing in its place":  {"calc__", ""},
		"a name behind a large": {strings.Repeat("n", 40<<10), "n"},
	} {
		for size, padding := range map[string]string{"small": "", "large": strings.Repeat("x", 100<<10)} {
			t.Run(name+", "+size, func(t *testing.T) {
				of := func(name string) string {
					return `{ "jsonrpc":"2.0","id" : 7,"method":"tools/call","params":{"name":"` + name + `","arguments":{"x":"` + padding + `"}} }`
				}
				r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/mcp", strings.NewReader(of(test.name)))
				r.Header.Set("Content-Type", "application/json")
				request := &access.Request{}
				m, f := ReadMessage(r.WithContext(access.NewContext(t.Context(), request, nil)), 1<<20)
				require.Nil(t, f)
				defer m.Release()
				whole := m.buffer.data
				at := m.NameAt
				part := envelope.Part{Span: envelope.Span{Start: at.Start + 1, End: at.End - 1}, Text: []byte(test.text)}
				edited := m.Envelope.Edited(part)
				edited.Name = test.text
				require.NoError(t, m.Edit(part, edited))
				require.Equal(t, of(test.text), string(m.Data))
				require.Equal(t, "7", string(m.IDOf(m.Data)))
				require.Equal(t, `"`+test.text+`"`, string(m.NameAt.Of(m.Data)))
				require.Equal(t, string(m.Data), string(m.buffer.data), "what is sent")
				if len(test.text) <= len(test.name) {
					require.Same(t, &whole[len(whole)-1], &m.Data[len(m.Data)-1], "nothing is copied")
				}
			})
		}
	}
}

// TestARefusalHasTheIDOfItsMessage, and not what another client's message has in the same memory by
// the time at which it is written.
func TestARefusalHasTheIDOfItsMessage(t *testing.T) {
	id := `"` + strings.Repeat("of alice ", 2<<10) + `"`
	others := func() { // as many as may get the memory of any processor
		for range 64 {
			b := newBuffer(minPooledSize)
			b.data = append(b.data, strings.Repeat("of bob ", 4<<10)...)
		}
	}
	t.Run("that cannot be read", func(t *testing.T) {
		for range 8 { // a pool under the race detector drops some
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/mcp",
				strings.NewReader(`{"jsonrpc":"2.0","id":`+id+`,"method":"tools/call","params":{"name":5}}`))
			r.Header.Set("Content-Type", "application/json")
			_, f := ReadMessage(r.WithContext(access.NewContext(t.Context(), &access.Request{}, nil)), 1<<20)
			require.NotNil(t, f)
			others()
			require.Equal(t, id, string(f.RPCID))
		}
	})
	t.Run("whose server cannot be used", func(t *testing.T) {
		server := &grants.Server{Name: "up", ID: "registration-1", Transport: grants.TransportHTTP, URL: "no URL"}
		up := newTaskUpstream(t)
		g := newGateway(t, testConfig(), registration(up.Upstream))
		task := up.begin(t, g, "alice", "own-1")
		g.registry.put(server)
		for range 8 {
			m, err := ParseMessage([]byte(`{"jsonrpc":"2.0","id":` + id + `,"method":"tasks/get","params":{"taskId":"` + task + `"}}`))
			require.NoError(t, err)
			request := &access.Request{Server: server, Grant: g.grants["alice"]}
			ctx := access.NewContext(t.Context(), request, g.sink)
			_, err = g.Call(ctx, Call{Request: request, Method: http.MethodPost, Header: http.Header{}, Message: m})
			var f *access.Refusal
			require.ErrorAs(t, err, &f)
			others()
			require.Equal(t, reasonUnusable, f.Reason)
			require.Equal(t, id, string(f.RPCID))
		}
	})
}
