package reliability

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"vault-plugin-secrets-mcp/test/harness"
)

const shell = "/bin/sh"

// badChildren are shells that misbehave, each with the answer to a client that starts a
// session.
var badChildren = []struct {
	name, script string
	status       int
}{
	{"it ends at once", "exit 3", 502},
	{"it reads and says nothing", "cat >/dev/null", 504},
	{"it neither reads nor speaks", "sleep 1000", 504},
	{"it says garbage without end", "yes", 504},
	{"it says one line without end", "cat /dev/zero", 502},
	{"it complains without end", "yes >&2", 504},
	{"it leaves others behind", "sleep 1000 & sleep 1000 & exit 3", 502},
	{"it answers somebody else's question", `while read -r line; do echo '{"jsonrpc":"2.0","id":99,"result":{}}'; done`, 504},
}

// TestAChildProcessMisbehaves does the same with servers that are child processes
// of the gateway.
func TestAChildProcessMisbehaves(t *testing.T) {
	s := newStage(t)
	marker := fmt.Sprintf("1000.%d", os.Getpid()) // seconds that nobody else sleeps
	blocks := map[string]string{"stdio": fmt.Sprintf("allowed_commands = [%q, %q]\nstop_timeout = \"1s\"", shell, s.Programs.Bootstrap)}
	for i, bad := range badChildren {
		name := fmt.Sprint("bad-", i)
		if bad.status == http.StatusGatewayTimeout {
			blocks[fmt.Sprintf("upstream %q", name)] = fmt.Sprintf("timeout = %q", badTimeout)
		}
		s.Write("mcp/servers/"+name, harness.Map{"transport": "stdio", "command": shell, "args": []string{"-c", strings.ReplaceAll(bad.script, "1000", marker)}})
	}
	g := s.StartGateway(harness.GatewayOptions{Blocks: blocks})
	token := s.CreateClient("c", harness.Map{"allowed_servers": "*"})
	neighbour := newCaller(t, g)
	s.becomes(t, neighbour, token, http.StatusOK, impatience)
	p := neighbour.probe(t, "calls of another server meanwhile", token)

	for i, bad := range badChildren {
		t.Run(bad.name, func(t *testing.T) {
			s := s.in(t)
			got := s.startSession(g.ServerURL(fmt.Sprint("bad-", i)), token)
			if got.Status != bad.status || !strings.Contains(got.Body, `"request_id":"`) {
				t.Errorf("answered %d, want %d: %s", got.Status, bad.status, got.Body)
			}
			if bad.status != http.StatusBadGateway {
				return
			}
			// One that has failed is not started again and again.
			if again := s.startSession(g.ServerURL(fmt.Sprint("bad-", i)), token); again.Status < 500 {
				t.Errorf("answered %d: %s", again.Status, again.Body)
			}
		})
	}

	s.Write("mcp/servers/bad-0", harness.Map{"transport": "stdio", "command": s.Programs.Bootstrap, "args": []string{"demo", "notes"}})
	s.Within(impatience, "the server that was repaired answers", func() error {
		if got := s.startSession(g.ServerURL("bad-0"), token); got.Status != http.StatusOK {
			return fmt.Errorf("it is answered %d %s", got.Status, got.Body)
		}
		return nil
	})
	p.stop()
	p.neverFailed(t)
	s.Write("mcp/revoke-client/c", nil)
	wantNoneLeft(t, g, marker)
}

// initialize is a client's handshake.
const initialize = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"` + harness.SessionEra +
	`","capabilities":{},"clientInfo":{"name":"c","version":"1"}}}`

// startSession asks a server for a session, by a client that takes no stream for an
// answer: it waits until there is one, or the gateway gives up.
func (s *stage) startSession(url, token string) harness.Response {
	return s.Do(http.MethodPost, url, token, http.Header{
		"Content-Type": {"application/json"}, "Accept": {"application/json"},
	}, initialize)
}
