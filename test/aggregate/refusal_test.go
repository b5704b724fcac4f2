package aggregate

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/stage"
)

// TestAServerThatIsNotAllowedIsLikeNoneAmongAll asks /mcp for items of a server that
// the client may not reach, and of one that is not registered.
func TestAServerThatIsNotAllowedIsLikeNoneAmongAll(t *testing.T) {
	s := stage.New(t, harness.GatewayOptions{})
	s.At = stage.Aggregate
	token := s.Client("cursor", nil)
	s.Works(t, token)
	session := stage.InSession(stage.OpenSession(t, s.Harness, s.URL(stage.Calculator), token))

	// In each message S stands for the server.
	messages := map[string]string{
		"tools/call":          `"name":"S__add","arguments":{"a":1,"b":2}`,
		"prompts/get":         `"name":"S__p"`,
		"resources/read":      `"uri":"mcp://S/a:b"`,
		"resources/subscribe": `"uri":"mcp://S/a:b"`,
		"completion/complete": `"ref":{"type":"ref/prompt","name":"S__p"},"argument":{"name":"x","value":"y"}`,
	}
	for method, params := range messages {
		t.Run(method, func(t *testing.T) {
			s := s.In(t)
			answers := map[string]string{}
			for _, server := range []string{stage.Forbidden, stage.Absent, "Calculator", "calculator2", "x"} {
				r := s.Do(http.MethodPost, s.URL(server), token, session,
					`{"jsonrpc":"2.0","id":1,"method":"`+method+`","params":{`+strings.ReplaceAll(params, "S", server)+`}}`)
				require.Equal(t, http.StatusOK, r.Status, r.Body)
				require.Contains(t, r.Body, `"error"`)
				answers[server] = strings.ReplaceAll(stage.WithoutID(r.Body), server, "S")
			}
			for server, answer := range answers {
				require.Equal(t, answers[stage.Forbidden], answer, server)
			}
			require.Zero(t, s.Forbidden.Count())
		})
	}
	for _, list := range []string{"tools/list", "prompts/list", "resources/list", "resources/templates/list"} {
		r := s.Do(http.MethodPost, s.URL(stage.Calculator), token, session, `{"jsonrpc":"2.0","id":1,"method":"`+list+`"}`)
		require.Equal(t, http.StatusOK, r.Status, r.Body)
		require.NotContains(t, r.Body, stage.Forbidden)
	}
	require.Zero(t, s.Forbidden.Count(), "a server that is not allowed was asked for its lists")
	require.Equal(t, "not-in-allowed-servers", stage.AwaitRefusal(s.Harness, s.Gateway, "cursor", stage.Forbidden, 1)["reason"])

	t.Run("a client without servers has empty lists", func(t *testing.T) {
		s := s.In(t)
		nobody := s.CreateClient("nobody", nil)
		session := stage.Connect(t, s.Harness, s.URL(stage.Calculator), nobody, harness.StatelessEra)
		require.Empty(t, stage.ToolsOf(t, session, ""))
		stage.WantNoTool(t, session, "calculator__add")
	})
}
