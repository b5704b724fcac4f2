package servers

import (
	"context"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// Sight is a server's answer about itself and the call.
type Sight struct {
	// PID is the server's process.
	PID int `json:"pid"`
	// Header is that of the request with the call, on HTTP.
	Header http.Header `json:"header,omitempty"`
	// Env are the variables of a server on stdio whose names begin with LEASED_.
	Env map[string]string `json:"env,omitempty"`
	// Files are the contents of the files that variables with the prefix LEASED_FILE_
	// name, and Paths are their paths, both by variable.
	Files map[string]string `json:"files,omitempty"`
	Paths map[string]string `json:"paths,omitempty"`
}

// prefix is that of the variables that a server shows.
const prefix = "LEASED_"

// look is the tool "look": it returns the server's credentials.
func look(request *mcp.CallToolRequest, header http.Header) (*mcp.CallToolResult, Sight, error) {
	s := Sight{PID: os.Getpid(), Header: header}
	if header == nil && request.Extra != nil {
		s.Header = request.Extra.Header
	}
	if s.Header != nil {
		return nil, s, nil // its variables are the test's
	}
	s.Env, s.Files, s.Paths = map[string]string{}, map[string]string{}, map[string]string{}
	for _, variable := range os.Environ() {
		name, value, _ := strings.Cut(variable, "=")
		if !strings.HasPrefix(name, prefix) {
			continue
		}
		s.Env[name] = value
		if strings.HasPrefix(name, prefix+"FILE_") {
			content, err := os.ReadFile(value)
			if err != nil {
				return nil, s, err
			}
			s.Files[name], s.Paths[name] = string(content), value
		}
	}
	return nil, s, nil
}

// Pause are the arguments of the tool "wait".
type Pause struct {
	Milliseconds int `json:"milliseconds"`
}

// wait is the tool "wait", whose answer takes time.
func wait(ctx context.Context, _ *mcp.CallToolRequest, in Pause) (*mcp.CallToolResult, Sight, error) {
	select {
	case <-ctx.Done():
		return nil, Sight{}, ctx.Err()
	case <-time.After(time.Duration(in.Milliseconds) * time.Millisecond):
		return nil, Sight{PID: os.Getpid()}, nil
	}
}

// newServer is an MCP server with the tools that every server here has. The header is that
// of all its requests; nil: each has its own, or none.
func newServer(name string, header http.Header) *mcp.Server {
	server := mcp.NewServer(&mcp.Implementation{Name: name, Version: "1"}, nil)
	mcp.AddTool(server, &mcp.Tool{Name: "look", Annotations: &mcp.ToolAnnotations{ReadOnlyHint: true}},
		func(_ context.Context, request *mcp.CallToolRequest, _ any) (*mcp.CallToolResult, Sight, error) {
			return look(request, header)
		})
	mcp.AddTool(server, &mcp.Tool{Name: "wait"}, wait)
	return server
}
