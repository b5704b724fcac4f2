package mcp

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/gatewaytest"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/mcp/session"
)

// newTask is a call that begins a task of 2025-11-25.
const newTask = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"slow","arguments":{},"task":{"ttl":1000}}}`

// taskUpstream is a server of 2025-11-25 with tasks, whose next answer the test sets.
type taskUpstream struct {
	*gatewaytest.Upstream
	answer string // a message, or events
}

func newTaskUpstream(t *testing.T) *taskUpstream {
	t.Helper()
	u := &taskUpstream{answer: `{"jsonrpc":"2.0","id":1,"result":{"task":{"taskId":"own-1","status":"working"}}}`}
	u.Upstream = gatewaytest.NewUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
		if strings.HasPrefix(u.answer, "data:") {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = w.Write([]byte(u.answer))
			return
		}
		gatewaytest.Reply(w, u.answer)
	})
	return u
}

// begin begins a task as the client, and returns the id that the client gets.
func (u *taskUpstream) begin(t *testing.T, g *gateway, client, own string) string {
	t.Helper()
	u.answer = fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"result":{"task":{"taskId":%q,"status":"working"}}}`, own)
	got := g.Ask(t, newTask, ":token", client)
	var m struct {
		Result struct{ Task struct{ TaskID string } }
	}
	require.NoError(t, json.Unmarshal([]byte(got.Body), &m), got.Body)
	require.NotContains(t, got.Body, own)
	return m.Result.Task.TaskID
}

func about(method, id string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":%q,"params":{"taskId":%q}}`, method, id)
}

func TestTasksOfSessionsAreSealed(t *testing.T) {
	up := newTaskUpstream(t)
	g := newGateway(t, testConfig(), registration(up.Upstream))
	id := up.begin(t, g, "alice", "own-1")
	for _, method := range []string{"tasks/get", "tasks/result", "tasks/cancel", "tasks/to-come"} {
		up.answer = `{"jsonrpc":"2.0","id":1,"result":{"taskId":"own-1","status":"working","_meta":{"io.modelcontextprotocol/related-task":{"taskId":"own-1"}}}}`
		got := g.Ask(t, about(method, id))
		require.Equal(t, strings.ReplaceAll(up.answer, "own-1", id), got.Body, "the client hears the id that it knows")
		_, sent := up.Last()
		require.Equal(t, about(method, "own-1"), sent)
	}
	before := up.Count()
	for name, ask := range map[string]func() gatewaytest.Answer{
		"the server's own id": func() gatewaytest.Answer { return g.Ask(t, about("tasks/result", "own-1")) },
		"another client's":    func() gatewaytest.Answer { return g.Ask(t, about("tasks/result", id), ":token", "bob") },
		"a method to come":    func() gatewaytest.Answer { return g.Ask(t, about("tasks/to-come", "own-1")) },
		"a notification": func() gatewaytest.Answer {
			return g.Ask(t, strings.Replace(about("tasks/cancel", "own-1"), `"id":1,`, "", 1))
		},
		"a number": func() gatewaytest.Answer {
			return g.Ask(t, `{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"taskId":5}}`)
		},
		"no id": func() gatewaytest.Answer { return g.Ask(t, `{"jsonrpc":"2.0","id":1,"method":"tasks/get"}`) },
		"a key in capitals beside it": func() gatewaytest.Answer {
			return g.Ask(t, strings.Replace(about("tasks/get", id), "{\"taskId", "{\"TASKID\":\"own-1\",\"taskId", 1))
		},
		"a request that belongs to it": func() gatewaytest.Answer { return g.Ask(t, related("own-1")) },
	} {
		t.Run(name, func(t *testing.T) {
			got := ask()
			require.NotContains(t, got.Body, "result")
			require.Equal(t, before, up.Count(), "the server was touched")
		})
	}
	require.Equal(t, http.StatusOK, g.Ask(t, related(id)).Status)
	_, sent := up.Last()
	require.Equal(t, related("own-1"), sent)
}

func related(id string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":{"io.modelcontextprotocol/related-task":{"taskId":%q}}}}`, id)
}

