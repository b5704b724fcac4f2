package test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
)

// TestAServerThatIsNotAllowedIsLikeNoneAmongAll asks /mcp for what is on a
// server that the client may not reach, and on one that nobody has registered.
func TestAServerThatIsNotAllowedIsLikeNoneAmongAll(t *testing.T) {
	s := newStage(t, harness.GatewayOptions{})
	s.at = aggregate
	token := s.client("cursor", nil)
	s.works(t, token)
	session := inSession(openSession(t, s.Harness, s.url(calculator), token))

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
			s := s.in(t)
			answers := map[string]string{}
			for _, server := range []string{forbidden, absent, "Calculator", "calculator2", "x"} {
				r := s.Do(http.MethodPost, s.url(server), token, session,
					`{"jsonrpc":"2.0","id":1,"method":"`+method+`","params":{`+strings.ReplaceAll(params, "S", server)+`}}`)
				require.Equal(t, http.StatusOK, r.Status, r.Body)
				require.Contains(t, r.Body, `"error"`)
				answers[server] = strings.ReplaceAll(withoutID(r.Body), server, "S")
			}
			for server, answer := range answers {
				require.Equal(t, answers[forbidden], answer, server)
			}
			require.Zero(t, s.forbidden.Count())
		})
	}
	for _, list := range []string{"tools/list", "prompts/list", "resources/list", "resources/templates/list"} {
		r := s.Do(http.MethodPost, s.url(calculator), token, session, `{"jsonrpc":"2.0","id":1,"method":"`+list+`"}`)
		require.Equal(t, http.StatusOK, r.Status, r.Body)
		require.NotContains(t, r.Body, forbidden)
	}
	require.Zero(t, s.forbidden.Count(), "a server that is not allowed was asked for its lists")
	require.Equal(t, "not-in-allowed-servers", awaitRefusal(s.Harness, s.gateway, "cursor", forbidden, 1)["reason"])

	t.Run("a client without servers has empty lists", func(t *testing.T) {
		s := s.in(t)
		nobody := s.CreateClient("nobody", nil)
		session := connect(t, s.Harness, s.url(calculator), nobody, harness.StatelessEra)
		require.Empty(t, toolsOf(t, session, ""))
		wantNoTool(t, session, "calculator__add")
	})
}
