package policy

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/stage"
)

// crew are clients with one role, at several gateways.
type crew struct {
	*harness.Harness
	gateways []*harness.Gateway
	tokens   []string
	within   time.Duration // after a write, until it is in force
}

// newCrew registers two servers, and has the role admit one of them.
func newCrew(t *testing.T) *crew {
	t.Helper()
	c := &crew{Harness: harness.New(t)}
	var size int
	size, c.within = stage.Crowd(t, 12)
	for _, name := range []string{"calculator", "other"} {
		c.Write("mcp/servers/"+name, harness.Map{"transport": "http", "url": c.StartUpstream(nil).URL})
	}
	c.Write("mcp/roles/engineer", harness.Map{"allowed_servers": "calculator"})
	for i := range size {
		c.tokens = append(c.tokens, c.CreateClient(fmt.Sprintf("engineer-%d", i), harness.Map{"role": "engineer"}))
	}
	c.gateways = stage.CrowdGateways(c.Harness, size)
	return c
}

// add calls a tool, and says why it has no result.
func (c *crew) add(g *harness.Gateway, server, token string) error {
	got := c.Call(g.ServerURL(server), token, "add", `{"a":40,"b":2}`)
	if got.Status != http.StatusOK || !strings.Contains(got.Body, `"result"`) {
		return fmt.Errorf("%d %s", got.Status, got.Body)
	}
	return nil
}

// everybody calls the tool once as each client at each gateway, at most sixteen at a time,
// and returns the first answer that is not as it should be.
func (c *crew) everybody(server string, should func(error) error) error {
	var running sync.WaitGroup
	var mu sync.Mutex
	var first error
	slots := make(chan struct{}, 16)
	for _, g := range c.gateways {
		for i, token := range c.tokens {
			slots <- struct{}{}
			running.Go(func() {
				defer func() { <-slots }()
				if err := should(c.add(g, server, token)); err != nil {
					mu.Lock()
					defer mu.Unlock()
					first = errors.Join(first, fmt.Errorf("client %d at %s: %w", i, g.URL, err))
				}
			})
		}
	}
	running.Wait()
	return first
}

// passes and fails are the expected results of a call.
func passes(err error) error { return err }

func fails(err error) error {
	if err == nil {
		return errors.New("the call passed")
	}
	return nil
}

// change writes, and waits until one client at each gateway finds that it counts. It must
// count for all others at once then, and soon after the write for all that runs.
func (c *crew) change(t *testing.T, write func(), server string, should func(error) error) {
	t.Helper()
	write()
	written := time.Now()
	for _, g := range c.gateways {
		c.Within(c.within-time.Since(written), "the role's change to be in force", func() error {
			return should(c.add(g, server, c.tokens[0]))
		})
	}
	t.Logf("the first client of %d finds it in force at %d gateways %s after the write", len(c.tokens), len(c.gateways), time.Since(written).Round(time.Millisecond))
	require.NoError(t, c.everybody(server, should))
}

// TestOneWriteOfARoleIsInForceForAllItsClients changes a role in every way, while each of its
// clients is known to each gateway.
func TestOneWriteOfARoleIsInForceForAllItsClients(t *testing.T) {
	c := newCrew(t)
	require.NoError(t, c.everybody("calculator", passes))
	require.NoError(t, c.everybody("other", fails))

	role := func(fields harness.Map) func() { return func() { c.Write("mcp/roles/engineer", fields) } }
	c.change(t, role(harness.Map{"denied_tools": "calculator/add"}), "calculator", fails)
	c.change(t, role(harness.Map{"denied_tools": ""}), "calculator", passes)
	c.change(t, role(harness.Map{"allowed_servers": "calculator,other"}), "other", passes)
	c.change(t, role(harness.Map{"allowed_servers": "other"}), "calculator", fails)
	require.NoError(t, c.everybody("other", passes))

	_, err := c.Vault.Client().Logical().Delete("mcp/roles/engineer")
	require.ErrorContains(t, err, "pass force=true")
	c.change(t, func() {
		_, err := c.Vault.Client().Logical().DeleteWithData("mcp/roles/engineer", map[string][]string{"force": {"true"}})
		require.NoError(t, err)
	}, "other", fails)
	c.change(t, role(harness.Map{"allowed_servers": "other"}), "other", passes)
}
