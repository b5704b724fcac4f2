package test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"vault-plugin-secrets-mcp/test/harness"
)

// callTool calls a tool and returns the text of its answer.
func callTool(t *testing.T, session *mcp.ClientSession, tool string, arguments harness.Map) string {
	t.Helper()
	result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: tool, Arguments: arguments})
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, content := range result.Content {
		text, ok := content.(*mcp.TextContent)
		if !ok {
			t.Fatalf("the answer holds a %T", content)
		}
		texts = append(texts, text.Text)
	}
	if result.IsError {
		t.Fatalf("%s failed: %s", tool, strings.Join(texts, "\n"))
	}
	return strings.Join(texts, "\n")
}

func TestATokenFromVaultOpensAServerOverHTTP(t *testing.T) {
	h := harness.New(t)
	upstream := h.StartUpstream(nil)
	h.Write("mcp/servers/calculator", harness.Map{"transport": "http", "url": upstream.URL})
	token := h.CreateClient("cursor-local", harness.Map{"allowed_servers": "calculator"})
	gateway := h.StartGateway(harness.GatewayOptions{})

	for _, path := range paths {
		t.Run(path.String(), func(t *testing.T) {
			at := path.at
			session := connect(t, h, at.url(gateway, "calculator"), token, path.era)
			tools, err := session.ListTools(t.Context(), nil)
			if err != nil || len(tools.Tools) != 4 {
				t.Errorf("tools: %v, %v", tools, err)
			}
			if got := callTool(t, session, at.tool("calculator", "multiply"), harness.Map{"a": 6, "b": 7}); got != "42" {
				t.Errorf("6 × 7 = %s", got)
			}
		})
	}
	for _, request := range upstream.Requests() {
		if request.Header.Get("Authorization") != "" {
			t.Errorf("the upstream was sent an Authorization header: %s %s", request.Method, request.Path)
		}
	}
	assertAudited(t, gateway)
}

// assertAudited fails unless the audit log says who called what.
func assertAudited(t *testing.T, gateway *harness.Gateway) {
	t.Helper()
	for _, line := range gateway.Audit() {
		text := fmt.Sprint(line)
		if strings.Contains(text, "cursor-local") && strings.Contains(text, "multiply") {
			return
		}
	}
	t.Errorf("no audit line names the client and the tool: %v", gateway.Audit())
}

func TestATokenFromVaultOpensAServerOverStdio(t *testing.T) {
	h := harness.New(t)
	h.Write("mcp/servers/notes", harness.Map{
		"transport": "stdio", "command": h.Programs.Bootstrap, "args": []string{"demo", "notes"},
	})
	token := h.CreateClient("cursor-local", harness.Map{"allowed_servers": "notes"})
	gateway := h.StartGateway(harness.GatewayOptions{Blocks: map[string]string{
		"stdio": fmt.Sprintf("allowed_commands = [%q]", h.Programs.Bootstrap),
	}})

	for _, path := range paths {
		t.Run(path.String(), func(t *testing.T) {
			at := path.at
			session := connect(t, h, at.url(gateway, "notes"), token, path.era)
			callTool(t, session, at.tool("notes", "write_note"), harness.Map{"title": "milk", "text": "two bottles"})
			if got := callTool(t, session, at.tool("notes", "list_notes"), nil); !strings.Contains(got, "milk") {
				t.Errorf("notes: %s", got)
			}
			note := at.resource("notes", "note:///milk")
			resource, err := session.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: note})
			if err != nil || resource.Contents[0].Text != "two bottles" || resource.Contents[0].URI != note {
				t.Errorf("the note reads %v, %v", resource, err)
			}
			prompt, err := session.GetPrompt(t.Context(), &mcp.GetPromptParams{Name: at.tool("notes", "summarize")})
			if err != nil || len(prompt.Messages) != 1 {
				t.Errorf("the prompt is %v, %v", prompt, err)
			}
		})
	}
}

// connect opens a session of the SDK's client that speaks that version.
func connect(t *testing.T, h *harness.Harness, url, token, version string) *mcp.ClientSession {
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
