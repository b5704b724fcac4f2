package gateway

import (
	"fmt"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/stage"
)

func TestATokenFromVaultOpensAServerOverHTTP(t *testing.T) {
	h := harness.New(t)
	upstream := h.StartUpstream(nil)
	h.Write("mcp/servers/calculator", harness.Map{"transport": "http", "url": upstream.URL})
	token := h.CreateClient("cursor-local", harness.Map{"allowed_servers": "calculator"})
	gateway := h.StartGateway(harness.GatewayOptions{})

	for _, path := range stage.Paths {
		t.Run(path.String(), func(t *testing.T) {
			at := path.At
			session := stage.Connect(t, h, at.URL(gateway, "calculator"), token, path.Era)
			tools, err := session.ListTools(t.Context(), nil)
			if err != nil || len(tools.Tools) != 4 {
				t.Errorf("tools: %v, %v", tools, err)
			}
			if got := stage.CallTool(t, session, at.Tool("calculator", "multiply"), harness.Map{"a": 6, "b": 7}); got != "42" {
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

// assertAudited fails the test unless the audit log has the client, the server and the
// tool of the call.
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

	for _, path := range stage.Paths {
		t.Run(path.String(), func(t *testing.T) {
			at := path.At
			session := stage.Connect(t, h, at.URL(gateway, "notes"), token, path.Era)
			stage.CallTool(t, session, at.Tool("notes", "write_note"), harness.Map{"title": "milk", "text": "two bottles"})
			if got := stage.CallTool(t, session, at.Tool("notes", "list_notes"), nil); !strings.Contains(got, "milk") {
				t.Errorf("notes: %s", got)
			}
			note := at.Resource("notes", "note:///milk")
			resource, err := session.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: note})
			if err != nil || resource.Contents[0].Text != "two bottles" || resource.Contents[0].URI != note {
				t.Errorf("the note reads %v, %v", resource, err)
			}
			prompt, err := session.GetPrompt(t.Context(), &mcp.GetPromptParams{Name: at.Tool("notes", "summarize")})
			if err != nil || len(prompt.Messages) != 1 {
				t.Errorf("the prompt is %v, %v", prompt, err)
			}
		})
	}
}
