package access

import (
	"errors"
	"net/http"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/grants"
)

func refusalFor(t *testing.T, err error) *Refusal {
	t.Helper()
	var f *Refusal
	require.ErrorAs(t, err, &f)
	return f
}

func TestMemoryIsBoundedForAllAndForEachClient(t *testing.T) {
	g := &Gate{options: Options{Memory: NewMemory(config.Limits{MaxBuffered: 100, MaxBufferedPerClient: 60})}}
	of := func(client string) *Request { return &Request{gate: g, Grant: &grants.Grant{ClientID: client}} }
	a, again, b := of("a"), of("a"), of("b")
	require.NoError(t, a.Reserve(50))
	require.NoError(t, again.Reserve(10))
	f := refusalFor(t, again.Reserve(1))
	require.Equal(t, http.StatusTooManyRequests, f.Status)
	require.Equal(t, ReasonClientMemory, f.Reason)
	require.Positive(t, f.RetryAfter)

	require.NoError(t, b.Reserve(40))
	f = refusalFor(t, b.Reserve(1))
	require.Equal(t, http.StatusServiceUnavailable, f.Status)
	require.Equal(t, ReasonMemory, f.Reason)
	require.Positive(t, f.RetryAfter)

	require.NoError(t, a.Reserve(-20), "what is given back")
	require.NoError(t, b.Reserve(1), "others may take")
	for _, r := range []*Request{a, again, b, b} {
		r.forget()
	}
	require.Zero(t, g.options.Memory.Kept())
	require.Empty(t, g.options.Memory.clients)
}

func TestMemoryIsCountedRightByManyAtOnce(t *testing.T) {
	g := &Gate{options: Options{Memory: NewMemory(config.Limits{MaxBuffered: 1000, MaxBufferedPerClient: 400})}}
	var all sync.WaitGroup
	for _, client := range []string{"a", "b", "c", "d"} {
		for range 8 {
			all.Go(func() {
				for range 200 {
					r := &Request{gate: g, Grant: &grants.Grant{ClientID: client}}
					for range 10 {
						if err := r.Reserve(30); err != nil && !errors.As(err, new(*Refusal)) {
							t.Error(err)
						}
					}
					if kept := g.options.Memory.Kept(); kept > 1000 {
						t.Errorf("%d bytes are kept", kept)
					}
					r.forget()
				}
			})
		}
	}
	all.Wait()
	require.Zero(t, g.options.Memory.Kept())
}
