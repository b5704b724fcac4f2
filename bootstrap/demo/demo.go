// Package demo has small MCP servers for trying and testing the gateway: a calculator over
// streamable HTTP, a book of notes over standard input and output, and over either one that
// tells by its credentials as whom it was called. They are written as a user of the official
// SDK would write them, and none knows the gateway.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// statelessSince is the first revision of the protocol without sessions.
const statelessSince = "2026-07-28"

// Path is where a server answers over HTTP.
const Path = "/mcp"

// Handler serves a server over streamable HTTP in both of the protocol's eras.
// The SDK has a handler for either; which one a request is for is said by its
// version header, which the session era may leave out and the stateless one may
// not.
func Handler(server *mcp.Server) http.Handler {
	get := func(*http.Request) *mcp.Server { return server }
	sessions := mcp.NewStreamableHTTPHandler(get, &mcp.StreamableHTTPOptions{SessionTimeout: 10 * time.Minute})
	stateless := mcp.NewStreamableHTTPHandler(get, &mcp.StreamableHTTPOptions{
		Stateless:                    true,
		PropagateRequestCancellation: true,
	})

	mux := http.NewServeMux()
	mux.HandleFunc(Path, func(w http.ResponseWriter, r *http.Request) {
		// Revisions are dates, so that text order is their order.
		if r.Header.Get("MCP-Protocol-Version") >= statelessSince {
			stateless.ServeHTTP(w, r)
			return
		}
		sessions.ServeHTTP(w, r)
	})
	return http.NewCrossOriginProtection().Handler(mux)
}

// ServeHTTP serves a server at an address until the context ends. Port 0 lets
// the kernel choose; the first line on out says where the server listens.
func ServeHTTP(ctx context.Context, server *mcp.Server, address string, out io.Writer) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("cannot listen: %w: choose another with -address", err)
	}
	httpServer := &http.Server{Handler: Handler(server), ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = httpServer.Close() })
	defer stop()
	if _, err := fmt.Fprintf(out, "%shttp://%s%s\n", Listening, listener.Addr(), Path); err != nil {
		return fmt.Errorf("cannot say where the server listens: %w", err)
	}
	if err := httpServer.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("cannot serve: %w", err)
	}
	return nil
}

// Listening stands before the URL in the line that ServeHTTP writes.
const Listening = "listening on "

// ServeStdio serves a server over standard input and output, until the input
// ends or the context does.
func ServeStdio(ctx context.Context, server *mcp.Server) error {
	err := server.Run(ctx, &mcp.StdioTransport{})
	if err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("cannot serve: %w", err)
	}
	return nil
}

func text(format string, args ...any) *mcp.CallToolResult {
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: fmt.Sprintf(format, args...)}}}
}
