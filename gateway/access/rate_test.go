package access

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/policy"
	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/grants/grantstest"
)

// taken is how many of n requests of the client pass.
func taken(r *ClientRates, client string, n int, limit float64, burst int) int {
	passed := 0
	for range n {
		if r.take(grants.PrincipalOf(client), policy.RateLimit{Rate: limit, Burst: burst}) == 0 {
			passed++
		}
	}
	return passed
}

func TestClientHasItsBurstAndThenItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := new(ClientRates)
		require.Equal(t, 5, taken(r, "a", 20, 2, 5))
		require.Equal(t, 5, taken(r, "b", 20, 2, 5), "another client has its own")
		<-time.After(3 * time.Second)
		require.Equal(t, 5, taken(r, "a", 20, 2, 5), "no more than the burst is saved")
		for range 10 {
			<-time.After(time.Second)
			require.Equal(t, 2, taken(r, "a", 20, 2, 5))
		}
		require.EqualValues(t, 3*15+10*18, r.Refused())
	})
}

func TestWaitIsTheTimeUntilTheNextRequestPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, limit := range []float64{1000, 3, 1, 0.3, 0.0125} {
			r := new(ClientRates)
			require.Zero(t, r.take(grants.PrincipalOf("a"), policy.RateLimit{Rate: limit, Burst: 1}))
			wait := r.take(grants.PrincipalOf("a"), policy.RateLimit{Rate: limit, Burst: 1})
			require.InDelta(t, 1/limit, wait.Seconds(), 1e-6)
			<-time.After(wait - time.Microsecond)
			require.Positive(t, r.take(grants.PrincipalOf("a"), policy.RateLimit{Rate: limit, Burst: 1}), "not before")
			<-time.After(2 * time.Microsecond)
			require.Zero(t, r.take(grants.PrincipalOf("a"), policy.RateLimit{Rate: limit, Burst: 1}))
		}
		r := new(ClientRates)
		require.Zero(t, r.take(grants.PrincipalOf("a"), policy.RateLimit{Rate: 1e-300, Burst: 1}))
		require.Equal(t, longestWait, r.take(grants.PrincipalOf("a"), policy.RateLimit{Rate: 1e-300, Burst: 1}))
	})
}

func TestAnotherLimitCountsAtOnceAndBringsNoNewBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := new(ClientRates)
		require.Equal(t, 100, taken(r, "a", 200, 10, 100))
		require.Zero(t, taken(r, "a", 10, 1000, 1000), "a higher one is not a burst of its own")
		<-time.After(time.Second / 10)
		require.Equal(t, 100, taken(r, "a", 1000, 1000, 1000), "and it counts at once")
		<-time.After(time.Second)
		require.Equal(t, 1, taken(r, "a", 100, 0.5, 1), "of what was saved, no more than the new burst is left")
		require.Zero(t, taken(r, "a", 100, 0.5, 50))
	})
}

func TestLimiterIsForgottenOnceItIsAsGoodAsNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kept := func(r *ClientRates) (n int) {
			r.limits.Range(func(any, any) bool { n++; return true })
			return n
		}
		r := new(ClientRates)
		taken(r, "slow", 10, 0.1, 3)
		for i := range 100 {
			taken(r, fmt.Sprint(i), 10, 10, 10)
		}
		require.Equal(t, 101, kept(r))
		<-time.After(rateTick + time.Second)
		require.Equal(t, 1, kept(r), "the slow one has not its burst back")
		require.Equal(t, 1, taken(r, "slow", 10, 0.1, 3), "and nothing of it was forgotten")
		<-time.After(2 * time.Minute)
		require.Zero(t, kept(r))
		require.False(t, r.sweeping.Load(), "nothing is left to look through")
		require.Equal(t, 3, taken(r, "slow", 10, 0.1, 3))
		<-time.After(2 * time.Minute)
		require.Zero(t, kept(r))
	})
}

