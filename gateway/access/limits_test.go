package access

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

func TestUnknownTokensAreRateLimitedBySource(t *testing.T) {
	limits := config.Grants{ColdRate: 1000, ColdBurst: 1000, ColdSourceRate: 0.001, ColdSourceBurst: 5}
	l := NewColdLimiter(limits)
	allowed := func(source string) int {
		n := 0
		for range 20 {
			if l.Allow(netip.MustParseAddr(source)) {
				n++
			}
		}
		return n
	}
	require.Equal(t, 5, allowed("192.0.2.1"))
	require.Equal(t, 5, allowed("192.0.2.2"))
	require.Equal(t, 5, allowed("2001:db8:1:2::1"))
	require.Equal(t, 0, allowed("2001:db8:1:2:ffff::9"), "one /64 is one source")
	require.Equal(t, 5, allowed("2001:db8:1:3::1"))

	limits.ColdRate, limits.ColdBurst = 0.001, 7
	l = NewColdLimiter(limits)
	require.Equal(t, 5, allowed("192.0.2.1"))
	require.Equal(t, 2, allowed("192.0.2.2"), "all of them together")
}

func TestFloodOfBadTokensIsBoundedInVaultAndInTheAuditLog(t *testing.T) {
	limited := config.Grants{ColdRate: 1, ColdBurst: 20, ColdSourceRate: 1, ColdSourceBurst: 20}
	s := newStage(t, nil)
	s.gate.options.Broker = s.vault.Broker(grants.Options{Cold: NewColdLimiter(limited)})
	statuses := map[int]int{}
	for i := range 500 {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.server.address+"/servers/files/mcp", strings.NewReader("x"))
		require.NoError(t, err)
		request.Header.Set("Authorization", fmt.Sprintf("Bearer %s%d", badToken, i))
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		_, _ = io.Copy(io.Discard, response.Body)
		require.NoError(t, response.Body.Close())
		statuses[response.StatusCode]++
	}
	require.Less(t, s.vault.Lookups(), 40)
	require.Greater(t, statuses[429], 400)
	require.Less(t, strings.Count(s.text(), "\n"), 20)
}

func grantOf(t *testing.T, client string) *grants.Grant {
	t.Helper()
	g, err := grants.NewGrant(&vaultclient.Lookup{Active: true, Client: client, ClientID: "id-" + client, Accessor: "accessor"}, time.Now())
	require.NoError(t, err)
	return g
}

func refusalFor(t *testing.T, err error) *Refusal {
	t.Helper()
	var f *Refusal
	require.ErrorAs(t, err, &f)
	return f
}

func TestMemoryIsBoundedForAllAndForEachClient(t *testing.T) {
	g := &Gate{options: Options{Memory: NewMemory(config.Limits{MaxBuffered: 100, MaxBufferedPerClient: 60})}}
	of := func(client string) *Request { return &Request{gate: g, Grant: grantOf(t, client)} }
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
		r.releaseMemory()
	}
	require.Zero(t, g.options.Memory.Kept())
	require.Empty(t, g.options.Memory.shares)
}

func TestMemoryIsCountedRightByManyAtOnce(t *testing.T) {
	g := &Gate{options: Options{Memory: NewMemory(config.Limits{MaxBuffered: 1000, MaxBufferedPerClient: 400})}}
	var all sync.WaitGroup
	for _, client := range []string{"a", "b", "c", "d"} {
		for range 8 {
			all.Go(func() {
				for range 200 {
					r := &Request{gate: g, Grant: grantOf(t, client)}
					for range 10 {
						if err := r.Reserve(30); err != nil && !errors.As(err, new(*Refusal)) {
							t.Error(err)
						}
					}
					if kept := g.options.Memory.Kept(); kept > 1000 {
						t.Errorf("%d bytes are kept", kept)
					}
					r.releaseMemory()
				}
			})
		}
	}
	all.Wait()
	require.Zero(t, g.options.Memory.Kept())
}
