package aggregate

import (
	"context"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/pin"
	"vault-plugin-secrets-mcp/gateway/gatewaytest"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/grants/grantstest"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/rewrite"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/sse"
)

// lister is a server without sessions that lists what it is told to: by a stream, if it is told to.
type lister struct {
	*fake
	tools  atomic.Pointer[string]
	stream bool
}

func newLister(t *testing.T, tools string) *lister {
	t.Helper()
	l := &lister{}
	l.lists(tools)
	l.fake = newFake(t, func(w http.ResponseWriter, _ *http.Request, method, body string) {
		switch {
		case method != "tools/list":
			reply(w, body, `{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"resultType":"complete"}`)
		case l.stream:
			w.Header().Set("Content-Type", "text/event-stream")
			id := regexp.MustCompile(`"id":([^,]+)`).FindStringSubmatch(body)[1]
			_, _ = w.Write(sse.AppendMessage(nil, []byte(`{"jsonrpc":"2.0","id":`+id+`,"result":{"tools":[`+*l.tools.Load()+`]}}`)))
		default:
			reply(w, body, `{"tools":[`+*l.tools.Load()+`]}`)
		}
	})
	return l
}

func (l *lister) lists(tools string) { l.tools.Store(&tools) }

// page returns the page that the gateway keeps of the server's tools for the client.
func (s *stage) page(client, server string) *rewrite.Page {
	return s.handler.pages.get(pageKey{principal: grants.PrincipalOf("id-" + client), server: s.handler.options.Registry.Servers()[server].ID, kind: rewrite.Tools})
}

func TestAListThatComesAgainIsNotReadAgain(t *testing.T) {
	for name, stream := range map[string]bool{"in one message": false, "by a stream": true} {
		t.Run(name, func(t *testing.T) {
			calc := newLister(t, `{"name":"add"}`)
			calc.stream = stream
			s := newStage(t, map[string]string{"calc": calc.URL})
			first := s.asks("1", "tools/list", "").body
			page := s.page("alice", "calc")
			require.NotNil(t, page)
			again := s.asks(`"a longer id"`, "tools/list", "").body
			require.Same(t, page, s.page("alice", "calc"))
			require.Equal(t, strings.Replace(first, `"id":1`, `"id":"a longer id"`, 1), again)
			require.Equal(t, 3, calc.count(), "the server is asked each time: what it is, and for each list")

			calc.lists(`{"name":"add","description":"another"}`)
			require.Contains(t, s.asks("1", "tools/list", "").body, `"another"`, "one other byte counts at once")
			require.NotSame(t, page, s.page("alice", "calc"))
			calc.lists(`{"name":"sub"}`)
			require.Equal(t, []string{"calc__sub"}, toolsIn(t, s.asks("1", "tools/list", "").body))
			calc.lists(``)
			require.Empty(t, toolsIn(t, s.asks("1", "tools/list", "").body))
		})
	}
}

func TestAListThatComesAgainIsAuditedWithItsBytes(t *testing.T) {
	s := newStage(t, map[string]string{"calc": newLister(t, `{"name":"add"}`).URL})
	for range 2 {
		s.asks("1", "tools/list", "")
	}
	var sizes []string
	gatewaytest.Eventually(t, "both outcomes", func() bool {
		text, err := os.ReadFile(s.audit)
		require.NoError(t, err)
		sizes = nil
		for line := range strings.SplitSeq(string(text), "\n") {
			if size := regexp.MustCompile(`"bytes":(\d+)`).FindString(line); size != "" && strings.Contains(line, `"tools/list"`) && strings.Contains(line, `"calc"`) {
				sizes = append(sizes, size)
			}
		}
		return len(sizes) == 2
	})
	require.Equal(t, sizes[0], sizes[1])
	require.NotEqual(t, `"bytes":0`, sizes[0])
}

func TestAListThatComesAgainIsJudgedByTheRulesOfNow(t *testing.T) {
	s := newStage(t, map[string]string{"calc": newLister(t, `{"name":"add"},{"name":"erase"}`).URL})
	for _, denied := range []string{"calc/none", "calc/erase", "calc/*", "calc/add", "calc/none"} {
		s.vault.AddToken(alice, "alice", grantstest.Data{"denied_tools": []string{denied}})
		want := map[string][]string{"calc/none": {"calc__add", "calc__erase"}, "calc/erase": {"calc__add"}, "calc/add": {"calc__erase"}, "calc/*": {}}[denied]
		gatewaytest.Eventually(t, "the rules to be known: "+denied, func() bool {
			return strings.Join(toolsIn(t, s.asks("1", "tools/list", "").body), " ") == strings.Join(want, " ")
		})
		require.Equal(t, want, toolsIn(t, s.asks("2", "tools/list", "").body), denied)
	}
}

// TestAListThatComesAgainIsJudgedByThePinsOfNow: the answer's bytes are the same before and after, since
// everything in it is approved, and a page that was read before has no digests to show for it.
func TestAListThatComesAgainIsJudgedByThePinsOfNow(t *testing.T) {
	const add, sub = `{"name":"add"}`, `{"name":"sub"}`
	s := newStage(t, map[string]string{"calc": newLister(t, add+","+sub).URL})
	names := func() string { return strings.Join(toolsIn(t, s.asks("1", "tools/list", "").body), " ") }
	require.Equal(t, "calc__add calc__sub", names())
	s.vault.Approve("calc", pin.Tool, add)
	s.vault.Approve("calc", pin.Tool, sub)
	s.vault.Pin("calc", pin.Enforce)
	gatewaytest.Eventually(t, "the pins to be known", func() bool {
		pins := s.handler.options.Registry.Servers()["calc"].Pins()
		return pins != nil && pins.Known && pins.Mode == pin.Enforce
	})
	require.Equal(t, "calc__add calc__sub", names())
	require.Equal(t, "calc__add calc__sub", names(), "from the page with digests")
	s.vault.Withdraw("calc", pin.Tool, "sub")
	gatewaytest.Eventually(t, "what is not approved any more to be missing", func() bool { return names() == "calc__add" })
	s.vault.Approve("calc", pin.Tool, sub)
	gatewaytest.Eventually(t, "what is approved again to be there", func() bool { return names() == "calc__add calc__sub" })
}

