package aggregate

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/stage"
)

const (
	manyServers  = 100
	toolsOfEach  = 50
	leanTool     = 700      // bytes of a tool's description, about
	fatTool      = 2 << 10  // so many that all of them do not fit on one page
	largestPage  = 10 << 20 // the gateway's bound, and room for the last tool
	listPatience = 30 * time.Second
)

// manyTools is a server with many tools whose descriptions are that long.
func manyTools(size int) *mcp.Server {
	server := mcp.NewServer(&mcp.Implementation{Name: "many", Version: "1"}, nil)
	for i := range toolsOfEach {
		server.AddTool(&mcp.Tool{
			Name: fmt.Sprintf("tool-%d", i), Description: strings.Repeat("x", size),
			InputSchema: harness.Map{"type": "object"},
		}, nil)
	}
	return server
}

// TestAHundredServersAreOneList measures a list of 5,000 tools, and counts its costs.
func TestAHundredServersAreOneList(t *testing.T) {
	h := harness.New(t)
	var current atomic.Pointer[mcp.Server]
	current.Store(manyTools(leanTool))
	upstream := h.StartUpstream(mcp.NewStreamableHTTPHandler(
		func(*http.Request) *mcp.Server { return current.Load() }, &mcp.StreamableHTTPOptions{Stateless: true, JSONResponse: true}))
	for i := range manyServers {
		h.Write(fmt.Sprintf("mcp/servers/server-%d", i), harness.Map{"transport": "http", "url": fmt.Sprintf("%s/%d", upstream.URL, i)})
	}
	token := h.CreateClient("cursor", harness.Map{"allowed_servers": "*"})
	url := h.StartGateway(harness.GatewayOptions{}).URL + "/mcp"

	for _, era := range []string{harness.SessionEra, harness.StatelessEra} {
		t.Run("a client in "+era, func(t *testing.T) {
			h := h.In(t)
			header := http.Header{
				"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"},
				"Mcp-Protocol-Version": {harness.StatelessEra}, "Mcp-Method": {"tools/list"},
			}
			if era == harness.SessionEra {
				header = stage.InSession(stage.OpenSession(t, h, url, token))
			}
			list := func() harness.Response {
				return h.Do(http.MethodPost, url, token, header, `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{`+
					`"io.modelcontextprotocol/protocolVersion":"`+era+`","io.modelcontextprotocol/clientCapabilities":{}}}}`)
			}
			count := func(r harness.Response) int { return strings.Count(r.Body, `"name":"server-`) }
			// A server that does not answer within a list's budget is not waited for,
			// and its answer counts for a later list: on a busy machine any may be.
			var took time.Duration
			late := false
			timed := func() harness.Response {
				start := time.Now()
				r := list()
				took = time.Since(start)
				late = late || took >= budget
				return r
			}
			h.Eventually("all servers to be listed", func() error {
				if n := count(timed()); n < manyServers*toolsOfEach {
					return fmt.Errorf("%d tools are", n)
				}
				return nil
			})
			upstream.Forget()
			r := timed()
			require.Equal(t, manyServers*toolsOfEach, count(r))
			require.NotContains(t, r.Body, "nextCursor")
			if !late {
				require.Equal(t, manyServers, upstream.Count(), "requests to the servers")
			}
			require.Less(t, took, listPatience)
			t.Logf("a list of %d tools: %s, %d bytes, %d requests to the servers", count(r), took.Round(time.Millisecond), len(r.Body), upstream.Count())
		})
	}
	t.Run("in pages, where they are too many for one", func(t *testing.T) {
		h := h.In(t)
		current.Store(manyTools(fatTool))
		session := stage.Connect(t, h, url, token, harness.SessionEra)
		var pages, bytes int
		// A server that is late is listed as it last was, which is small.
		h.Eventually("every server to be listed as it is now", func() error {
			if pages, bytes = readPages(t, session); bytes < manyServers*toolsOfEach*fatTool {
				return fmt.Errorf("%d bytes of descriptions", bytes)
			}
			return nil
		})
		require.Greater(t, pages, 1)
		t.Logf("%d bytes of descriptions come in %d pages", bytes, pages)
	})
	t.Run("with an invalid cursor", func(t *testing.T) {
		session := stage.Connect(t, h, url, token, harness.SessionEra)
		for _, cursor := range []string{"x", "eyJwYWdlIjoyfQ==", strings.Repeat("A", 1000)} {
			_, err := session.ListTools(t.Context(), &mcp.ListToolsParams{Cursor: cursor})
			require.ErrorContains(t, err, "cursor")
		}
	})
}

// readPages reads a list to its end, and fails the test unless every tool is in it
// once. It returns how many pages there were, and the length of the descriptions.
func readPages(t *testing.T, session *mcp.ClientSession) (pages, bytes int) {
	t.Helper()
	seen := map[string]bool{}
	for cursor := ""; pages == 0 || cursor != ""; pages++ {
		page, err := session.ListTools(t.Context(), &mcp.ListToolsParams{Cursor: cursor})
		require.NoError(t, err)
		size := 0
		for _, tool := range page.Tools {
			require.False(t, seen[tool.Name], "%s is listed twice", tool.Name)
			seen[tool.Name] = true
			size += len(tool.Description)
		}
		require.Less(t, size, largestPage)
		bytes += size
		cursor = page.NextCursor
	}
	require.Len(t, seen, manyServers*toolsOfEach)
	return pages, bytes
}
