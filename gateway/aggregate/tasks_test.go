package aggregate

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/gatewaytest"
	"vault-plugin-secrets-mcp/gateway/grants/grantstest"
)

// withTasks is a stage with two servers that have tasks. carol may reach both, as alice may.
func withTasks(t *testing.T) (s *stage, jobs, other *gatewaytest.TaskServer) {
	t.Helper()
	jobs, other = gatewaytest.NewTaskServer(), gatewaytest.NewTaskServer()
	urls := map[string]string{}
	for name, server := range map[string]*gatewaytest.TaskServer{"jobs": jobs, "other": other} {
		at := httptest.NewServer(server)
		t.Cleanup(at.Close)
		urls[name] = at.URL
	}
	s = newStage(t, urls)
	s.vault.AddToken(carol, "carol", nil)
	return s, jobs, other
}

const carol = "carol-token-0123456789"

// declaring is a request without a session of a client that knows tasks.
func declaring(method, params string) (body string, pairs []string) {
	body, pairs = stateless("1", method, params)
	body = strings.Replace(body, `clientCapabilities":{}`, `clientCapabilities":{"extensions":{"io.modelcontextprotocol/tasks":{}}}`, 1)
	var p struct{ Params struct{ TaskID string } }
	_ = json.Unmarshal([]byte(body), &p)
	if p.Params.TaskID != "" {
		pairs = append(pairs, "Mcp-Name", p.Params.TaskID)
	}
	return body, pairs
}

func (s *stage) tasks(method, params string, more ...string) got {
	s.t.Helper()
	body, pairs := declaring(method, params)
	return s.ask(body, append(pairs, more...)...)
}

// task begins a task by a call, and returns its id.
func (s *stage) task(tool, arguments string, more ...string) string {
	s.t.Helper()
	g := s.tasks("tools/call", fmt.Sprintf(`"name":%q,"arguments":%s`, tool, arguments), more...)
	var m struct {
		Result struct{ ResultType, TaskID string }
	}
	require.NoError(s.t, json.Unmarshal([]byte(g.message()), &m), g.body)
	require.Equal(s.t, "task", m.Result.ResultType, g.body)
	return m.Result.TaskID
}

const minute = `{"seconds":60}`

func TestATaskIsCarriedToItsServerAndBack(t *testing.T) {
	s, jobs, other := withTasks(t)
	id := s.task("jobs__slow_compute", minute)
	require.Regexp(t, `^jobs__[A-Za-z0-9_-]+$`, id)
	own := jobs.IDs()
	require.NotContains(t, id, own[0])

	g := s.tasks("tasks/get", fmt.Sprintf(`"taskId":%q`, id))
	require.Equal(t, http.StatusOK, g.status, g.body)
	require.Contains(t, g.body, fmt.Sprintf(`"taskId":%q`, id), "the client hears the id that it knows")
	require.Contains(t, g.body, `"status":"working"`)
	heard := jobs.Requests("tasks/get")
	require.Equal(t, own[0], heard[0].TaskID)
	require.Equal(t, own[0], heard[0].Header.Get("Mcp-Name"))

	g = s.tasks("tasks/cancel", fmt.Sprintf(`"taskId":%q`, id))
	require.Contains(t, g.body, `"resultType":"complete"`)
	require.Contains(t, s.tasks("tasks/get", fmt.Sprintf(`"taskId":%q`, id)).body, `"status":"cancelled"`)
	require.Empty(t, other.Requests("tasks/get"))
}

func TestATaskAsksAndIsAnswered(t *testing.T) {
	s, _, _ := withTasks(t)
	id := s.task("jobs__confirm_delete", `{}`)
	require.Contains(t, s.tasks("tasks/get", fmt.Sprintf(`"taskId":%q`, id)).body, `"inputRequests":{"confirm"`)
	g := s.tasks("tasks/update", fmt.Sprintf(`"taskId":%q,"inputResponses":{"confirm":{"action":"accept"}}`, id))
	require.Contains(t, g.body, `"resultType":"complete"`, g.body)
	require.Contains(t, s.tasks("tasks/get", fmt.Sprintf(`"taskId":%q`, id)).body, `"text":"deleted"`)
}

