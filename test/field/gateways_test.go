package field

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/mcpclient"
)

// gatewaysRestart is a row of the table "Gateways": they are restarted one after the
// other. No request is lost, a session with an HTTP server goes on, and a client that
// had a session of /mcp gets an answer that clients understand: Claude Code goes on
// calling its tools.
func (c *company) gatewaysRestart(t *testing.T) {
	t.Helper()
	token := c.CreateClient("restart", harness.Map{"allowed_servers": []string{calculator, "everything"}})
	c.introduce(t, token, "everything")
	var probes []*probe
	for _, edge := range []string{atNginx, atHAProxy} {
		p := c.probe(t, edge, token)
		p.becomes(t, http.StatusOK, patience)
		p.forget()
		probes = append(probes, p)
	}
	url := atNginx + one("everything").path
	header := c.begins(t, url, token)
	goesOn := func() {
		got := c.Do(http.MethodPost, url, token, header, `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"`+echo+`","arguments":{"message":"hi"}}}`)
		require.Equal(t, http.StatusOK, got.Status, got.Body)
		require.Contains(t, got.Body, "Echo: hi")
	}
	goesOn()

	// Both releases call a tool, wait for the gateways, and call it again.
	var waiting, done sync.WaitGroup
	restarted := make(chan struct{})
	models := map[string]*mcpclient.Model{}
	for name, release := range releases {
		waiting.Add(1)
		ready := sync.OnceFunc(waiting.Done)
		step := mcpclient.Step{Tool: "mcp__it__" + among("everything").echo, Arguments: harness.Map{"message": "hi"}}
		again := step
		again.Before = func() {
			ready()
			<-restarted
		}
		m := mcpclient.NewModel(t, step, again)
		models[name] = m
		cmd := c.kit().Claude(t, release, mcpclient.ClaudeHome(t, atHAProxy+"/mcp"), m, token, "-p", "Say hi.", "--allowedTools", m.Tools())
		done.Go(func() {
			defer ready() // where it ends too early
			if _, err := mcpclient.Output(cmd); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	waiting.Wait()
	for _, g := range c.gateways {
		g.Restart()
		c.awaitFeeds()
		goesOn()
	}
	c.awaitBalancer(t)
	another := c.opens(t, url, token)
	close(restarted)
	done.Wait()
	for name, m := range models {
		answers := m.Answers()
		require.Len(t, answers, 2, name)
		for _, answer := range answers {
			require.Contains(t, answer, "Echo: hi", name)
		}
	}
	for _, p := range probes {
		p.neverFailed(t)
	}
	s := another.opened(t)
	s.lists(t, echo)
	stream := s.streams(t, long)
	c.Write("mcp/revoke-client/restart", nil)
	stream.ends(t)
}

// awaitBalancer waits until HAProxy sends requests to every gateway. While it is about
// to find one again, a session of /mcp begins at one gateway, and is unknown to the
// other, to which its next request goes.
func (c *company) awaitBalancer(t *testing.T) {
	t.Helper()
	c.Eventually("HAProxy has found every gateway", func() error {
		state := map[string]string{}
		for _, line := range gatewayState.FindAllStringSubmatch(read(t, c.Dir, "haproxy.log"), -1) {
			state[line[1]] = line[2]
		}
		if len(state) < len(c.gateways) {
			return errors.New("it has not looked at each")
		}
		for gateway, is := range state {
			if is != "UP" {
				return fmt.Errorf("%s is %s", gateway, is)
			}
		}
		return nil
	})
}

// gatewayState is a line of HAProxy about a gateway.
var gatewayState = regexp.MustCompile(`(?m)^Server gateways/(\S+) is (UP|DOWN)`)

// releases are those of Claude Code.
var releases = map[string]mcpclient.Release{
	"Claude Code":         mcpclient.Claude,
	"Claude Code, before": mcpclient.ClaudeBefore,
}
