package clients

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
	session "vault-plugin-secrets-mcp/test/stage"
)

// TestTasksOfTheSDKAreCarried: server-everything has tasks of 2025-11-25, as the official
// TypeScript SDK makes them.
func TestTasksOfTheSDKAreCarried(t *testing.T) {
	s := newStage(t)
	s.Write("mcp/servers/everything", harness.Map{"transport": "http", "url": s.startEverything(t, "streamableHttp") + "/mcp"})
	s.Write("mcp/servers/child", s.onStdio(t, server{name: "everything"}, nil, "stdio").registration)
	both := harness.Map{"allowed_servers": "everything,child"}
	token, other := s.CreateClient("owner", both), s.CreateClient("other", both)
	s.introduce(t, token, "everything", "child")
	s.introduce(t, other, "everything", "child")
	const tool = "simulate-research-query"
	for name, way := range map[string]struct{ url, tool, id string }{
		"at the server's own endpoint":    {s.gateway.ServerURL("everything"), tool, `[A-Za-z0-9_-]{80,}`},
		"on stdio":                        {s.gateway.ServerURL("child"), tool, `[A-Za-z0-9_-]{80,}`},
		"as one of many servers":          {s.gateway.URL + "/mcp", "everything__" + tool, `everything__[A-Za-z0-9_-]{80,}`},
		"on stdio as one of many servers": {s.gateway.URL + "/mcp", "child__" + tool, `child__[A-Za-z0-9_-]{80,}`},
	} {
		t.Run(name, func(t *testing.T) {
			s := s.in(t)
			t.Parallel()
			ask := func(token string) func(method, params string) string {
				id := session.OpenSession(t, s.Harness, way.url, token)
				return func(method, params string) string {
					got := s.Do(http.MethodPost, way.url, token, session.InSession(id),
						fmt.Sprintf(`{"jsonrpc":"2.0","id":7,"method":%q,"params":{%s}}`, method, params))
					require.Equal(t, http.StatusOK, got.Status, got.Body)
					return got.Body
				}
			}
			mine, theirs := ask(token), ask(other)
			begun := mine("tools/call", fmt.Sprintf(`"name":%q,"arguments":{"topic":"vaults"},"task":{"ttl":60000}`, way.tool))
			found := regexp.MustCompile(`"task":\{"taskId":"(` + way.id + `)"`).FindStringSubmatch(begun)
			require.NotNil(t, found, begun)
			task := fmt.Sprintf(`"taskId":%q`, found[1])

			require.Contains(t, mine("tasks/get", task), task)
			require.Contains(t, mine("tasks/list", ""), task)
			for _, method := range []string{"tasks/get", "tasks/result", "tasks/cancel"} {
				require.Contains(t, theirs(method, task), "This task is not available to this client.")
			}
			require.NotContains(t, theirs("tasks/list", ""), "taskId")
			result := mine("tasks/result", task) // waits until the task is complete
			require.Contains(t, result, "vaults")
			require.Contains(t, result, `"io.modelcontextprotocol/related-task":{`+task+`}`)
			require.Contains(t, strings.ReplaceAll(mine("tasks/get", task), `" : "`, `":"`), `"status":"completed"`)
		})
	}
}
