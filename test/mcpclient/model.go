package mcpclient

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// Step is a tool that a model has called.
type Step struct {
	Tool      string
	Arguments map[string]any
	// Before runs before the model calls it. It may be nil.
	Before func()
}

// Model replaces Anthropic's model for Claude Code. It calls tools, one after the other.
// It remembers the tools that it was offered, and their answers.
type Model struct {
	*httptest.Server
	steps []Step

	mu      sync.Mutex
	offered []string
	begun   int // the number of steps begun
	answers []string
}

// NewModel starts a model with these steps.
func NewModel(t *testing.T, steps ...Step) *Model {
	t.Helper()
	m := &Model{steps: steps}
	m.Server = httptest.NewServer(http.HandlerFunc(m.serve))
	t.Cleanup(m.Close)
	return m
}

// Tools are those of its steps, as Claude Code's --allowedTools takes them.
func (m *Model) Tools() string {
	var names []string
	for _, step := range m.steps {
		names = append(names, step.Tool)
	}
	return strings.Join(names, ",")
}

// serve is POST /v1/messages of https://docs.claude.com/en/api/messages-streaming.
func (m *Model) serve(w http.ResponseWriter, r *http.Request) {
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
	for _, message := range ask.Messages {
		var parts []struct {
			Type      string
			ToolUseID string `json:"tool_use_id"`
			Content   json.RawMessage
		}
		// A text alone is neither a list of parts nor a result.
		if json.Unmarshal(message.Content, &parts) != nil {
			continue
		}
		for _, part := range parts {
			if part.Type == "tool_result" && part.ToolUseID == fmt.Sprint("toolu_", len(m.answers)) {
				m.answers = append(m.answers, string(part.Content))
			}
		}
	}
	w.Header().Set("Content-Type", "text/event-stream")
	type object = map[string]any
	send := func(event string, data object) {
		data["type"] = event
		text, err := json.Marshal(data)
		if err == nil {
			_, _ = fmt.Fprintf(w, "event: %s\ndata: %s\n\n", event, text)
		}
	}
	block, delta, end := object{"type": "text", "text": ""}, object{"type": "text_delta", "text": "Done."}, "end_turn"
	// A repeated request for a step gets the same answer.
	if next := len(m.answers); next < len(m.steps) && m.has(m.steps[next].Tool) {
		step := m.steps[next]
		if m.begun == next {
			m.begun++
			if step.Before != nil {
				step.Before()
			}
		}
		arguments, err := json.Marshal(step.Arguments)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		block = object{"type": "tool_use", "id": fmt.Sprint("toolu_", next), "name": step.Tool, "input": object{}}
		delta = object{"type": "input_json_delta", "partial_json": string(arguments)}
		end = "tool_use"
	}
	send("message_start", object{"message": object{
		"id": "msg_1", "type": "message", "role": "assistant", "model": ask.Model, "content": []any{},
		"stop_reason": nil, "stop_sequence": nil, "usage": object{"input_tokens": 1, "output_tokens": 1},
	}})
	send("content_block_start", object{"index": 0, "content_block": block})
	send("content_block_delta", object{"index": 0, "delta": delta})
	send("content_block_stop", object{"index": 0})
	send("message_delta", object{
		"delta": object{"stop_reason": end, "stop_sequence": nil}, "usage": object{"output_tokens": 1},
	})
	send("message_stop", object{})
}

func (m *Model) has(tool string) bool {
	for _, name := range m.offered {
		if name == tool {
			return true
		}
	}
	return false
}

// ToolsOf are the tools that a server has offered.
func (m *Model) ToolsOf(server string) []string {
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

// Answers are the answers of the tools, one for each step taken.
func (m *Model) Answers() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string(nil), m.answers...)
}

// Answered is the answer of the last tool; "" for none.
func (m *Model) Answered() string {
	if answers := m.Answers(); len(answers) > 0 {
		return answers[len(answers)-1]
	}
	return ""
}