func TestManyRequestsAtOncePassNoMoreThanTheBurst(t *testing.T) {
	r := new(ClientRates)
	var passed atomic.Int64
	var all sync.WaitGroup
	stop := make(chan struct{})
	go func() {
		defer close(stop)
		for range 200 {
			r.sweep()
		}
	}()
	for range 8 {
		all.Go(func() { passed.Add(int64(taken(r, "a", 500, 1e-6, 50))) })
	}
	all.Wait()
	<-stop
	require.EqualValues(t, 50, passed.Load())
}

// limited has a client of the stage send n requests, and returns the answers' statuses.
func (s *stage) limited(path, token string, n int) map[int]int {
	s.t.Helper()
	statuses := map[int]int{}
	for range n {
		response, _ := s.raw(post(path, token, "x"))
		statuses[response.StatusCode]++
	}
	return statuses
}

func TestClientBeyondItsRateIsTold(t *testing.T) {
	s := newStage(t, nil)
	s.vault.AddToken(goodToken, "cursor", grantstest.Data{"allowed_servers": []string{"files"}, "rate_limit": 0.03, "rate_burst": 2})
	require.Equal(t, map[int]int{200: 2}, s.limited("/servers/files/mcp", goodToken, 2))
	response, body := s.raw(post("/servers/files/mcp", goodToken, "x"))
	require.Equal(t, http.StatusTooManyRequests, response.StatusCode)
	require.Equal(t, "34", response.Header.Get("Retry-After"), "whole seconds, rounded up")
	require.Contains(t, body, "This client has sent more requests than its rate limit allows.")
	require.Equal(t, 2, s.count())
	require.EqualValues(t, 1, s.gate.options.Rates.Refused())
}

func TestRequestsThatAreRefusedCountToo(t *testing.T) {
	s := newStage(t, nil)
	s.vault.AddToken(goodToken, "cursor", grantstest.Data{"allowed_servers": []string{"files"}, "rate_limit": 0.001, "rate_burst": 2})
	require.Equal(t, map[int]int{403: 2, 429: 3}, s.limited("/servers/github/mcp", goodToken, 5))
	require.Equal(t, map[int]int{429: 1}, s.limited("/servers/files/mcp", goodToken, 1))
}

func TestTokensOfAClientShareItsRateAndOtherClientsHaveTheirOwn(t *testing.T) {
	s := newStage(t, nil)
	limit := grantstest.Data{"allowed_servers": []string{"files"}, "rate_limit": 0.001, "rate_burst": 3, "accessor": "first"}
	s.vault.AddToken(goodToken, "cursor", limit)
	limit["accessor"] = "second"
	s.vault.AddToken(otherToken, "cursor", limit)
	s.vault.AddToken("third-token-0123456789", "agent", limit)
	s.vault.AddToken("fourth-token-0123456789", "unlimited", grantstest.Data{"allowed_servers": []string{"files"}})
	require.Equal(t, map[int]int{200: 2}, s.limited("/servers/files/mcp", goodToken, 2))
	require.Equal(t, map[int]int{200: 1, 429: 2}, s.limited("/servers/files/mcp", otherToken, 3))
	require.Equal(t, map[int]int{200: 3, 429: 1}, s.limited("/servers/files/mcp", "third-token-0123456789", 4))
	require.Equal(t, map[int]int{200: 10}, s.limited("/servers/files/mcp", "fourth-token-0123456789", 10))
}