func TestATaskBelongsToItsClientAndItsServer(t *testing.T) {
	s, jobs, other := withTasks(t)
	id := s.task("jobs__slow_compute", minute)
	sealed := strings.TrimPrefix(id, "jobs__")
	own := jobs.IDs()[0]
	const refusal = `"error":{"code":-32602,"message":"This task is not available to this client."`
	at := func(server string) []string { return []string{":path", "/servers/" + server + "/mcp"} }
	tests := map[string]struct {
		id   string
		more []string
	}{
		"no id":                                           {"", nil},
		"a forged id":                                     {"jobs__" + flipped(sealed), nil},
		"an id with padding":                              {"jobs__" + sealed + "=", nil},
		"another client's id":                             {id, []string{":token", carol}},
		"the server's own id":                             {"jobs__" + own, nil},
		"an id without a server":                          {sealed, nil},
		"an id that is too long":                          {"jobs__" + strings.Repeat("A", 10_000), nil},
		"the id of another server":                        {"other__" + sealed, nil},
		"a forged id at the server itself":                {flipped(sealed), at("jobs")},
		"an id of a server that is not there":             {"nowhere__" + sealed, nil},
		"another client's id at the server itself":        {sealed, append(at("jobs"), ":token", carol)},
		"the server's own id at the server itself":        {own, at("jobs")},
		"an id of all servers at the server itself":       {id, at("jobs")},
		"the id of another server at the server itself":   {sealed, at("other")},
		"an id of a server that the client may not reach": {id, []string{":token", bob}},
	}
	for name, test := range tests {
		for _, method := range []string{"tasks/get", "tasks/update", "tasks/cancel"} {
			t.Run(name+", "+method, func(t *testing.T) {
				g := s.tasks(method, fmt.Sprintf(`"taskId":%q,"inputResponses":{}`, test.id), test.more...)
				require.Equal(t, http.StatusOK, g.status, g.body)
				require.Contains(t, g.body, refusal)
			})
		}
	}
	require.Empty(t, jobs.Requests("tasks/get"))
	require.Empty(t, jobs.Requests("tasks/cancel"))
	require.Empty(t, other.Requests("tasks/get"))

	g := s.tasks("tasks/get", fmt.Sprintf(`"taskId":%q`, sealed), ":path", "/servers/jobs/mcp")
	require.Contains(t, g.body, fmt.Sprintf(`"taskId":%q`, sealed), "its own client has it on both ways")
}

// flipped is a sealed id with one letter changed.
func flipped(sealed string) string {
	letter := "A"
	if sealed[60] == 'A' {
		letter = "B"
	}
	return sealed[:60] + letter + sealed[61:]
}

func TestATaskOfADeniedToolIsOver(t *testing.T) {
	s, jobs, _ := withTasks(t)
	rules := func(tools ...string) {
		s.vault.AddToken(dave, "dave", grantstest.Data{"allowed_tools": tools})
	}
	rules("jobs/slow_compute", "jobs/confirm_delete")
	id := s.task("jobs__slow_compute", minute, ":token", dave)
	status := func() string { return s.tasks("tasks/get", fmt.Sprintf(`"taskId":%q`, id), ":token", dave).body }
	require.Contains(t, status(), `"status":"working"`, "rules about tools do not keep a client from the task of a tool that it may call")
	require.Contains(t, s.tasks("tools/call", `"name":"jobs__failing_job"`, ":token", dave).body, "This tool is not available")
	require.Len(t, jobs.IDs(), 1)

	rules("jobs/confirm_delete")
	gatewaytest.Eventually(t, "the task to be over", func() bool { return strings.Contains(status(), "This task is not available") })
	rules("jobs/slow_compute")
	gatewaytest.Eventually(t, "the task to be there again", func() bool { return strings.Contains(status(), `"status":"working"`) })
}

const dave = "dave-token-0123456789"

func TestAClientWithoutTheExtensionHasNoTasks(t *testing.T) {
	s, jobs, _ := withTasks(t)
	id := s.task("jobs__slow_compute", minute)
	for name, task := range map[string]string{"its own": id, "none": "x"} {
		t.Run(name, func(t *testing.T) {
			body, pairs := stateless("1", "tasks/get", fmt.Sprintf(`"taskId":%q`, task))
			g := s.ask(body, append(pairs, "Mcp-Name", task)...)
			require.Equal(t, http.StatusBadRequest, g.status)
			require.Contains(t, g.body, `"code":-32021`)
			require.Contains(t, g.body, `"requiredCapabilities":{"extensions":{"io.modelcontextprotocol/tasks":{}}}`)
		})
	}
	g := s.asks("1", "tools/call", `"name":"jobs__slow_compute","arguments":{"seconds":60}`)
	require.Contains(t, g.body, `"resultType":"complete"`, "the server is told what the client knows")
	require.Len(t, jobs.IDs(), 1)
}

func TestMethodsOfTasksThatHaveEndedAreUnknown(t *testing.T) {
	s, _, _ := withTasks(t)
	for _, path := range []string{"/mcp", "/servers/jobs/mcp"} {
		for _, method := range []string{"tasks/list", "tasks/result"} {
			body, pairs := declaring(method, "")
			g := s.ask(body, append(pairs, ":path", path)...)
			require.Equal(t, http.StatusNotFound, g.status, g.body)
			require.Contains(t, g.body, `"code":-32601`)
		}
	}
}

func TestTheExtensionsOfAllServersAreDeclared(t *testing.T) {
	s, _, _ := withTasks(t)
	require.Contains(t, s.asks("1", "server/discover", "").body, `"extensions":{"io.modelcontextprotocol/tasks":{}}`)
}

