package gatewaytest

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// TaskServer is an MCP server of 2026-07-28 with the extension for tasks, written from the
// specification, since no SDK has such a server. It has the tools that the conformance
// suite's scenarios about tasks call. It cannot tell its clients apart, since to it all of
// them are the gateway, and it tells each listener about the end of every task.
//
// https://github.com/modelcontextprotocol/ext-tasks/blob/main/specification/draft/tasks.md
type TaskServer struct {
	mu      sync.Mutex
	tasks   map[string]*serverTask
	heard   []Heard
	changed chan struct{} // closed at the next change of any task
}

// Heard is a request that the server got.
type Heard struct {
	Method, TaskID string
	Header         http.Header
}

type serverTask struct {
	id, status string
	created    time.Time
	result     any
	failure    any
	pending    map[string]any // questions
	answers    map[string]json.RawMessage
	finish     func(answers map[string]json.RawMessage) any // the result after the answers to questions
}

// NewTaskServer returns a server without tasks. It is an http.Handler.
func NewTaskServer() *TaskServer {
	return &TaskServer{tasks: make(map[string]*serverTask), changed: make(chan struct{})}
}

// Requests returns the requests of that method that the server got.
func (s *TaskServer) Requests(method string) []Heard {
	s.mu.Lock()
	defer s.mu.Unlock()
	var of []Heard
	for _, h := range s.heard {
		if h.Method == method {
			of = append(of, h)
		}
	}
	return of
}

// IDs returns the server's own ids of its tasks.
func (s *TaskServer) IDs() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []string
	for id := range s.tasks {
		ids = append(ids, id)
	}
	return ids
}

type object = map[string]any

const (
	tasksExtension   = "io.modelcontextprotocol/tasks"
	metaCapabilities = "io.modelcontextprotocol/clientCapabilities"
)

// taskRequest is a client's request.
type taskRequest struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params struct {
		Name           string                     `json:"name"`
		Arguments      map[string]any             `json:"arguments"`
		TaskID         string                     `json:"taskId"`
		InputResponses map[string]json.RawMessage `json:"inputResponses"`
		Notifications  struct {
			TaskIDs []string `json:"taskIds"`
		} `json:"notifications"`
		Meta map[string]json.RawMessage `json:"_meta"`
	} `json:"params"`
}

// knowsTasks reports whether the client has declared the extension.
func (q *taskRequest) knowsTasks() bool {
	var c struct{ Extensions map[string]json.RawMessage }
	return json.Unmarshal(q.Params.Meta[metaCapabilities], &c) == nil && c.Extensions[tasksExtension] != nil
}

// failure is an answer with an error.
type failure struct {
	status, code int
	message      string
	data         any
}

func (f *failure) Error() string { return f.message }

var (
	needsTasks = &failure{400, -32021, "Missing required client capability", object{"requiredCapabilities": object{"extensions": object{tasksExtension: object{}}}}}
	noTask     = &failure{400, -32602, "Task not found", nil}
)

