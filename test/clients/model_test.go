package clients

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"vault-plugin-secrets-mcp/test/harness"
)

// model stands where Claude Code would ask Anthropic's. It has one thing done: a tool
// called. It remembers which tools it was offered, and what that tool answered.
type model struct {
	*httptest.Server
	tool      string
	arguments string

	mu      sync.Mutex
	offered []string
	answer  string
}

func newModel(t *testing.T, tool string, arguments harness.Map) *model {
	t.Helper()
	text, err := json.Marshal(arguments)
	if err != nil {
		t.Fatal(err)
	}
	m := &model{tool: tool, arguments: string(text)}
	m.Server = httptest.NewServer(http.HandlerFunc(m.serve))
	t.Cleanup(m.Close)
	return m
}

// serve is POST /v1/messages of https://docs.claude.com/en/api/messages-streaming.
func (m *model) serve(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost || r.URL.Path != "/v1/messages" {
		http.NotFound(w, r)
		return
	}
	var ask struct {
		Model    string
		Tools    []struct{ Name string }
		Messages []struct{ Content json.RawMessage }
	}
	if err := json.NewDecoder(r.Body).Decode(&ask); err != nil || len(ask.Messages) == 0 {
		http.Error(w, fmt.Sprint("no messages: ", err), http.StatusBadRequest)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.offered = nil
	for _, tool := range ask.Tools {
		m.offered = append(m.offered, tool.Name)
	}
	var parts []struct {
		Type    string
		Content json.RawMessage
	}
	// A text alone is no list of parts, and no result either.
	if json.Unmarshal(ask.Messages[len(ask.Messages)-1].Content, &parts) == nil {
		for _, part := range parts {
			if part.Type == "tool_result" {
				m.answer = string(part.Content)
			}
		}
	}
	w.Header().Set("Content-Type", "text/event-stream")
	send := func(event string, data harness.Map) {
		data["type"] = event
		text, err := json.Marshal(data)
		if err == nil {
			_, _ = fmt.Fprintf(w, "event: %s\ndata: %s\n\n", event, text)
		}
	}
	block, delta, end := harness.Map{"type": "text", "text": ""}, harness.Map{"type": "text_delta", "text": "Done."}, "end_turn"
	if m.answer == "" && m.has(m.tool) {
		block = harness.Map{"type": "tool_use", "id": "toolu_1", "name": m.tool, "input": harness.Map{}}
		delta = harness.Map{"type": "input_json_delta", "partial_json": m.arguments}
		end = "tool_use"
	}
	send("message_start", harness.Map{"message": harness.Map{
		"id": "msg_1", "type": "message", "role": "assistant", "model": ask.Model, "content": []any{},
		"stop_reason": nil, "stop_sequence": nil, "usage": harness.Map{"input_tokens": 1, "output_tokens": 1},
	}})
	send("content_block_start", harness.Map{"index": 0, "content_block": block})
	send("content_block_delta", harness.Map{"index": 0, "delta": delta})
	send("content_block_stop", harness.Map{"index": 0})
	send("message_delta", harness.Map{
		"delta": harness.Map{"stop_reason": end, "stop_sequence": nil}, "usage": harness.Map{"output_tokens": 1},
	})
	send("message_stop", harness.Map{})
}

func (m *model) has(tool string) bool {
	for _, name := range m.offered {
		if name == tool {
			return true
		}
	}
	return false
}

// toolsOf are those that a server has offered.
func (m *model) toolsOf(server string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var names []string
	for _, name := range m.offered {
		if tool, ok := strings.CutPrefix(name, "mcp__"+server+"__"); ok {
			names = append(names, tool)
		}
	}
	return names
}

// answered is what the tool answered.
func (m *model) answered() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.answer
}
