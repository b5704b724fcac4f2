package stage

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
)

// OpenSession opens a session and returns its id.
func OpenSession(t *testing.T, h *harness.Harness, url, token string) string {
	t.Helper()
	opened := h.Post(url, token, `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"`+
		harness.SessionEra+`","capabilities":{},"clientInfo":{"name":"test","version":"1"}}}`)
	require.Equal(t, http.StatusOK, opened.Status, opened.Body)
	id := opened.Header.Get("Mcp-Session-Id")
	require.NotEmpty(t, id)
	h.Do(http.MethodPost, url, token, InSession(id), `{"jsonrpc":"2.0","method":"notifications/initialized"}`)
	return id
}

// InSession is the header of a message in a session.
func InSession(id string) http.Header {
	return http.Header{
		"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"},
		"Mcp-Session-Id": {id}, "Mcp-Protocol-Version": {harness.SessionEra},
	}
}

// CallTool calls a tool and returns the text of its answer.
func CallTool(t *testing.T, session *mcp.ClientSession, tool string, arguments harness.Map) string {
	t.Helper()
	result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: tool, Arguments: arguments})
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, content := range result.Content {
		text, ok := content.(*mcp.TextContent)
		if !ok {
			t.Fatalf("the answer has a %T", content)
		}
		texts = append(texts, text.Text)
	}
	if result.IsError {
		t.Fatalf("%s failed: %s", tool, strings.Join(texts, "\n"))
	}
	return strings.Join(texts, "\n")
}

// Connect opens a session of the SDK's client that speaks that version.
func Connect(t *testing.T, h *harness.Harness, url, token, version string) *mcp.ClientSession {
	t.Helper()
	session, err := h.In(t).TryConnect(url, token, harness.ConnectOptions{Version: version})
	if err != nil {
		t.Fatal(err)
	}
	if got := session.InitializeResult().ProtocolVersion; got != version {
		t.Errorf("the session speaks %s", got)
	}
	return session
}

// codeInvalidParams is the error of a refused tool: JSON-RPC's -32602, as for a tool that
// does not exist.
const codeInvalidParams = -32602

// ToolsOf returns the names of the tools that start with the prefix, without it.
func ToolsOf(t *testing.T, session *mcp.ClientSession, prefix string) []string {
	t.Helper()
	listing, err := session.ListTools(t.Context(), nil)
	require.NoError(t, err)
	names := []string{}
	for _, tool := range listing.Tools {
		if name, ok := strings.CutPrefix(tool.Name, prefix); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// WantTools waits until the list has these tools, since a list leaves out a slow server.
// Any other tool fails the test at once.
func WantTools(t *testing.T, h *harness.Harness, session *mcp.ClientSession, prefix string, want []string) {
	t.Helper()
	h.In(t).Eventually("the tools to be listed", func() error {
		got := ToolsOf(t, session, prefix)
		for _, tool := range got {
			require.Contains(t, want, tool)
		}
		if len(got) < len(want) {
			return fmt.Errorf("the list has %q", got)
		}
		return nil
	})
}

// WantNoTool fails the test unless the answer to a call is that of a tool that does not
// exist.
func WantNoTool(t *testing.T, session *mcp.ClientSession, tool string) {
	t.Helper()
	_, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: tool, Arguments: harness.Map{"a": 1, "b": 1}})
	var refused *jsonrpc.Error
	require.ErrorAs(t, err, &refused)
	require.EqualValues(t, codeInvalidParams, refused.Code)
}