// ServeHTTP serves one request.
func (s *TaskServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var q taskRequest
	switch {
	case r.Method != http.MethodPost:
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	case json.NewDecoder(r.Body).Decode(&q) != nil:
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	s.heard = append(s.heard, Heard{q.Method, q.Params.TaskID, r.Header.Clone()})
	s.mu.Unlock()
	if len(q.ID) == 0 {
		w.WriteHeader(http.StatusAccepted)
		return
	}
	result, err := s.answer(&q, r)
	if q.Method == "subscriptions/listen" && err == nil {
		s.listen(w, r, &q)
		return
	}
	status, answer := http.StatusOK, object{"jsonrpc": "2.0", "id": q.ID, "result": result}
	if f, failed := err.(*failure); failed { //nolint:errorlint // the only kind
		status, answer = f.status, object{"jsonrpc": "2.0", "id": q.ID, "error": object{"code": f.code, "message": f.message, "data": f.data}}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer) // a client that is gone needs no answer
}

func (s *TaskServer) answer(q *taskRequest, r *http.Request) (any, error) {
	if r.Header.Get("Mcp-Protocol-Version") != "2026-07-28" {
		return nil, &failure{400, -32022, "Unsupported protocol version", object{"supported": []string{"2026-07-28"}, "requested": ""}}
	}
	name := q.Params.Name
	switch q.Method {
	case "tasks/get", "tasks/update", "tasks/cancel":
		name = q.Params.TaskID
	}
	if r.Header.Get("Mcp-Method") != q.Method || name != "" && r.Header.Get("Mcp-Name") != name {
		return nil, &failure{400, -32020, "Header mismatch", nil}
	}
	switch q.Method {
	case "server/discover":
		return object{
			"resultType": "complete", "supportedVersions": []string{"2026-07-28"}, "ttlMs": 0, "cacheScope": "private",
			"capabilities": object{"tools": object{}, "extensions": object{tasksExtension: object{}}},
			"serverInfo":   object{"name": "tasks", "version": "1"},
		}, nil
	case "tools/list":
		tools := []object{}
		for _, name := range []string{"greet", "slow_compute", "failing_job", "protocol_error_job", "confirm_delete", "multi_input", "test_tool_with_task"} {
			tools = append(tools, object{"name": name, "description": name, "inputSchema": object{"type": "object"}})
		}
		return object{"resultType": "complete", "tools": tools, "ttlMs": 0, "cacheScope": "private"}, nil
	case "tools/call":
		return s.call(q)
	case "tasks/get", "tasks/update", "tasks/cancel", "subscriptions/listen":
		if !q.knowsTasks() && (q.Method != "subscriptions/listen" || len(q.Params.Notifications.TaskIDs) > 0) {
			return nil, needsTasks
		}
		if q.Method == "subscriptions/listen" {
			return nil, nil
		}
		return s.about(q)
	}
	return nil, &failure{404, -32601, "Method not found", nil}
}

func textResult(text string) object {
	return object{"content": []object{{"type": "text", "text": text}}}
}

func complete(result object) object {
	result["resultType"] = "complete"
	return result
}

// call calls a tool. A task runs until its time, a cancellation, or the answers of its
// client.
func (s *TaskServer) call(q *taskRequest) (any, error) {
	seconds, _ := q.Params.Arguments["seconds"].(float64)
	wait := time.Duration(seconds * float64(time.Second))
	switch q.Params.Name {
	case "greet":
		return complete(textResult(fmt.Sprintf("Hello, %v!", q.Params.Arguments["name"]))), nil
	case "slow_compute":
		if !q.knowsTasks() || seconds == 0 {
			return complete(textResult("computed")), nil
		}
		return s.begin(wait, textResult("computed"), nil), nil
	case "failing_job", "protocol_error_job", "test_tool_with_task", "confirm_delete", "multi_input":
		if !q.knowsTasks() {
			return nil, needsTasks
		}
	default:
		return nil, &failure{400, -32602, "Unknown tool", nil}
	}
	switch q.Params.Name {
	case "failing_job":
		result := textResult("failed")
		result["isError"] = true
		return s.begin(time.Millisecond, result, nil), nil
	case "protocol_error_job":
		return s.begin(time.Millisecond, nil, object{"code": -32603, "message": "broken"}), nil
	case "confirm_delete":
		return s.asking(func(map[string]json.RawMessage) any { return textResult("deleted") }, "confirm"), nil
	case "multi_input":
		return s.asking(func(map[string]json.RawMessage) any { return textResult("done") }, "first", "second"), nil
	}
	raw, answered := q.Params.InputResponses["user_name"]
	if !answered {
		return object{"resultType": "input_required", "inputRequests": object{"user_name": question("name?")}}, nil
	}
	return s.begin(time.Millisecond, textResult("Hello, "+string(raw)), nil), nil
}

func question(message string) object {
	return object{"method": "elicitation/create", "params": object{
		"mode": "form", "message": message,
		"requestedSchema": object{"type": "object", "properties": object{"name": object{"type": "string"}}},
	}}
}

// begin begins a task that ends by itself.
func (s *TaskServer) begin(after time.Duration, result, failed any) object {
	t := &serverTask{id: "task-" + rand.Text(), status: "working", created: time.Now()}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tasks[t.id] = t
	time.AfterFunc(after, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if t.status != "working" {
			return
		}
		if t.status, t.result, t.failure = "completed", result, failed; failed != nil {
			t.status = "failed"
		}
		s.announce()
	})
	return t.opened()
}

