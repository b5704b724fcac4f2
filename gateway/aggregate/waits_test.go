package aggregate

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/gatewaytest"
	"vault-plugin-secrets-mcp/gateway/grants"
)

func TestHowLongAListWaits(t *testing.T) {
	const usual, first = 2 * time.Second, 50 * time.Second
	type arrival struct {
		after time.Duration
		some  bool
	}
	for name, c := range map[string]struct {
		waits    waits
		there    bool
		servers  int
		arrivals []arrival
		took     time.Duration
	}{
		"all are quick":                     {waits{usual, first}, false, 2, []arrival{{time.Second, true}, {time.Second, true}}, time.Second},
		"one is slow":                       {waits{usual, first}, false, 2, []arrival{{time.Second, true}}, time.Second + usual},
		"one is slow, and there is another": {waits{usual, first}, true, 2, nil, usual},
		"all are starting":                  {waits{usual, first}, false, 2, []arrival{{30 * time.Second, true}}, 30*time.Second + usual},
		"all go on answering": {waits{usual, first}, false, 20, func() []arrival {
			var all []arrival
			for i := range 20 {
				all = append(all, arrival{20*time.Second + time.Duration(i)*time.Second, true})
			}
			return all
		}(), 39 * time.Second},
		"for no longer than that":        {waits{usual, first}, false, 2, []arrival{{49 * time.Second, true}}, first},
		"one has nothing to show":        {waits{usual, first}, false, 2, []arrival{{time.Second, false}}, first},
		"nobody answers":                 {waits{usual, first}, false, 2, nil, first},
		"nobody answers any more":        {waits{usual, 0}, false, 2, nil, usual},
		"a first wait that is no longer": {waits{usual, time.Second}, false, 2, nil, usual},
		"nobody is asked":                {waits{usual, first}, false, 0, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				arrivals, began := make(chan bool, c.servers), time.Now()
				for _, a := range c.arrivals {
					time.AfterFunc(a.after, func() { arrivals <- a.some })
				}
				c.waits.wait(context.Background(), c.servers, c.there, arrivals)
				require.Equal(t, c.took, time.Since(began))
				<-time.After(time.Minute) // the rest arrives
			})
		})
	}
}

// starting is a server that answers nothing before it is released.
func starting(t *testing.T, name string) (up *fake, release func()) {
	t.Helper()
	started := make(chan struct{})
	up = modern(t, name, textResult)
	inner := up.Config.Handler
	up.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		<-started
		inner.ServeHTTP(w, r)
	})
	return up, func() { close(started) }
}

// configure sets how long lists wait.
func (s *stage) configure(usual, first time.Duration) {
	c := *s.handler.settings()
	c.Aggregate = config.Aggregate{ListWait: usual, FirstListWait: first}
	s.handler.listWait = 0
	s.handler.Configure(&c)
}

func TestTheOnlyServerIsWaitedForWhileItStarts(t *testing.T) {
	for _, era := range []string{"with a session", "without"} {
		t.Run(era, func(t *testing.T) {
			up, release := starting(t, "add")
			s := newStage(t, map[string]string{"calc": up.URL, "dead": "http://127.0.0.1:9/mcp"})
			s.configure(20*time.Millisecond, time.Minute)
			time.AfterFunc(300*time.Millisecond, release)
			var g got
			if era == "without" {
				g = s.asks("1", "tools/list", "")
			} else {
				g = s.ask(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, s.open(alice)...)
			}
			require.Equal(t, []string{"calc__add"}, toolsIn(t, g.message()))
		})
	}
}

func TestAServerIsWaitedForInVainOnce(t *testing.T) {
	up, release := starting(t, "add")
	s := newStage(t, map[string]string{"calc": up.URL})
	s.configure(time.Millisecond, 200*time.Millisecond)
	began := time.Now()
	require.Empty(t, toolsIn(t, s.asks("1", "tools/list", "").message()))
	require.Greater(t, time.Since(began), 200*time.Millisecond)
	state := s.handler.servers.of(stateKey{id: "registration-calc"})
	require.False(t, state.mayBeStarting(grants.PrincipalOf("id-alice"), time.Now()))
	release()
	gatewaytest.Eventually(t, "the server to be listed", func() bool {
		return len(toolsIn(t, s.asks("1", "tools/list", "").message())) == 1
	})
}

// TestManyHealthyServersAreAllInTheFirstList: also on a busy machine.
func TestManyHealthyServersAreAllInTheFirstList(t *testing.T) {
	servers, want := map[string]string{}, []string{}
	for i := range 200 {
		name := fmt.Sprintf("s%03d", i)
		servers[name] = modern(t, "add", textResult).URL
		want = append(want, name+"__add")
	}
	s := newStage(t, servers)
	s.configure(2*time.Second, time.Minute)
	require.Equal(t, want, toolsIn(t, s.asks("1", "tools/list", "").message()))
}

// TestAClientThatGoesLeavesNoServerBehind: a list request that was answered without asking
// the server is not counted as abandoned.
func TestAClientThatGoesLeavesNoServerBehind(t *testing.T) {
	calc := newFake(t, func(w http.ResponseWriter, _ *http.Request, _, body string) {
		reply(w, body, `{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"tools":[{"name":"add"}],"resultType":"complete"}`)
	})
	hung, release := starting(t, "add")
	s := newStage(t, map[string]string{"calc": calc.URL, "hung": hung.URL})
	defer release()
	s.asks("1", "tools/call", `"name":"calc__add","arguments":{}`)
	state := s.handler.servers.of(stateKey{id: "registration-calc"})
	_, described := state.description(gatewayItself)
	require.True(t, described)
	for range maxAbandoned - 1 {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		body, pairs := stateless("1", "prompts/list", "")
		_, err := s.doWith(ctx, body, pairs...)
		cancel()
		require.Error(t, err)
	}
	require.Zero(t, state.abandonedLists(grants.PrincipalOf("id-alice")))
}