func TestNoClientGetsTheListOfAnother(t *testing.T) {
	up := newFake(t, func(w http.ResponseWriter, r *http.Request, method, body string) {
		if method != "tools/list" {
			reply(w, body, `{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"resultType":"complete"}`)
			return
		}
		reply(w, body, `{"tools":[{"name":"`+r.UserAgent()+`"}]}`)
	})
	s := newStage(t, map[string]string{"calc": up.URL})
	for range 3 {
		for _, client := range []string{"alice", "bob"} {
			g := s.asks("1", "tools/list", "", "User-Agent", client, ":token", map[string]string{"alice": alice, "bob": bob}[client])
			require.Equal(t, []string{"calc__" + client}, toolsIn(t, g.body))
		}
	}
	require.NotSame(t, s.page("alice", "calc"), s.page("bob", "calc"))
}

// TestKeptPagesCountWithTheirMessages: what a page was read from stays as long as it does.
func TestKeptPagesCountWithTheirMessages(t *testing.T) {
	long := `{"name":"add","description":"` + strings.Repeat("x", 10_000) + `"}`
	s := newStage(t, map[string]string{"calc": newLister(t, long).URL})
	for range 3 {
		s.asks("1", "tools/list", "")
	}
	s.handler.pages.mu.Lock()
	bytes := s.handler.pages.bytes
	s.handler.pages.mu.Unlock()
	require.InDelta(t, 2*len(long), bytes, 1000, "its entries, and the message")
	gatewaytest.Eventually(t, "all of the client's memory to be given back", func() bool { return s.memory.Kept() == 0 })
}

// TestAServerIsNotAskedForAClientThatIsGone: not even the one that is asked on the request's own goroutine.
func TestAServerIsNotAskedForAClientThatIsGone(t *testing.T) {
	var slow atomic.Bool
	asked, given := make(chan struct{}), make(chan struct{})
	var lists atomic.Int32
	up := newFake(t, func(w http.ResponseWriter, r *http.Request, method, body string) {
		switch {
		case method != "tools/list":
			reply(w, body, `{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"resultType":"complete"}`)
		case !slow.Load():
			reply(w, body, `{"tools":[{"name":"add"}]}`)
		case lists.Add(1) == 1:
			close(asked)
			<-r.Context().Done()
			close(given)
		}
	})
	s := newStage(t, map[string]string{"calc": up.URL})
	require.Equal(t, []string{"calc__add"}, toolsIn(t, s.asks("1", "tools/list", "").body))
	slow.Store(true)
	s.handler.listWait = time.Hour
	ctx, leave := context.WithCancel(t.Context())
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		body, pairs := stateless("2", "tools/list", "")
		if resp, err := s.doWith(ctx, body, pairs...); err == nil {
			_ = resp.Body.Close()
		}
	}()
	gatewaytest.Within(t, "the server to be asked", asked)
	leave()
	<-gone
	gatewaytest.Within(t, "the request to the server to end", given)
	gatewaytest.Eventually(t, "all of the client's memory to be given back", func() bool { return s.memory.Kept() == 0 })
	require.EqualValues(t, 1, lists.Load(), "it was asked again, for nobody")
}

// TestAKnownServerThatIsLateIsAskedAgain: a list waits for it on its own goroutine, and no longer than for
// any other server.
func TestAKnownServerThatIsLateIsAskedAgain(t *testing.T) {
	var late atomic.Bool
	given, release := make(chan struct{}), make(chan struct{})
	var lists atomic.Int32
	up := newFake(t, func(w http.ResponseWriter, r *http.Request, method, body string) {
		switch {
		case method != "tools/list":
			reply(w, body, `{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"resultType":"complete"}`)
		case !late.Load():
			reply(w, body, `{"tools":[{"name":"before"}]}`)
		case lists.Add(1) == 1:
			<-r.Context().Done()
			close(given)
		default:
			<-release
			reply(w, body, `{"tools":[{"name":"after"}]}`)
		}
	})
	s := newStage(t, map[string]string{"calc": up.URL})
	options, h := listening()
	client := s.connect(alice, "2026-07-28", options)
	require.Equal(t, []string{"calc__before"}, listed(t, client))
	late.Store(true)
	s.handler.listWait = 50 * time.Millisecond
	require.Equal(t, []string{"calc__before"}, toolsIn(t, s.asks("1", "tools/list", "").body), "what it had last")
	require.NotZero(t, lists.Load(), "it was asked")
	gatewaytest.Within(t, "the request that nobody waits for to be given up", given)
	h.drain()
	s.handler.listWait = 30 * time.Second
	close(release)
	h.await(t, "tools")
	require.Equal(t, []string{"calc__after"}, listed(t, client))
}

func TestParamsThatCouldBeReadInTwoWaysAreRefused(t *testing.T) {
	up := modern(t, "add", textResult)
	s := newStage(t, map[string]string{"calc": up.URL})
	for _, params := range []string{`"cursor":"","Cursor":"x"`, `"Cursor":"x"`, `"cursor ":"x"`} {
		g := s.asks("1", "tools/list", params)
		require.Equal(t, http.StatusBadRequest, g.status, params)
		require.Contains(t, g.body, "params cannot be read.", params)
	}
	require.Empty(t, up.sent("tools/list"))
}
