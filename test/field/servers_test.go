package field

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
)

// serverEnds is a row of the table "MCP servers": a server from npm is killed and
// started again while sessions are open. It then knows none of them, and says so with
// 400, as the TypeScript SDK's own example does.
func (c *company) serverEnds(t *testing.T) {
	t.Helper()
	server := c.startServer(t, "servers", 3002)
	c.Write("mcp/servers/mortal", harness.Map{"transport": "http", "url": server.url})
	token := c.CreateClient("mortal", harness.Map{"allowed_servers": []string{"mortal", calculator}})
	c.introduce(t, token, "mortal")
	neighbour := c.probe(t, atHAProxy, token)
	neighbour.becomes(t, http.StatusOK, patience)
	neighbour.forget()
	merged, itself := c.open(t, atNginx+"/mcp", token), c.open(t, atHAProxy+one("mortal").path, token)
	merged.says(t, among("mortal").echo)
	itself.says(t, echo)
	stream := itself.streams(t, long)

	server.Kill()
	select { // the call cannot be answered any more, and the client hears of it
	case err := <-stream.done:
		require.Error(t, err)
	case <-time.After(patience):
		t.Fatal("a call of a server that was killed has no end")
	}
	require.Error(t, merged.call(t, among("mortal").echo))
	server.again(t)
	// At /mcp the sessions with servers are the gateway's, and so is their end.
	merged.lists(t, among("mortal").echo)
	merged.says(t, among("mortal").echo)
	// At the server's own path the session is between client and server: the client
	// hears that it is over, and begins another.
	again := c.open(t, atHAProxy+one("mortal").path, token)
	again.lists(t, echo)
	again.says(t, echo)
	stream = again.streams(t, long)
	c.Write("mcp/revoke-client/mortal", nil)
	stream.ends(t)
	neighbour.stop()
}

// wrongSlash: a server that was registered without the slash at its end, and wants it,
// cannot be reached; and the gateway's log says where the server is instead.
func (c *company) wrongSlash(t *testing.T) {
	t.Helper()
	token := c.CreateClient("wrong", harness.Map{"allowed_servers": "wrong"})
	c.In(t).Eventually("the redirect is told", func() error {
		got := c.Post(atNginx+one("wrong").path, token, `{"jsonrpc":"2.0","id":1,"method":"ping"}`)
		if got.Status != http.StatusBadGateway {
			return fmt.Errorf("it is answered %d %s", got.Status, got.Body)
		}
		return nil
	})
	c.Eventually("the log has the status and the Location", func() error {
		for _, g := range c.gateways {
			log, err := os.ReadFile(g.Process.Log())
			require.NoError(t, err)
			for line := range strings.Lines(string(log)) {
				if strings.Contains(line, "307") && strings.Contains(line, "/mcp/") {
					return nil
				}
			}
		}
		return errors.New("it has not")
	})
}

// slowStarter is a row of the table "Child processes", of a child that takes half a
// minute to start: its client waits for it, everybody else does not, and with the
// client's token its process ends.
func (c *company) slowStarter(t *testing.T) {
	t.Helper()
	token := c.CreateClient("slow", harness.Map{"allowed_servers": "slow"})
	started := time.Now()
	s := c.open(t, atNginx+one("slow").path, token)
	t.Logf("it answers after %s", time.Since(started).Round(time.Second))
	s.lists(t, echo)
	s.says(t, echo)
	stream := s.streams(t, long)
	require.NotEmpty(t, c.children(t))
	c.Write("mcp/revoke-client/slow", nil)
	stream.ends(t)
	c.refused(t, atNginx+one("slow").path, token)
}

// slowAmong is the same at /mcp, of a client who does not listen for changes: the first
// list that it asks for has the tools of the slow server, since there are no others.
func (c *company) slowAmong(t *testing.T) {
	t.Helper()
	token := c.CreateClient("slow-among", harness.Map{"allowed_servers": "slow"})
	s := c.open(t, atHAProxy+"/mcp", token)
	s.lists(t, among("slow").echo)
	s.says(t, among("slow").echo)
	stream := s.streams(t, among("slow").long)
	c.Write("mcp/revoke-client/slow-among", nil)
	stream.ends(t)
}

// children are the processes that gateways have started.
func (c *company) children(t *testing.T) []int {
	t.Helper()
	var pids []int
	for _, g := range c.gateways {
		pid := strconv.Itoa(g.Process.Pid())
		threads, err := os.ReadDir("/proc/" + pid + "/task")
		if err != nil {
			continue // it has ended
		}
		for _, thread := range threads {
			content, err := os.ReadFile("/proc/" + pid + "/task/" + thread.Name() + "/children")
			if err != nil {
				continue
			}
			for _, child := range strings.Fields(string(content)) {
				pid, err := strconv.Atoi(child)
				require.NoError(t, err)
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// childless fails the test unless all of them end.
func (c *company) childless(t *testing.T) {
	t.Helper()
	c.Eventually("no child is left", func() error {
		if pids := c.children(t); len(pids) > 0 {
			return fmt.Errorf("there are %v", pids)
		}
		return nil
	})
}
