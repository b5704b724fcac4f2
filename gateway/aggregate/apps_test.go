package aggregate

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"
)

const page = "ui://get-time/app.html"

// withPage is a server with sessions that has a tool with a page.
func withPage(t *testing.T) string {
	t.Helper()
	return sessionServer(t, "clock", func(server *sdk.Server) {
		server.AddResource(&sdk.Resource{Name: "page", URI: page, MIMEType: "text/html;profile=mcp-app"},
			func(context.Context, *sdk.ReadResourceRequest) (*sdk.ReadResourceResult, error) {
				return &sdk.ReadResourceResult{Contents: []*sdk.ResourceContents{{URI: page, Text: "<p>time</p>", MIMEType: "text/html;profile=mcp-app"}}}, nil
			})
		server.AddTool(&sdk.Tool{
			Name: "get-time", InputSchema: map[string]any{"type": "object"},
			Meta: sdk.Meta{"ui": map[string]any{"resourceUri": page, "visibility": []string{"app"}}, "ui/resourceUri": page},
		}, func(context.Context, *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
			return &sdk.CallToolResult{}, nil
		})
	}).URL
}

// statelessPage answers as withPage without sessions, and notes what clients declare.
func statelessPage(t *testing.T) *fake {
	t.Helper()
	return newFake(t, func(w http.ResponseWriter, _ *http.Request, method, body string) {
		switch method {
		case "server/discover":
			reply(w, body, `{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{},"resources":{},"extensions":{"io.modelcontextprotocol/ui":{}}}}`)
		case "tools/list":
			reply(w, body, `{"tools":[{"name":"get-time","_meta":{"ui":{"resourceUri":"`+page+`"},"ui/resourceUri":"`+page+`"}}]}`)
		case "resources/list":
			reply(w, body, `{"resources":[{"uri":"`+page+`","name":"page"}]}`)
		case "resources/read":
			reply(w, body, `{"contents":[{"uri":"`+page+`","text":"<p>time</p>"}]}`)
		default:
			replyError(w, body, 404, -32601)
		}
	})
}

func TestPagesOfAppsAreReadInEachEra(t *testing.T) {
	modern := statelessPage(t)
	s := newStage(t, map[string]string{"clock": withPage(t), "later": modern.URL})
	session := s.open(alice)
	asks := map[string]func(method, params string) string{
		"without sessions": func(method, params string) string { return s.asks("1", method, params).message() },
		"in a session": func(method, params string) string {
			return s.ask(fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":%q,"params":{%s}}`, method, params), session...).message()
		},
	}
	for name, ask := range asks {
		t.Run(name, func(t *testing.T) {
			for _, server := range []string{"clock", "later"} {
				uri := "ui://" + server + "/get-time/app.html"
				require.Contains(t, ask("resources/list", ""), `"uri":"`+uri+`"`)
				tools := ask("tools/list", "")
				require.Contains(t, tools, `"resourceUri":"`+uri+`"`)
				require.Contains(t, tools, `"ui/resourceUri":"`+uri+`"`)
				read := ask("resources/read", `"uri":"`+uri+`"`)
				require.Contains(t, read, `"uri":"`+uri+`"`)
				require.Contains(t, read, `time`)
				require.NotContains(t, read, page)
			}
			require.Contains(t, ask("resources/read", `"uri":"`+page+`"`), "This resource is not available", "no server's name")
		})
	}
	require.Contains(t, s.asks("1", "server/discover", "").body, `"extensions":{"io.modelcontextprotocol/ui":{}}`)
}

// TestServersHearWhetherTheirClientShowsApps: the client's words in one era are told to a server
// of the other.
func TestServersHearWhetherTheirClientShowsApps(t *testing.T) {
	const shows = `"extensions":{"io.modelcontextprotocol/ui":{"mimeTypes":["text/html;profile=mcp-app"]}}`
	modern := statelessPage(t)
	s := newStage(t, map[string]string{"later": modern.URL})
	for name, capabilities := range map[string]string{"a client that does": "{" + shows + "}", "a client that does not": "{}"} {
		t.Run(name, func(t *testing.T) {
			opened := s.ask(`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":` +
				capabilities + `,"clientInfo":{"name":"t","version":"1"}}}`)
			before := len(modern.sent("tools/list"))
			s.ask(`{"jsonrpc":"2.0","id":2,"method":"tools/list"}`, "Mcp-Session-Id", opened.header.Get("Mcp-Session-Id"), "Mcp-Protocol-Version", "2025-11-25")
			sent := modern.sent("tools/list")
			require.Len(t, sent, before+1)
			require.Equal(t, capabilities != "{}", strings.Contains(sent[before], shows), sent[before])
		})
	}
}
