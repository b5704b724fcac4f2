package mcp

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/credentials"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/sse"
)

// TestAStreamThatHasEndedForGoodIsNotOpenedAgain: its token expires when its credentials have just been
// replaced, so that its context has ended already.
func TestAStreamThatHasEndedForGoodIsNotOpenedAgain(t *testing.T) {
	q := &proxied{
		Answer: &Answer{exchange: exchange{method: http.MethodGet}, handler: &Handler{}, client: t.Context()},
		proxy:  &proxy{}, response: &http.Response{Body: http.NoBody}, traced: func(int, error) {}, unlisted: func() {},
	}
	q.restart()
	q.cancel(credentials.ErrReplaced)
	q.endFor(sse.ErrExpired)
	require.False(t, q.reopen(), "nobody is asked for credentials")
	require.ErrorIs(t, q.ended(), sse.ErrExpired)
}
