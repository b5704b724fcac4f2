package mcp

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/gatewaytest"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/itemlist"
	"vault-plugin-secrets-mcp/gateway/usage"
)

// heard is a ToolLists that keeps what it gets.
type heard struct {
	mu     sync.Mutex
	deaf   bool
	all    []string // the answers
	events []bool
}

func (h *heard) WantsList(string) bool { return !h.deaf }

func (h *heard) Listed(registration string, data []byte, events bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all, h.events = append(h.all, registration+" "+string(data)), append(h.events, events)
}

func (h *heard) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.all)
}

func (h *heard) take(t *testing.T) (answer string, events bool) {
	t.Helper()
	gatewaytest.Eventually(t, "the list is passed on", func() bool { return h.count() > 0 })
	h.mu.Lock()
	defer h.mu.Unlock()
	require.Len(t, h.all, 1)
	answer, events = h.all[0], h.events[0]
	h.all, h.events = nil, nil
	return answer, events
}

const twoTools = `{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"echo"},{"name":"get-env"}]}}`

func TestListsOfToolsAreHeardAsTheyPass(t *testing.T) {
	for name, tc := range map[string]struct {
		handle http.HandlerFunc
		rules  bool
		events bool
		want   string
	}{
		"a whole answer":                   {func(w http.ResponseWriter, _ *http.Request) { gatewaytest.Reply(w, twoTools) }, false, false, twoTools},
		"one that is filtered, as it came": {func(w http.ResponseWriter, _ *http.Request) { gatewaytest.Reply(w, twoTools) }, true, false, twoTools},
		"an answer of unknown length":      {chunked("application/json", twoTools), false, false, twoTools},
		"a stream":                         {chunked("text/event-stream", "data: "+twoTools+"\n\n"), false, true, "data: " + twoTools + "\n\n"},
		"a stream that is filtered":        {chunked("text/event-stream", "data: "+twoTools+"\n\n"), true, true, "data: " + twoTools + "\n\n"},
		"a long answer up to a bound":      {chunked("application/json", long(usage.MaxList)), false, false, long(usage.MaxList)},
	} {
		t.Run(name, func(t *testing.T) {
			up := gatewaytest.NewUpstream(t, tc.handle)
			h := &heard{}
			g := newGateway(t, testConfig(), registration(up))
			g.toolLists = h
			if tc.rules {
				g.grants["alice"] = grant(t, "alice", []string{"up/echo"}, nil)
			}
			got := g.Ask(t, listTools)
			require.Equal(t, http.StatusOK, got.Status)
			require.Equal(t, !tc.rules, strings.Contains(got.Body, "get-env"))
			answer, events := h.take(t)
			require.Equal(t, "registration-1 "+tc.want, answer)
			require.Equal(t, tc.events, events)
			require.Zero(t, up.Count()-1)
		})
	}
}

// chunked answers in parts, without saying how long the answer is.
func chunked(media, answer string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", media)
		for part := range strings.SplitSeq(answer, ",") {
			if part != answer[:len(part)] {
				part = "," + part
			}
			_, _ = fmt.Fprint(w, part)
			w.(http.Flusher).Flush()
		}
	}
}

// long is a list of so many bytes.
func long(size int) string {
	const start, end = `{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"get-env","description":"`, `"}]}}`
	return start + strings.Repeat("x", size-len(start)-len(end)) + end
}

func TestWhatIsNoListOfToolsIsNotHeard(t *testing.T) {
	h := &heard{}
	up := gatewaytest.NewUpstream(t, func(w http.ResponseWriter, _ *http.Request) { gatewaytest.Reply(w, twoTools) })
	g := newGateway(t, testConfig(), registration(up))
	g.toolLists = h
	for _, body := range []string{ping, callEcho, strings.Replace(listTools, `"id":1,`, "", 1)} {
		require.Less(t, g.Ask(t, body).Status, 300)
	}
	h.deaf = true
	require.Equal(t, http.StatusOK, g.Ask(t, listTools).Status)
	require.Zero(t, h.count())
}

func TestAListThatIsTooLongPassesUnheard(t *testing.T) {
	h := &heard{}
	whole := long(2 * usage.MaxList)
	up := gatewaytest.NewUpstream(t, func(w http.ResponseWriter, _ *http.Request) { gatewaytest.Reply(w, whole) })
	g := newGateway(t, testConfig(), registration(up))
	g.toolLists = h
	require.Equal(t, whole, g.Ask(t, listTools).Body)
	require.Zero(t, h.count())
}

func TestListsOfToolsOnStdioAreHeard(t *testing.T) {
	h := &heard{}
	g := newGateway(t, stdioConfig(t), scriptedServer(t, "session"))
	g.toolLists = h
	session := g.open(t, "alice")
	require.Equal(t, http.StatusOK, g.Ask(t, listTools, session...).Status)
	answer, events := h.take(t)
	require.False(t, events)
	registration, message, _ := strings.Cut(answer, " ")
	require.Equal(t, g.registry.Server("up").ID, registration)
	var names []string
	require.NoError(t, itemlist.Names([]byte(message), func(tool string) { names = append(names, tool) }))
	require.NotEmpty(t, names)
}