func TestAListHasTheClientsOwnTasks(t *testing.T) {
	up := newTaskUpstream(t)
	g := newGateway(t, testConfig(), registration(up.Upstream))
	mine, bobs := up.begin(t, g, "alice", "own-1"), up.begin(t, g, "bob", "own-2")
	list := func(client string) string {
		up.answer = `{"jsonrpc":"2.0","id":1,"result":{"tasks":[{"taskId":"own-1"},{"taskId":"own-2"},{"taskId":"own-3"}]}}`
		return g.Ask(t, `{"jsonrpc":"2.0","id":1,"method":"tasks/list"}`, ":token", client).Body
	}
	require.Equal(t, fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"result":{"tasks":[{"taskId":%q}]}}`, mine), list("alice"))
	require.Equal(t, fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"result":{"tasks":[{"taskId":%q}]}}`, bobs), list("bob"))

	g.tasks.known = newTaskTable() // as at another gateway
	require.Contains(t, list("alice"), `"tasks":[]`)
	up.answer = `{"jsonrpc":"2.0","id":1,"result":{"taskId":"own-1"}}`
	require.Contains(t, g.Ask(t, about("tasks/get", mine)).Body, mine, "any gateway opens it")
	require.Contains(t, list("alice"), mine)
}

func TestAStreamTellsOfTheClientsOwnTasks(t *testing.T) {
	up := newTaskUpstream(t)
	g := newGateway(t, testConfig(), registration(up.Upstream))
	mine := up.begin(t, g, "alice", "own-1")
	up.begin(t, g, "bob", "own-2")
	event := func(method, params string) string {
		return fmt.Sprintf("data: {\"jsonrpc\":\"2.0\",\"method\":%q,\"params\":%s}\n\n", method, params)
	}
	up.answer = event("notifications/tasks/status", `{"taskId":"own-2","status":"completed"}`) +
		event("notifications/tasks/status", `{"taskId":"own-1","status":"working"}`) +
		event("notifications/progress", `{"progressToken":1,"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"own-1"}}}`)
	want := strings.ReplaceAll(up.answer[strings.Index(up.answer, "\n\n")+2:], "own-1", mine)
	got := g.Ask(t, "", ":method", "GET", "Mcp-Session-Id", sealID(t, g, "alice", "s"))
	require.Equal(t, want, got.Body)
}

func TestTasksOutliveARotationOfKeysAndEndWithTheirKey(t *testing.T) {
	up := newTaskUpstream(t)
	g := newGateway(t, testConfig(), registration(up.Upstream))
	first := up.begin(t, g, "alice", "own-1")
	status := func(id string) string {
		up.answer = `{"jsonrpc":"2.0","id":1,"result":{"taskId":"own-1"}}`
		return g.Ask(t, about("tasks/get", id)).Body
	}
	keys := func(current int, versions ...int) *grants.SessionKeys {
		k := &grants.SessionKeys{Current: current, Keys: map[int][32]byte{}, MountID: "mount"}
		for _, v := range versions {
			k.Keys[v] = [32]byte{byte(v)}
		}
		return k
	}
	set := func(k *grants.SessionKeys) {
		g.registry.mu.Lock()
		defer g.registry.mu.Unlock()
		g.registry.keys = k
	}
	set(keys(2, 1, 2))
	require.Contains(t, status(first), first, "an id from before the rotation")
	second := up.begin(t, g, "alice", "own-9")
	set(keys(2, 2))
	require.Contains(t, status(first), "This task is not available", "its key was dropped")
	up.answer = `{"jsonrpc":"2.0","id":1,"result":{"taskId":"own-9"}}`
	require.Contains(t, g.Ask(t, about("tasks/get", second)).Body, second)

	set(keys(1, 1)) // a gateway that has not heard of the newer key
	g.registry.refresh = func() (*grants.SessionKeys, error) { return keys(2, 1, 2), nil }
	require.Contains(t, g.Ask(t, about("tasks/get", second)).Body, second)
	set(nil)
	g.registry.refresh = nil
	got := g.Ask(t, about("tasks/get", second))
	require.Equal(t, http.StatusServiceUnavailable, got.Status)
	other := keys(2, 1, 2)
	other.MountID = "another mount"
	set(other)
	require.Contains(t, status(second), "This task is not available")
}

