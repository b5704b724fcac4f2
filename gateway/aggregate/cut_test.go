package aggregate

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/grants/grantstest"
)

// The end of access ends a list at every server, whether or not the client still waits for
// it.
func TestTheEndOfAccessEndsAListThatIsUnderWay(t *testing.T) {
	tests := map[string]struct {
		end func(s *stage)
		cut bool // the client's request ends too
	}{
		"the token is revoked":  {func(s *stage) { s.vault.Revoke(alice) }, true},
		"the servers are taken": {func(s *stage) { s.vault.AddToken(alice, "alice", grantstest.Data{"allowed_servers": []string{}}) }, false},
		"the servers are re-pointed": {func(s *stage) {
			for _, name := range []string{"one", "two"} {
				s.vault.Register(name, grantstest.Data{"id": "another-" + name, "transport": "http", "url": "http://127.0.0.1:9/"})
			}
		}, false},
	}
	for name, test := range tests {
		for _, waits := range []bool{true, false} {
			t.Run(name+map[bool]string{true: ", and the client waits", false: ", and nobody waits"}[waits], func(t *testing.T) {
				var running atomic.Int32
				hangs := func(w http.ResponseWriter, r *http.Request, method, body string) {
					if method == "server/discover" {
						reply(w, body, `{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"resultType":"complete"}`)
						return
					}
					running.Add(1)
					defer running.Add(-1)
					<-r.Context().Done()
				}
				s := newStage(t, map[string]string{"one": newFake(t, hangs).URL, "two": newFake(t, hangs).URL})
				s.handler.listWait = time.Minute
				if !waits {
					s.handler.listWait = time.Millisecond
				}
				body, pairs := stateless("1", "tools/list", "")
				answered := make(chan string, 1)
				go func() {
					r, err := s.do(body, pairs...)
					if err != nil {
						answered <- err.Error()
						return
					}
					defer r.Body.Close()
					text, _ := io.ReadAll(r.Body)
					answered <- r.Status + string(text)
				}()
				eventually(t, "both to be asked", func() bool { return running.Load() == 2 })
				if !waits {
					require.Contains(t, await(t, answered), `"tools":[]`)
				}
				test.end(s)
				eventually(t, "both to be let go", func() bool { return running.Load() == 0 })
				if waits {
					require.Equal(t, test.cut, strings.HasPrefix(await(t, answered), "401"))
				}
			})
		}
	}
}
