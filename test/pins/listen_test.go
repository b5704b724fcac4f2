package pins

import (
	"bufio"
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/pin"
	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/stage"
)

// listeningIsJudged listens to changes of a resource, before somebody approves it, and after.
func listeningIsJudged(t *testing.T, s *pinned) {
	t.Helper()
	s.register("listen", s.start(newHostile(saying(all(good)))), inJSON, harness.Map{"pin": "enforce"})
	token := s.CreateClient("listen", harness.Map{"allowed_servers": "listen"})
	single := s.caller(t, stage.Path{Era: harness.StatelessEra, At: stage.Single}, "listen", token)
	whole := s.caller(t, stage.Path{Era: harness.StatelessEra, At: stage.Aggregate}, "listen", token)
	s.Eventually("the gateway knows the server", func() error { return registered(single) })

	require.Contains(t, single.listen(resourceURI), "-32602")
	require.NotContains(t, whole.listen(resourceURI), resourceURI, "the acknowledgement")
	s.approve("listen", definitionOf(pin.Resource, good), definitionOf(pin.Server, good))
	for _, c := range []*caller{single, whole} {
		s.Within(stage.InForce, "the approval counts", func() error {
			if got := c.listen(resourceURI); !strings.Contains(got, "acknowledged") || c == whole && !strings.Contains(got, resourceURI) {
				return errors.New(got)
			}
			return nil
		})
	}
}

// listen asks for changes of a resource, and returns the first message of the answer.
func (c *caller) listen(uri string) string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 30*time.Second)
	defer cancel()
	body := c.message("subscriptions/listen", `"notifications":{"resourceSubscriptions":["`+c.path.At.Resource(c.server, uri)+`"]}`)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url(), strings.NewReader(body))
	require.NoError(c.t, err)
	request.Header = c.header("subscriptions/listen", "")
	request.Header.Set("Authorization", "Bearer "+c.token)
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	require.NoError(c.t, err)
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		if strings.Contains(lines.Text(), `"jsonrpc"`) {
			return lines.Text()
		}
	}
	c.t.Fatalf("no message came: %v", lines.Err())
	return ""
}
