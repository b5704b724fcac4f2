package field

import (
	"context"
	"net/http"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// starlette answers as a server of FastMCP's does, which is an application of
// Starlette's: it lives at /mcp/, and redirects requests to /mcp there with a 307.
func starlette() http.Handler {
	server := mcp.NewServer(&mcp.Implementation{Name: "fast", Version: "1"}, nil)
	mcp.AddTool(server, &mcp.Tool{Name: echo}, func(_ context.Context, _ *mcp.CallToolRequest, in struct {
		Message string `json:"message"`
	},
	) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "Echo: " + in.Message}}}, nil, nil
	})
	mcp.AddTool(server, &mcp.Tool{Name: long}, func(ctx context.Context, r *mcp.CallToolRequest, in struct {
		Duration int `json:"duration"`
		Steps    int `json:"steps"`
	},
	) (*mcp.CallToolResult, any, error) {
		for step := range in.Steps {
			select {
			case <-ctx.Done():
				return nil, nil, ctx.Err()
			case <-time.After(time.Duration(in.Duration) * time.Second / time.Duration(in.Steps)):
			}
			if err := r.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{
				ProgressToken: r.Params.GetProgressToken(), Progress: float64(step + 1), Total: float64(in.Steps),
			}); err != nil {
				return nil, nil, err
			}
		}
		return &mcp.CallToolResult{}, nil, nil
	})
	mux := http.NewServeMux()
	mux.Handle("/mcp/", mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, nil))
	mux.HandleFunc("/mcp", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", "http://"+r.Host+"/mcp/")
		w.WriteHeader(http.StatusTemporaryRedirect)
	})
	return mux
}