func TestPeopleWhoSignInAsOneClientHaveItsRateEach(t *testing.T) {
	rate := grantstest.Data{"rate_limit": 0.001, "rate_burst": 3}
	with := func(more grantstest.Data) grantstest.Data {
		maps.Copy(more, rate)
		return more
	}
	s := newSignInStage(t)
	const path = "/sign-in/servers/files/mcp"
	const resource = publicURL + path
	s.vault.AddToken(goodToken, "cursor", with(grantstest.OfSignIn("sign-in-1", "ann", "editor", resource)))
	s.vault.AddToken(otherToken, "cursor", with(grantstest.OfSignIn("sign-in-2", "bob", "editor", resource)))
	s.vault.AddToken("third-token-0123456789", "cursor", with(grantstest.OfSignIn("sign-in-3", "ann", "editor", resource)))
	require.Equal(t, map[int]int{200: 3, 429: 1}, s.limited(path, goodToken, 4))
	require.Equal(t, map[int]int{429: 1}, s.limited(path, "third-token-0123456789", 1), "her other sign-in with this application")
	require.Equal(t, map[int]int{200: 3, 429: 1}, s.limited(path, otherToken, 4), "a colleague does not notice")
}

func TestRequestsBeyondARateAreCountedInTheAuditLog(t *testing.T) {
	s := newStage(t, nil)
	s.vault.AddToken(goodToken, "cursor", grantstest.Data{"allowed_servers": []string{"files"}, "rate_limit": 0.001, "rate_burst": 1})
	require.Equal(t, map[int]int{200: 1, 429: 100}, s.limited("/servers/files/mcp", goodToken, 101))
	lines := s.lines(3)
	require.Len(t, lines, 3, "decision, outcome, and the first refusal")
	require.Equal(t, "refusal", lines[2]["type"])
	require.Equal(t, "rate-limited", lines[2]["reason"])
	require.Equal(t, "accessor-cursor", lines[2]["accessor"])

	s.gate.auditor.limited.tick()
	counted := s.lines(4)[3]
	require.Equal(t, "refusals", counted["type"])
	require.Equal(t, "cursor", counted["client"])
	require.Equal(t, "id-cursor", counted["client_id"])
	require.Equal(t, "rate-limited", counted["reason"])
	require.EqualValues(t, 99, counted["count"])
	require.EqualValues(t, 429, counted["status"])
	require.Len(t, counted["request_ids"], idsNamed)

	s.limited("/servers/files/mcp", goodToken, 1)
	s.gate.auditor.limited.tick()
	require.EqualValues(t, 1, s.lines(5)[4]["count"], "while they come, one line is for all of them")
	s.gate.auditor.limited.tick()
	require.Empty(t, s.gate.auditor.limited.clients, "a client that stopped is forgotten")
	s.limited("/servers/files/mcp", goodToken, 1)
	require.Equal(t, "refusal", s.lines(6)[5]["type"], "and begins again with a line of its own")
}

// BenchmarkRate has warm requests of a client with a rate limit, and of one without.
func BenchmarkRate(b *testing.B) {
	for name, more := range map[string]grantstest.Data{
		"without": {}, "with": {"rate_limit": 1e9, "rate_burst": 1000000000},
	} {
		b.Run(name, func(b *testing.B) {
			vault := grantstest.New(b)
			vault.AddServer("files", "http://127.0.0.1:9/mcp")
			vault.AddToken(goodToken, name, more)
			log := newAuditLog(nopCloser{io.Discard}, nil)
			defer log.Close()
			gate := New(Options{
				Broker:   vault.Broker(grants.Options{Cold: NewColdLimiter(grantstest.Unlimited)}),
				Audit:    log,
				Listener: config.Listener{Address: "127.0.0.1:8080"},
				Limits:   config.Limits{MaxBody: 1000},
				Next:     http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }),
			})
			request := httptest.NewRequestWithContext(b.Context(), http.MethodPost, "http://127.0.0.1:8080/servers/files/mcp", strings.NewReader(""))
			request.Header.Set("Authorization", "Bearer "+goodToken)
			request.Header.Set("Content-Type", "application/json")
			answer := httptest.NewRecorder()
			gate.ServeHTTP(answer, request)
			require.Equal(b, http.StatusOK, answer.Code, answer.Body)
			b.ReportAllocs()
			for b.Loop() {
				gate.ServeHTTP(answer, request)
			}
		})
	}
}