// TestNoTasksAreDeclaredAcrossTheEras: a client is promised only tasks that are carried.
func TestNoTasksAreDeclaredAcrossTheEras(t *testing.T) {
	s, _, _ := withTasks(t)
	require.Contains(t, s.asks("1", "server/discover", "").body, "tasks")
	require.NotContains(t, s.ask(initOnce).body, "tasks", "a client with a session, servers without")

	up := newFake(t, func(w http.ResponseWriter, _ *http.Request, method, body string) {
		if method != "initialize" {
			w.WriteHeader(http.StatusAccepted)
			return
		}
		reply(w, body, `{"protocolVersion":"2025-11-25","capabilities":{"tools":{},"tasks":{"requests":{"tools":{"call":{}}}},"extensions":{"io.modelcontextprotocol/tasks":{}}},"serverInfo":{"name":"up","version":"1"}}`)
	})
	old := newStage(t, map[string]string{"old": up.URL})
	require.NotContains(t, old.asks("1", "server/discover", "").body, "tasks", "a client without a session, a server with")
	g := old.ask(initOnce)
	require.Contains(t, g.body, `"tasks":{"requests":{"tools":{"call":{}}}}`)
	require.NotContains(t, g.body, "io.modelcontextprotocol/tasks")
}

// nextEvent returns the next event with the text, which must be one of the next few.
func nextEvent(t *testing.T, events *bufio.Scanner, text string) string {
	t.Helper()
	for events.Scan() {
		if strings.Contains(events.Text(), text) {
			return events.Text()
		}
	}
	t.Fatalf("the stream ended without %s: %v", text, events.Err())
	return ""
}

func TestAClientHearsOfItsOwnTasksAlone(t *testing.T) {
	s, _, _ := withTasks(t)
	mine, hers := s.task("jobs__slow_compute", minute), s.task("jobs__slow_compute", minute, ":token", carol)
	body, pairs := declaring("subscriptions/listen", fmt.Sprintf(`"notifications":{"taskIds":[%q,%q,"jobs__x","x"]}`, mine, hers))
	stream, err := s.do(body, pairs...)
	require.NoError(t, err)
	defer stream.Body.Close()
	events := bufio.NewScanner(stream.Body)
	require.Contains(t, nextEvent(t, events, "acknowledged"), fmt.Sprintf(`"taskIds":[%q`, mine))
	s.tasks("tasks/cancel", fmt.Sprintf(`"taskId":%q`, hers), ":token", carol)
	s.tasks("tasks/cancel", fmt.Sprintf(`"taskId":%q`, mine))
	event := nextEvent(t, events, `"notifications/tasks"`)
	require.Contains(t, event, fmt.Sprintf(`"taskId":%q`, mine), "the server tells about both, and hers was the first")
	require.Contains(t, event, `"status":"cancelled"`)

	body, pairs = stateless("1", "subscriptions/listen", fmt.Sprintf(`"notifications":{"taskIds":[%q]}`, mine))
	require.Contains(t, s.ask(body, pairs...).body, `"code":-32021`)
}

// TestWaitingForATaskEndsWithTheRightToItsTool: the result is not handed out to a request that was there
// before the tool was denied.
func TestWaitingForATaskEndsWithTheRightToItsTool(t *testing.T) {
	ended := make(chan struct{}, 1)
	up := newFake(t, func(w http.ResponseWriter, r *http.Request, method, body string) {
		switch method {
		case "initialize":
			w.Header().Set("Mcp-Session-Id", "s")
			reply(w, body, `{"protocolVersion":"2025-11-25","capabilities":{"tools":{},"tasks":{"requests":{"tools":{"call":{}}}}},"serverInfo":{"name":"up","version":"1"}}`)
		case "tools/call":
			reply(w, body, `{"task":{"taskId":"own-1","status":"working"}}`)
		case "tasks/result":
			<-r.Context().Done()
			ended <- struct{}{}
		default:
			w.WriteHeader(http.StatusAccepted)
		}
	})
	s := newStage(t, map[string]string{"jobs": up.URL})
	rules := func(tool string) {
		s.vault.AddToken(dave, "dave", grantstest.Data{"allowed_tools": []string{"jobs/" + tool}})
		s.vault.WriteClient("dave")
	}
	rules("slow")
	session := s.open(dave)
	g := s.ask(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"jobs__slow","arguments":{},"task":{}}}`, session...)
	_, id, _ := strings.Cut(g.message(), `"taskId":"`)
	id, _, _ = strings.Cut(id, `"`)
	require.Contains(t, id, "jobs__", g.body)
	answer := make(chan got, 1)
	go func() {
		answer <- s.ask(fmt.Sprintf(`{"jsonrpc":"2.0","id":2,"method":"tasks/result","params":{"taskId":%q}}`, id), session...)
	}()
	gatewaytest.Eventually(t, "the client to wait", func() bool { return len(up.sent("tasks/result")) == 1 })
	rules("other")
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("the client still waits for the result")
	}
	require.Contains(t, await(t, answer).message(), `"error"`)
}
