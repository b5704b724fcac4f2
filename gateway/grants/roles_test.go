package grants

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/policy"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

// Vault is so slow here that it takes a minute to ask about every token.
func TestTheFirstAnswerAfterAChangeOfARoleCutsTheRequestsOfAllItsClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel()
		const clients = 600
		tokens := make([]*modelToken, clients)
		for i := range tokens {
			tokens[i] = m.addToken(fmt.Sprint("t", i), fmt.Sprint("c", i))
			inRole("files")(tokens[i])
		}
		inRole("files")(m.addToken("own", "own"))
		m.tokens["own"].servers = []string{"files"}
		b := settledBroker(t, m)
		live := make(map[context.Context]*Hold)
		for i := range tokens {
			ctx, h := b.hold(t, fmt.Sprint("t", i), "files")
			live[ctx] = h
		}
		own, h := b.hold(t, "own", "files")
		defer h.Release()

		started := time.Now()
		m.mutate(vaultclient.Change{Type: typeRole, Operation: operationUpdate, Name: "r"}, func() {
			m.latency = 400 * time.Millisecond
			role := &modelRole{name: "r", Lists: policy.Lists{AllowedServers: []string{"github"}}}
			for _, token := range m.tokens {
				token.role = role
			}
		})
		for ctx, h := range live {
			<-ctx.Done()
			require.ErrorIs(t, context.Cause(ctx), ErrNotAllowed)
			h.Release()
		}
		require.Less(t, time.Since(started), time.Second)
		require.NoError(t, own.Err(), "its own fields admit the server")
		after(2 * time.Minute)
		require.NoError(t, own.Err())
		require.Empty(t, b.changedRoles)
	})
}