func TestATaskOfAnotherRegistrationIsNobodys(t *testing.T) {
	up := newTaskUpstream(t)
	g := newGateway(t, testConfig(), registration(up.Upstream))
	id := up.begin(t, g, "alice", "own-1")
	again := *registration(up.Upstream)
	again.ID = "registration-2"
	g.registry.put(&again)
	require.Contains(t, g.Ask(t, about("tasks/get", id)).Body, "This task is not available")
}

func TestAnIDThatIsTooLongIsNotPassedOn(t *testing.T) {
	up := newTaskUpstream(t)
	g := newGateway(t, testConfig(), registration(up.Upstream))
	up.answer = fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"result":{"task":{"taskId":%q}}}`, strings.Repeat("x", maxTaskID+1))
	require.Equal(t, http.StatusBadGateway, g.Ask(t, newTask).Status)
	require.Contains(t, up.begin(t, g, "alice", strings.Repeat("y", 3000)), "A")
}

func TestTheTableOfTasksIsBounded(t *testing.T) {
	table := newTaskTable()
	table.most, table.mostEach = 5*600, 3*600
	owner := func(client string) session.Owner {
		return session.Owner{Principal: grants.PrincipalOf(client), ServerID: "s"}
	}
	has := func(client, id string) bool {
		_, ok := table.find(owner(client), id)
		return ok
	}
	for i := range 100 {
		table.note(owner("a"), fmt.Sprint(i), clientTask{"text", "tool"})
	}
	require.True(t, has("a", "99"))
	require.False(t, has("a", "1"))
	require.LessOrEqual(t, table.bytes, 3*600)
	for i := range 100 {
		table.note(owner(fmt.Sprint("c", i)), "x", clientTask{"text", "tool"})
	}
	require.LessOrEqual(t, table.bytes, 5*600)
	require.Len(t, table.of, len(table.byID))
	require.True(t, has("c99", "x"))
	require.False(t, has("a", "99"), "the one that was unused for the longest time goes first")
	require.False(t, has("c98", "y"))
	table.note(owner("c99"), "x", clientTask{"other", "tool"})
	found, _ := table.find(owner("c99"), "x")
	require.Equal(t, "other", found.text)
}

func TestOtherCallsAreNotReadForTasks(t *testing.T) {
	large := `{"jsonrpc":"2.0","id":1,"result":{"task":{"taskId":"own-1"},"content":[{"type":"text","text":"` + strings.Repeat("x", 2<<20) + `"}]}}`
	up := newTaskUpstream(t)
	g := newGateway(t, testConfig(), registration(up.Upstream))
	up.answer = large
	for name, params := range map[string]string{
		"an argument of that name":      `{"name":"slow","arguments":{"task":{"ttl":1}}}`,
		"the extension in an argument":  `{"name":"slow","arguments":{"x":"io.modelcontextprotocol/tasks"}}`,
		"a call that does not name any": `{"name":"slow"}`,
	} {
		t.Run(name, func(t *testing.T) {
			got := g.Ask(t, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":`+params+`}`)
			require.Equal(t, large, got.Body, "an answer beyond max_list passes as it comes")
		})
	}
}

// TestATaskOfAToolThatIsNotKnownIsDenied: a response that comes late, on another stream, does not say
// which tool was called.
func TestATaskOfAToolThatIsNotKnownIsDenied(t *testing.T) {
	up := newTaskUpstream(t)
	g := newGateway(t, testConfig(), registration(up.Upstream))
	up.answer = "data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"task\":{\"taskId\":\"own-1\"}}}\n\n"
	got := g.Ask(t, "", ":method", "GET", "Mcp-Session-Id", sealID(t, g, "alice", "s"), "Last-Event-ID", "1")
	_, id, _ := strings.Cut(got.Body, `"taskId":"`)
	id, _, _ = strings.Cut(id, `"`)
	up.answer = `{"jsonrpc":"2.0","id":1,"result":{"taskId":"own-1","status":"working"}}`
	require.Contains(t, g.Ask(t, about("tasks/get", id)).Body, `"status":"working"`, "without rules")
	g.grants["alice"] = grant(t, "alice", nil, []string{"up/slow"})
	require.Contains(t, g.Ask(t, about("tasks/get", id)).Body, `"code":-32602,"message":"This task is not available`)
	g.grants["alice"] = grantWith(t, "alice", docs)
	require.Contains(t, g.Ask(t, about("tasks/get", id)).Body, `"status":"working"`, "rules about other things")
}
