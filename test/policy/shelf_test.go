package policy

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"syscall"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
)

// shelfVariable, set in a child's environment, makes it a shelf on stdio.
const shelfVariable = "TEST_SHELF"

func TestMain(m *testing.M) {
	if os.Getenv(shelfVariable) != "" {
		if err := newShelf().Run(context.Background(), &mcp.StdioTransport{}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		syscall.Exit(0) // os.Exit would wait for a second, for the race detector
	}
	os.Exit(m.Run())
}

// The items of a shelf.
const (
	openBook   = "shelf://library/open/moby"
	closedBook = "shelf://library/closed/diary"
	anyBook    = "shelf://library/{room}/{title}"
	closedRoom = "shelf://library/closed/{title}"
)

// newShelf is a server with prompts, resources, templates, subscriptions and completions.
func newShelf() *mcp.Server {
	server := mcp.NewServer(&mcp.Implementation{Name: "shelf", Version: "1"}, &mcp.ServerOptions{
		SubscribeHandler:   func(context.Context, *mcp.SubscribeRequest) error { return nil },
		UnsubscribeHandler: func(context.Context, *mcp.UnsubscribeRequest) error { return nil },
		CompletionHandler: func(context.Context, *mcp.CompleteRequest) (*mcp.CompleteResult, error) {
			return &mcp.CompleteResult{Completion: mcp.CompletionResultDetails{Values: []string{"moby"}}}, nil
		},
	})
	for _, name := range []string{"review", "publish"} {
		server.AddPrompt(&mcp.Prompt{Name: name}, func(context.Context, *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
			return &mcp.GetPromptResult{Messages: []*mcp.PromptMessage{{Role: "user", Content: &mcp.TextContent{Text: name}}}}, nil
		})
	}
	read := func(_ context.Context, r *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
		return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: r.Params.URI, Text: "the text of a book"}}}, nil
	}
	for _, uri := range []string{openBook, closedBook} {
		server.AddResource(&mcp.Resource{URI: uri, Name: "a book"}, read)
	}
	for _, template := range []string{anyBook, closedRoom} {
		server.AddResourceTemplate(&mcp.ResourceTemplate{URITemplate: template, Name: "books"}, read)
	}
	return server
}

// shelves registers one shelf for each transport, and starts a gateway.
func shelves(t *testing.T, h *harness.Harness) *harness.Gateway {
	t.Helper()
	get := func(*http.Request) *mcp.Server { return newShelf() }
	h.Write("mcp/servers/http", harness.Map{"transport": "http", "url": h.StartUpstream(mcp.NewStreamableHTTPHandler(get, nil)).URL})
	h.Write("mcp/servers/sse", harness.Map{"transport": "sse", "url": h.StartUpstream(mcp.NewSSEHandler(get, nil)).URL})
	program, err := os.Executable()
	require.NoError(t, err)
	h.Write("mcp/servers/stdio", harness.Map{"transport": "stdio", "command": program, "env": harness.Map{shelfVariable: "1"}})
	return h.StartGateway(harness.GatewayOptions{Blocks: map[string]string{
		"stdio": fmt.Sprintf("allowed_commands = [%q]\nisolation = \"off\"\nstop_timeout = \"1s\"\n", program),
	}})
}