// asking begins a task that ends with the answers to its questions.
func (s *TaskServer) asking(finish func(map[string]json.RawMessage) any, keys ...string) object {
	t := &serverTask{
		id: "task-" + rand.Text(), status: "input_required", created: time.Now(),
		pending: object{}, answers: make(map[string]json.RawMessage), finish: finish,
	}
	for _, key := range keys {
		t.pending[key] = question(key + "?")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tasks[t.id] = t
	return t.opened()
}

// announce wakes the listeners. s.mu is held.
func (s *TaskServer) announce() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// about serves a request about a task.
func (s *TaskServer) about(q *taskRequest) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tasks[q.Params.TaskID]
	if t == nil {
		return nil, noTask
	}
	switch q.Method {
	case "tasks/get":
		return complete(t.detailed()), nil
	case "tasks/cancel":
		if t.status == "working" || t.status == "input_required" {
			t.status, t.pending = "cancelled", nil
			s.announce()
		}
	default:
		for key, answer := range q.Params.InputResponses {
			if t.pending[key] != nil {
				delete(t.pending, key)
				t.answers[key] = answer
			}
		}
		if t.status == "input_required" && len(t.pending) == 0 {
			t.status, t.result = "completed", t.finish(t.answers)
			s.announce()
		}
	}
	return object{"resultType": "complete"}, nil
}

func (t *serverTask) seed() object {
	at := t.created.UTC().Format(time.RFC3339)
	return object{"taskId": t.id, "status": t.status, "createdAt": at, "lastUpdatedAt": at, "ttlMs": 3600000, "pollIntervalMs": 100}
}

func (t *serverTask) opened() object {
	seed := t.seed()
	seed["resultType"] = "task"
	return seed
}

func (t *serverTask) detailed() object {
	d := t.seed()
	switch t.status {
	case "completed":
		d["result"] = t.result
	case "failed":
		d["error"] = t.failure
	case "input_required":
		pending := object{}
		for key, value := range t.pending {
			pending[key] = value
		}
		d["inputRequests"] = pending
	}
	return d
}

// listen tells a client about the ends of tasks, also of those that it has not named.
func (s *TaskServer) listen(w http.ResponseWriter, r *http.Request, q *taskRequest) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.WriteHeader(http.StatusOK)
	send := func(method string, params object) {
		params["_meta"] = object{"io.modelcontextprotocol/subscriptionId": q.ID}
		text, _ := json.Marshal(object{"jsonrpc": "2.0", "method": method, "params": params}) // has a JSON form
		fmt.Fprintf(w, "event: message\ndata: %s\n\n", text)
		_ = http.NewResponseController(w).Flush() // a client that is gone needs none
	}
	s.mu.Lock()
	wanted, known := q.Params.Notifications.TaskIDs, []string{}
	said := map[string]string{}
	for _, id := range wanted {
		if t := s.tasks[id]; t != nil {
			known = append(known, id)
			said[id] = t.status
		}
	}
	changed := s.changed
	s.mu.Unlock()
	send("notifications/subscriptions/acknowledged", object{"notifications": object{"taskIds": known}})
	for {
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
		s.mu.Lock()
		changed = s.changed
		var news []object
		for _, t := range s.tasks { // also those that the client has not named: see the type
			if said[t.id] != t.status && t.status != "working" && t.status != "input_required" {
				said[t.id] = t.status
				news = append(news, t.detailed())
			}
		}
		s.mu.Unlock()
		for _, n := range news {
			send("notifications/tasks", n)
		}
	}
}
