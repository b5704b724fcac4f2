package envelope

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http/httpguts"

	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
)

func header(pairs ...string) http.Header {
	h := make(http.Header)
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

func TestHeadersMustAgreeWithTheBody(t *testing.T) {
	const (
		modern  = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`
		unicode = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"écho","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`
		read    = `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"a://b","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`
		list    = `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`
		bare    = `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`
		notify  = `{"jsonrpc":"2.0","method":"notifications/x"}`
		respond = `{"jsonrpc":"2.0","id":1,"result":{}}`
	)
	tests := map[string]struct {
		body   string
		header http.Header
		refuse bool
	}{
		"stateless, all headers":                     {modern, header("MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", "echo"), false},
		"stateless, a later version":                 {`{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2030-01-01"}}}`, header("MCP-Protocol-Version", "2030-01-01", "Mcp-Method", "ping"), false},
		"stateless, a name in base64":                {unicode, header("MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", "=?base64?w6ljaG8=?="), false},
		"stateless, a plain name in base64":          {modern, header("MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", "=?base64?ZWNobw==?="), false},
		"stateless, a resource by its URI":           {read, header("MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "resources/read", "Mcp-Name", "a://b"), false},
		"stateless, no name where none is due":       {list, header("MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/list"), false},
		"stateless, an extension's own name":         {list, header("MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/list", "Mcp-Name", "task-1"), false},
		"stateless, a parameter header passes":       {modern, header("MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", "echo", "Mcp-Param-X", "=?base64?!?="), false},
		"stateless, no version in the body":          {bare, header("MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/list"), false},
		"stateless, a notification needs no headers": {notify, header("MCP-Protocol-Version", "2026-07-28"), false},
		"sessions, no headers at all":                {call, header(), false},
		"sessions, a right method":                   {call, header("MCP-Protocol-Version", "2025-11-25", "Mcp-Method", "tools/call"), false},
		"sessions, a response":                       {respond, header("MCP-Protocol-Version", "2025-11-25"), false},
		"a version that is not a date":               {bare, header("MCP-Protocol-Version", "zzzz"), false},

		"stateless, another version in the header":  {modern, header("MCP-Protocol-Version", "2026-07-29", "Mcp-Method", "tools/call", "Mcp-Name", "echo"), true},
		"stateless, an older version in the header": {modern, header("MCP-Protocol-Version", "2025-11-25", "Mcp-Method", "tools/call", "Mcp-Name", "echo"), true},
		"stateless, no version in the header":       {modern, header("Mcp-Method", "tools/call", "Mcp-Name", "echo"), true},
		"stateless, an older version in the body":   {`{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2025-11-25"}}}`, header("MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "ping"), true},
		"stateless, no method":                      {modern, header("MCP-Protocol-Version", "2026-07-28", "Mcp-Name", "echo"), true},
		"stateless, another method":                 {modern, header("MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/list", "Mcp-Name", "echo"), true},
		"stateless, a method in other case":         {modern, header("MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "Tools/Call", "Mcp-Name", "echo"), true},
		"stateless, no name":                        {modern, header("MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/call"), true},
		"stateless, another name":                   {modern, header("MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", "get-env"), true},
		"stateless, another name in base64":         {modern, header("MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", "=?base64?Z2V0LWVudg==?="), true},
		"stateless, broken base64":                  {modern, header("MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", "=?base64?!?="), true},
		"stateless, markers in other case":          {modern, header("MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", "=?BASE64?ZWNobw==?="), true},
		"stateless, two versions":                   {list, header("MCP-Protocol-Version", "2026-07-28", "MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/list"), true},
		"two methods":                               {call, header("Mcp-Method", "tools/call", "Mcp-Method", "ping"), true},
		"two names":                                 {call, header("Mcp-Name", "echo", "Mcp-Name", "get-env"), true},
		"sessions, another method":                  {call, header("MCP-Protocol-Version", "2025-11-25", "Mcp-Method", "tools/list"), true},
		"sessions, another name":                    {call, header("MCP-Protocol-Version", "2025-11-25", "Mcp-Name", "get-env"), true},
		"a response that claims a method":           {respond, header("Mcp-Method", "tools/call"), true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			e, err := Parse([]byte(test.body))
			require.NoError(t, err)
			err = e.CheckHeader(test.header)
			if !test.refuse {
				require.NoError(t, err)
				return
			}
			var refused *Error
			require.ErrorAs(t, err, &refused)
			require.Equal(t, protocol.CodeHeaderMismatch, refused.Code)
			require.Equal(t, e.ID, refused.ID)
			require.NotContains(t, refused.Reason, "get-env")
		})
	}
}

func TestEncodedNamesAreReadAsTheNameAndFitIntoAHeader(t *testing.T) {
	tests := map[string]struct{ name, want string }{
		"a tool":                         {"get-env", "get-env"},
		"a URI":                          {"file:///a b?c=d", "file:///a b?c=d"},
		"nothing":                        {"", ""},
		"what is not ASCII":              {"écho", "=?base64?w6ljaG8=?="},
		"a space at the end":             {"a ", "=?base64?YSA=?="},
		"a tab":                          {"a\tb", "=?base64?YQli?="},
		"a line break":                   {"a\r\nX: y", "=?base64?YQ0KWDogeQ==?="},
		"what would be taken for base64": {"=?base64?YQ==?=", "=?base64?PT9iYXNlNjQ/WVE9PT89?="},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := EncodeName(test.name)
			require.Equal(t, test.want, got)
			back, err := decodeHeader(got)
			require.NoError(t, err)
			require.Equal(t, test.name, back)
			require.True(t, httpguts.ValidHeaderFieldValue(got))
		})
	}
}
