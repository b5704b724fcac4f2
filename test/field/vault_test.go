package field

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/bootstrap/policies"
	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/network"
)

// noticed is how soon a revocation takes effect that another leader has answered, while
// the load balancer before Vault finds out who is left.
const noticed = 20 * time.Second

// elected is how soon another leader answers: raft first misses the one that is cut off,
// by Vault's own defaults after some ten seconds.
const elected = 3 * time.Minute

// vaultNodes are Vault's machines.
func (c *company) vaultNodes() []string { return []string{"vault-1", "vault-2", "vault-3"} }

// leads is the machine of Vault's leader, and the others.
func (c *company) leads(t *testing.T) (leader string, followers []string, another *harness.Node) {
	t.Helper()
	c.Vault.AwaitLeader()
	node := c.Vault.Leader()
	for i, name := range c.vaultNodes() {
		if c.Vault.Nodes[i] == node {
			leader = name
		} else {
			followers, another = append(followers, name), c.Vault.Nodes[i]
		}
	}
	return leader, followers, another
}

// acquaintance is a client that the gateways know, with a session at nginx. It is met while
// the rest goes on, since opening the session takes a while.
type acquaintance struct {
	token   string
	opening *opening
}

// meet creates clients of these names, each with "-known" after it.
func (c *company) meet(t *testing.T, names ...string) {
	t.Helper()
	c.known = map[string]*acquaintance{}
	for _, name := range names {
		token := c.CreateClient(name+"-known", harness.Map{"allowed_servers": []string{calculator, "everything"}})
		c.known[name] = &acquaintance{token, c.opens(t, atNginx+one("everything").path, token)}
	}
}

// vaultIsCut is a row of the table "Vault": links between its nodes, or to the leader,
// are cut, while clients call, hold a stream open, and are revoked.
func (c *company) vaultIsCut(t *testing.T, name string, links func(leader string, followers []string) []network.Link) {
	t.Helper()
	known, doomed := c.known[name], c.CreateClient(name+"-doomed", harness.Map{"allowed_servers": []string{calculator, "everything"}})
	var probes, dooms []*probe
	for _, edge := range []string{atNginx, atHAProxy} {
		p := c.probe(t, edge, doomed)
		p.stop() // it calls when it is told to
		p.becomes(t, http.StatusOK, patience)
		dooms = append(dooms, p)
		p = c.probe(t, edge, known.token)
		p.becomes(t, http.StatusOK, patience)
		probes = append(probes, p)
	}
	// The token was not known when the probes began.
	for _, p := range probes {
		p.forget()
	}
	s := known.opening.opened(t)
	stream := s.streams(t, long)

	leader, followers, another := c.leads(t)
	mend := c.Cut(t, links(leader, followers))
	// A list and a call of the known token; the stream goes on.
	s.lists(t, echo)
	s.says(t, echo)
	stream.goesOn(t)
	vault := another.Client()
	vault.SetClientTimeout(2 * time.Second)
	asked := time.Now()
	c.Within(elected, "a revocation is answered", func() error {
		_, err := vault.Logical().WriteWithContext(t.Context(), "mcp/revoke-client/"+name+"-doomed", nil)
		return err
	})
	answered := time.Now()
	for _, p := range dooms {
		p.becomes(t, http.StatusUnauthorized, noticed)
	}
	t.Logf("%s: a revocation was answered after %s, and took effect %s later", name,
		answered.Sub(asked).Round(time.Millisecond), time.Since(answered).Round(time.Millisecond))
	mend()
	c.Vault.AwaitLeader()
	c.awaitFeeds()
	for _, p := range probes {
		p.neverFailed(t)
	}
	c.Write("mcp/revoke-client/"+name+"-known", nil)
	stream.ends(t)
}

// awaitFeeds waits until every gateway hears of changes.
func (c *company) awaitFeeds() {
	c.Eventually("the change feeds are up", func() error {
		for _, g := range c.gateways {
			if !strings.Contains(g.Metrics(), "\nmcp_gateway_feed_up 1\n") {
				return errors.New("one is down")
			}
		}
		return nil
	})
}

// forget resets the counts.
func (p *probe) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent, p.longest, p.failures = 0, 0, nil
}

// loginEnds is a row of the table "The gateway's own login": its token is revoked, and
// it logs in again, through the proxies between it and Vault.
func (c *company) loginEnds(t *testing.T) {
	t.Helper()
	known := c.known["login"]
	p := c.probe(t, atHAProxy, known.token)
	p.becomes(t, http.StatusOK, patience)
	p.forget()
	s := known.opening.opened(t)
	stream := s.streams(t, long)
	revoked := 0
	for _, accessor := range c.List("auth/token/accessors") {
		found, err := c.TryWrite("auth/token/lookup-accessor", harness.Map{"accessor": accessor})
		if err != nil {
			continue // it has ended since
		}
		if held, _ := found["policies"].([]any); slices.Contains(held, any(policies.GatewayName)) {
			c.Write("auth/token/revoke-accessor", harness.Map{"accessor": accessor})
			revoked++
		}
	}
	require.GreaterOrEqual(t, revoked, len(c.gateways))
	s.lists(t, echo)
	s.says(t, echo)
	stream.goesOn(t)
	// Unknown tokens pass once the gateway has logged in again.
	unknown := c.CreateClient("login-unknown", harness.Map{"allowed_servers": calculator})
	another := c.probe(t, atNginx, unknown)
	another.stop()
	another.becomes(t, http.StatusOK, patience)
	c.awaitFeeds()
	p.neverFailed(t)
	c.Write("mcp/revoke-client/login-known", nil)
	stream.ends(t)
}
