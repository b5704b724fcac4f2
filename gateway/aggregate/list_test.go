package aggregate

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/gatewaytest"
	"vault-plugin-secrets-mcp/gateway/grants/grantstest"
)

func TestListsAreMerged(t *testing.T) {
	calc, notes := modern(t, "add", textResult), modern(t, "read", textResult)
	s := newStage(t, map[string]string{"calc": calc.URL, "notes": notes.URL})
	g := s.asks("1", "tools/list", "")
	require.Equal(t, http.StatusOK, g.status, g.body)
	require.Equal(t, `{"jsonrpc":"2.0","id":1,"result":{"tools":[`+
		`{"name":"calc__add","inputSchema":{"type":"object"},"x":12345678901234567890},`+
		`{"name":"notes__read","inputSchema":{"type":"object"},"x":12345678901234567890}],`+
		`"ttlMs":5000,"cacheScope":"private","resultType":"complete"}}`, g.body)
	g = s.asks("1", "tools/list", "", "Authorization", "", ":token", bob)
	require.Equal(t, []string{"calc__add"}, toolsIn(t, g.body), "of what the client may reach")
}

func TestADeadServerCostsItsOwnEntriesAlone(t *testing.T) {
	calc, notes := modern(t, "add", textResult), modern(t, "read", textResult)
	s := newStage(t, map[string]string{"calc": calc.URL, "notes": notes.URL, "gone": "http://127.0.0.1:9/mcp"})
	require.Equal(t, []string{"calc__add", "notes__read"}, toolsIn(t, s.asks("1", "tools/list", "").body))
	notes.Close()
	require.Equal(t, []string{"calc__add", "notes__read"}, toolsIn(t, s.asks("1", "tools/list", "").body), "the last good list")
	require.Contains(t, s.log.String(), "a server is absent from the lists of /mcp: server=gone")
	require.Contains(t, s.log.String(), "a server is absent from the lists of /mcp: server=notes")
}

func TestASlowServerCostsItsOwnEntriesAlone(t *testing.T) {
	release := make(chan struct{})
	slow := newFake(t, func(w http.ResponseWriter, _ *http.Request, method, body string) {
		switch method {
		case "server/discover":
			<-release
			reply(w, body, `{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"resultType":"complete"}`)
		case "tools/list":
			reply(w, body, `{"tools":[{"name":"late"}]}`)
		}
	})
	s := newStage(t, map[string]string{"calc": modern(t, "add", textResult).URL, "slow": slow.URL})
	s.handler.listWait = 20 * time.Millisecond
	options, h := listening()
	var once sync.Once
	defer once.Do(func() { close(release) })
	client := s.connect(alice, "2026-07-28", options)
	// The other server may be late once, too. It is listed when it has answered.
	gatewaytest.Eventually(t, "the other server to be listed", func() bool { return slices.Equal([]string{"calc__add"}, listed(t, client)) })
	asked := slow.count()
	require.Equal(t, []string{"calc__add"}, listed(t, client))
	require.Equal(t, asked, slow.count(), "it is left alone for a while")
	require.Contains(t, s.log.String(), "a server is absent from the lists of /mcp: server=slow")
	h.drain()
	once.Do(func() { close(release) })
	h.await(t, "tools")
	gatewaytest.Eventually(t, "the server to be back", func() bool { return len(listed(t, client)) == 2 })
}

func TestAServerThatComesBackIsHeardOf(t *testing.T) {
	var dead atomic.Bool
	dead.Store(true)
	server := sdk.NewServer(&sdk.Implementation{Name: "notes", Version: "1"}, nil)
	addEcho(server)
	inner := sdk.NewStreamableHTTPHandler(func(*http.Request) *sdk.Server { return server }, nil)
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if dead.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	for name, version := range map[string]string{"without sessions": "2026-07-28", "with sessions": "2025-11-25"} {
		t.Run(name, func(t *testing.T) {
			dead.Store(true)
			s := newStage(t, map[string]string{"calc": modern(t, "add", textResult).URL, "notes": url})
			options, h := listening()
			client := s.connect(alice, version, options)
			require.Equal(t, []string{"calc__add"}, listed(t, client))
			s.awaitStream()
			h.drain()
			dead.Store(false)
			h.await(t, "tools")
			require.Equal(t, []string{"calc__add", "notes__echo"}, listed(t, client))
		})
	}
}

func TestPagesOfAllServersAreFollowed(t *testing.T) {
	paged := func(name string) string {
		return newFake(t, func(w http.ResponseWriter, _ *http.Request, method, body string) {
			switch {
			case method == "server/discover":
				reply(w, body, `{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"resultType":"complete"}`)
			case strings.Contains(body, `"cursor":"second `+name+`"`):
				reply(w, body, `{"tools":[{"name":"b"}]}`)
			case strings.Contains(body, `"cursor"`):
				replyError(w, body, http.StatusOK, -32602)
			default:
				reply(w, body, `{"tools":[{"name":"a"}],"nextCursor":"second `+name+`"}`)
			}
		}).URL
	}
	s := newStage(t, map[string]string{"one": paged("one"), "two": paged("two"), "calc": modern(t, "add", textResult).URL})
	first := s.asks("1", "tools/list", "").body
	require.Equal(t, []string{"calc__add", "one__a", "two__a"}, toolsIn(t, first))
	var page struct{ Result struct{ NextCursor string } }
	require.NoError(t, json.Unmarshal([]byte(first), &page))
	second := s.asks("2", "tools/list", `"cursor":"`+page.Result.NextCursor+`"`).body
	require.Equal(t, []string{"one__b", "two__b"}, toolsIn(t, second))
	require.NotContains(t, second, "nextCursor")
	for name, params := range map[string]string{
		"made up": `"cursor":"x"`, "of another type": `"cursor":1`,
	} {
		g := s.asks("3", "tools/list", params)
		require.Contains(t, g.body, `"error":{"code":-32602`, name)
	}
	g := s.asks("4", "prompts/list", `"cursor":"`+page.Result.NextCursor+`"`)
	require.Contains(t, g.body, `"error":{"code":-32602`, "of another list")
}

func TestListsOfClientsWithToolRulesAreFiltered(t *testing.T) {
	calc := newFake(t, func(w http.ResponseWriter, _ *http.Request, method, body string) {
		if method == "tools/list" {
			reply(w, body, `{"tools":[{"name":"add"},{"name":"erase"}]}`)
			return
		}
		reply(w, body, `{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"resultType":"complete"}`)
	})
	s := newStage(t, map[string]string{"calc": calc.URL})
	require.Equal(t, []string{"calc__add", "calc__erase"}, toolsIn(t, s.asks("1", "tools/list", "").body))
	calc.Close()
	s.vault.AddToken(alice, "alice", grantstest.Data{"denied_tools": []string{"calc/erase"}})
	gatewaytest.Eventually(t, "the rules to be known", func() bool { return len(toolsIn(t, s.asks("1", "tools/list", "").body)) == 1 })
	require.Equal(t, []string{"calc__add"}, toolsIn(t, s.asks("1", "tools/list", "").body), "the last good list too")
}
