package taskids

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// known is what the tests' client has: each task of which the id begins with "my", and each
// that is created now.
func known(id string, created bool) (string, bool, error) {
	switch {
	case id == "broken":
		return "", false, errors.New("no keys")
	case created:
		return "new:" + id, true, nil
	}
	return "sealed:" + id, strings.HasPrefix(id, "my"), nil
}

func TestAnswerReplacesIDs(t *testing.T) {
	tests := map[string]struct{ in, want string }{
		"a new task of 2025-11-25": {
			`{"jsonrpc":"2.0","id":1.0,"result":{"task":{"taskId":"a","ttl":12345678901234567890},"x":1}}`,
			`{"jsonrpc":"2.0","id":1.0,"result":{"task":{"taskId":"new:a","ttl":12345678901234567890},"x":1}}`,
		},
		"a new task of 2026-07-28": {
			`{"result":{"taskId":"a","status":"working","resultType":"task"}}`,
			`{"result":{"taskId":"new:a","status":"working","resultType":"task"}}`,
		},
		"a task's status": {
			`{"result":{"resultType":"complete","taskId" : "my\u0031","status":"working"}}`,
			`{"result":{"resultType":"complete","taskId" : "sealed:my1","status":"working"}}`,
		},
		"the status of another client's task": {`{"result":{"taskId":"other","status":"working"}}`, `{"result":{"taskId":"other","status":"working"}}`},
		"a list of tasks": {
			`{"result":{"tasks":[{"taskId":"other"}, {"status":"x","taskId":"my1"},{"taskId":"my2","taskID":"y"},{},5,{"taskId":7},{"taskId":"my3"}],"nextCursor":"c"}}`,
			`{"result":{"tasks":[{"status":"x","taskId":"sealed:my1"},{"taskId":"sealed:my3"}],"nextCursor":"c"}}`,
		},
		"a list of other clients' tasks": {`{"result":{"tasks":[{"taskId":"other"}]}}`, `{"result":{"tasks":[]}}`},
		"the result of a task": {
			`{"result":{"content":[{"type":"text","text":"taskId"}],"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"my1"},"taskId":"x"}}}`,
			`{"result":{"content":[{"type":"text","text":"taskId"}],"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"sealed:my1"},"taskId":"x"}}}`,
		},
		"a task's question": {
			`{"id":1,"method":"elicitation/create","params":{"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"my1"}}}}`,
			`{"id":1,"method":"elicitation/create","params":{"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"sealed:my1"}}}}`,
		},
		"a change of a task of 2025-11-25": {
			`{"params":{"taskId":"my1"},"method":"notifications/tasks/status"}`,
			`{"params":{"taskId":"sealed:my1"},"method":"notifications/tasks/status"}`,
		},
		"a change of a task of 2026-07-28": {
			`{"method":"notifications/tasks","params":{"taskId":"my1","result":{"taskId":"x"}}}`,
			`{"method":"notifications/tasks","params":{"taskId":"sealed:my1","result":{"taskId":"x"}}}`,
		},
		"a change of another client's task":                {`{"method":"notifications/tasks","params":{"taskId":"other","result":{}}}`, ``},
		"a change of another client's task, of 2025-11-25": {`{"method":"notifications\/tasks\/status","params":{"taskId":"other"}}`, ``},
		"a change of a task without a string":              {`{"method":"notifications/tasks","params":{"taskId":7}}`, ``},
		"tasks whose changes are sent": {
			`{"method":"notifications/subscriptions/acknowledged","params":{"notifications":{"taskIds":["my1","other",5,"my2"]}}}`,
			`{"method":"notifications/subscriptions/acknowledged","params":{"notifications":{"taskIds":["sealed:my1","sealed:my2"]}}}`,
		},
		"a request about a task of the client": {`{"id":1,"method":"tasks/get","params":{"taskId":"my1"}}`, `{"id":1,"method":"tasks/get","params":{"taskId":"my1"}}`},
		"structured content":                   {`{"result":{"structuredContent":{"taskId":"my1","tasks":[{"taskId":"x"}]}}}`, `{"result":{"structuredContent":{"taskId":"my1","tasks":[{"taskId":"x"}]}}}`},
		"another key of _meta":                 {`{"result":{"_meta":{"io.modelcontextprotocol/Related-Task":{"taskId":"my1"}}}}`, `{"result":{"_meta":{"io.modelcontextprotocol/Related-Task":{"taskId":"my1"}}}}`},
		"no task":                              {`{"result":{}} and more`, `{"result":{}} and more`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := Answer([]byte(test.in), known)
			require.NoError(t, err)
			require.Equal(t, test.want, string(got))
		})
	}
}

func TestAnswerRefusesWhatItCannotRead(t *testing.T) {
	for name, message := range map[string]string{
		"a message that is cut off":   `{"result":{"taskId":"a"`,
		"two ids":                     `{"result":{"taskId":"my1","TASKID":"my2"}}`,
		"two ids in a notification":   `{"method":"notifications/tasks","params":{"taskId":"my1","taskId":"other"}}`,
		"half a surrogate pair":       `{"result":{"taskId":"\ud800"}}`,
		"a task that cannot be named": `{"result":{"task":{"taskId":"broken"}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Answer([]byte(message), known)
			require.Error(t, err)
			require.Nil(t, got)
		})
	}
}

// FuzzAnswer holds that what a client gets is JSON, and that it tells nothing about tasks
// that are not its own in lists and notifications, under any reading of the keys.
func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{
		`{"result":{"tasks":[{"taskId":"other"},{"taskId":"my1"}]}}`,
		`{"method":"notifications/tasks","params":{"taskId":"other"}}`,
		`{"method":"notifications/subscriptions/acknowledged","params":{"notifications":{"taskIds":["my1","other"]}}}`,
		`{"result":{"task":{"taskId":"a"},"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"my1"}}}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		got, err := Answer(message, known)
		if err != nil || got == nil || !strings.Contains(string(message), "taskId") {
			return
		}
		var m struct {
			ID     any
			Method string
			Params struct {
				TaskID        any
				Notifications struct{ TaskIDs []any }
			}
			Result struct{ Tasks []struct{ TaskID any } }
		}
		if err := json.Unmarshal(got, &m); err != nil {
			if _, wrong := err.(*json.SyntaxError); wrong { //nolint:errorlint // as it comes
				t.Fatalf("%q became %q: %v", message, got, err)
			}
			return // of another type than the protocol's
		}
		for _, task := range m.Result.Tasks {
			if id, ok := task.TaskID.(string); !ok || !strings.HasPrefix(id, "sealed:my") {
				t.Fatalf("%q became %q", message, got)
			}
		}
	})
}
