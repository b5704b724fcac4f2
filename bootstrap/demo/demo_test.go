package demo_test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"vault-plugin-secrets-mcp/bootstrap/demo"
)

const modernCall = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"multiply","arguments":{"a":6,"b":7},` +
	`"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"test","version":"1"},` +
	`"io.modelcontextprotocol/clientCapabilities":{}}}}`

func post(t *testing.T, url, body string, header map[string]string) (status int, answer string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json, text/event-stream")
	for name, value := range header {
		request.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(content)
}

func TestOnePostIsEnoughInTheStatelessEra(t *testing.T) {
	server := httptest.NewServer(demo.Handler(demo.Calculator()))
	defer server.Close()
	status, answer := post(t, server.URL+demo.Path, modernCall, map[string]string{
		"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "multiply",
	})
	if status != http.StatusOK || !strings.Contains(answer, `"result":42`) {
		t.Errorf("%d %s", status, answer)
	}
}

func TestSessionsAreOpenedInTheSessionEra(t *testing.T) {
	server := httptest.NewServer(demo.Handler(demo.Calculator()))
	defer server.Close()
	status, answer := post(t, server.URL+demo.Path, `{"jsonrpc":"2.0","id":1,"method":"initialize","params":`+
		`{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"test","version":"1"}}}`, nil)
	if status != http.StatusOK || !strings.Contains(answer, `"protocolVersion":"2025-06-18"`) {
		t.Errorf("%d %s", status, answer)
	}
}

func TestAPageOfAnotherOriginIsRefused(t *testing.T) {
	server := httptest.NewServer(demo.Handler(demo.Calculator()))
	defer server.Close()
	status, _ := post(t, server.URL+demo.Path, modernCall, map[string]string{"Origin": "https://example.com"})
	if status != http.StatusForbidden {
		t.Errorf("status %d", status)
	}
}

func TestServeHTTPSaysWhereItListensAndEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	read, write := io.Pipe()
	served := make(chan error, 1)
	go func() { served <- demo.ServeHTTP(ctx, demo.Calculator(), "127.0.0.1:0", write) }()
	line, err := bufio.NewReader(read).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	url := strings.TrimPrefix(strings.TrimSpace(line), demo.Listening)
	session, err := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil).
		Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: url, MaxRetries: -1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	tools, err := session.ListTools(t.Context(), nil)
	if err != nil || len(tools.Tools) != 4 {
		t.Errorf("%v %v", tools, err)
	}
	cancel()
	select {
	case err := <-served:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("still served 10 s after the end of the context")
	}
	_ = session.Close()
}

// connect joins a client and a server inside this process.
func connect(t *testing.T, server *mcp.Server) *mcp.ClientSession {
	t.Helper()
	clientSide, serverSide := mcp.NewInMemoryTransports()
	if _, err := server.Connect(t.Context(), serverSide, nil); err != nil {
		t.Fatal(err)
	}
	session, err := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil).Connect(t.Context(), clientSide, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = session.Close() })
	return session
}

func call(t *testing.T, session *mcp.ClientSession, tool string, arguments map[string]any) (answer string, failed bool) {
	t.Helper()
	result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: tool, Arguments: arguments})
	if err != nil {
		t.Fatal(err)
	}
	content, ok := result.Content[0].(*mcp.TextContent)
	if !ok {
		t.Fatalf("content is a %T", result.Content[0])
	}
	return content.Text, result.IsError
}

func TestCalculator(t *testing.T) {
	session := connect(t, demo.Calculator())
	for _, test := range []struct {
		tool   string
		a, b   float64
		want   string
		failed bool
	}{
		{"add", 2, 3, "5", false},
		{"subtract", 2, 3, "-1", false},
		{"multiply", 0.5, 3, "1.5", false},
		{"divide", 3, 2, "1.5", false},
		{"divide", 3, 0, "division by zero", true},
	} {
		got, failed := call(t, session, test.tool, map[string]any{"a": test.a, "b": test.b})
		if got != test.want || failed != test.failed {
			t.Errorf("%s(%g, %g) = %q, failed %v", test.tool, test.a, test.b, got, failed)
		}
	}
}

func TestANoteCanBeWrittenReadListedSummarizedAndDeleted(t *testing.T) {
	session := connect(t, demo.Notes())
	if answer, failed := call(t, session, "write_note", map[string]any{"title": "a b", "text": "milk"}); failed {
		t.Fatal(answer)
	}
	if answer, _ := call(t, session, "list_notes", nil); answer != "a b\nwelcome" {
		t.Errorf("titles %q", answer)
	}
	read, err := session.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: "note:///a%20b"})
	if err != nil || read.Contents[0].Text != "milk" {
		t.Errorf("read %v %v", read, err)
	}
	prompt, err := session.GetPrompt(t.Context(), &mcp.GetPromptParams{Name: "summarize"})
	if err != nil {
		t.Fatal(err)
	}
	if content, ok := prompt.Messages[0].Content.(*mcp.TextContent); !ok || !strings.Contains(content.Text, "milk") {
		t.Errorf("prompt %v", prompt.Messages[0].Content)
	}
	if answer, failed := call(t, session, "delete_note", map[string]any{"title": "a b"}); failed {
		t.Fatal(answer)
	}
	if answer, failed := call(t, session, "delete_note", map[string]any{"title": "a b"}); !failed {
		t.Errorf("deleted twice: %s", answer)
	}
	if _, err := session.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: "note:///a%20b"}); err == nil {
		t.Error("a deleted note can be read")
	}
}

func TestANoteWithoutATitleIsRefused(t *testing.T) {
	session := connect(t, demo.Notes())
	if answer, failed := call(t, session, "write_note", map[string]any{"title": "", "text": "x"}); !failed {
		t.Error(answer)
	}
}
