package field

import (
	"path/filepath"
	"testing"

	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/mcpclient"
	"vault-plugin-secrets-mcp/test/network"
)

// TestCompany is the whole test: first everything that works at the same time, then the
// failures.
func TestCompany(t *testing.T) {
	c := newCompany(t)
	c.register(t)
	// They are open while all the rest happens.
	var silent []*silence
	for name, url := range map[string]string{
		"silent-all-nginx": atNginx + "/mcp", "silent-all-haproxy": atHAProxy + "/mcp",
		"silent-one-nginx": atNginx + one("everything").path, "silent-one-haproxy": atHAProxy + one("everything").path,
	} {
		silent = append(silent, c.listens(t, name, url))
	}
	c.meet(t, "leader", "deaf", "unreached", "unheard", "login")
	t.Run("undisturbed", func(t *testing.T) { c.in(t).undisturbed(t) })
	t.Run("vault", func(t *testing.T) {
		t.Run("the leader and the followers hear nothing of each other", func(t *testing.T) {
			c.in(t).vaultIsCut(t, "leader", func(leader string, followers []string) []network.Link {
				return c.Between(leader, followers...)
			})
		})
		t.Run("the followers do not hear the leader", func(t *testing.T) {
			c.in(t).vaultIsCut(t, "deaf", func(leader string, followers []string) []network.Link {
				return c.From(leader, followers...)
			})
		})
		t.Run("the gateways, and the balancer before Vault, do not reach the leader", func(t *testing.T) {
			c.in(t).vaultIsCut(t, "unreached", func(leader string, _ []string) []network.Link {
				return c.Between(leader, "haproxy", "gateway-1", "gateway-2")
			})
		})
		t.Run("they do not hear the leader", func(t *testing.T) {
			c.in(t).vaultIsCut(t, "unheard", func(leader string, _ []string) []network.Link {
				return c.From(leader, "haproxy", "gateway-1", "gateway-2")
			})
		})
		t.Run("the gateways hear nothing of Vault", func(t *testing.T) { c.in(t).credentialsOutliveACut(t) })
		t.Run("the gateways' own tokens are revoked", func(t *testing.T) { c.in(t).loginEnds(t) })
	})
	t.Run("streams outlast the proxies' patience", func(t *testing.T) {
		for _, s := range silent {
			s.lasted(t, c.in(t))
		}
	})
	t.Run("gateways restart", func(t *testing.T) { c.in(t).gatewaysRestart(t) })
	t.Run("no child is left", func(t *testing.T) { c.in(t).childless(t) })
}

// register has the engine know every server, and waits until the gateways do.
func (c *company) register(t *testing.T) {
	t.Helper()
	address := c.Machines[network.Office].Address + ":0"
	fast := c.StartUpstreamAt(address, starlette())
	for name, url := range map[string]string{
		"everything": c.everything.url, "partner": c.partner.url, "fast": fast.URL + "/", "wrong": fast.URL,
		calculator: c.StartUpstreamAt(address, nil).URL,
	} {
		c.Write("mcp/servers/"+name, harness.Map{"transport": "http", "url": url})
	}
	c.Write("mcp/servers/slow", harness.Map{"transport": "stdio", "command": filepath.Join(c.Dir, "slow-server")})
	c.registerLeasing(t)
	c.introduce(t, c.CreateClient("first", harness.Map{"allowed_servers": "*"}), "everything", "partner", "fast", calculator)
}

// undisturbed has the checks that need every part to work, all at the same time. The
// longest begins first.
func (c *company) undisturbed(t *testing.T) {
	t.Helper()
	c.atOnce(t, map[string]func(*testing.T, *company){
		"a server that is slow":         of((*company).slowStarter),
		"a server that is slow at /mcp": of((*company).slowAmong),
	})
	t.Run("meanwhile", func(t *testing.T) {
		t.Parallel()
		c.in(t).meanwhile(t)
	})
}

// meanwhile has the checks that run while slow servers start.
func (c *company) meanwhile(t *testing.T) {
	t.Helper()
	c.atOnce(t, map[string]func(*testing.T, *company){
		"everything behind nginx":       works("everything-nginx", atNginx, one("everything")),
		"everything behind HAProxy":     works("everything-haproxy", atHAProxy, one("everything")),
		"FastMCP behind nginx":          works("fast-nginx", atNginx, one("fast")),
		"the partner behind HAProxy":    works("partner-haproxy", atHAProxy, one("partner")),
		"all servers behind nginx":      works("all-nginx", atNginx, among("everything")),
		"all servers behind HAProxy":    works("all-haproxy", atHAProxy, among("partner")),
		"behind our block for nginx":    works("our-nginx", atOurNginx, one("everything")),
		"behind our block for HAProxy":  works("our-haproxy", atOurHAProxy, one("fast")),
		"all behind our block, nginx":   works("our-nginx-all", atOurNginx, among("everything")),
		"all behind our block, HAProxy": works("our-haproxy-all", atOurHAProxy, among("fast")),
		"sign-in behind nginx":          signsIn(atNginx),
		"sign-in behind HAProxy":        signsIn(atHAProxy),
		"sign-in, our block for nginx":  signsIn(atOurNginx),
		"sign-in, our block, HAProxy":   signsIn(atOurHAProxy),
		"a slash at the end":            works("slash-one", atNginx, slash(one("everything"))),
		"a slash at the end of /mcp":    works("slash-all", atSlash, slash(among("fast"))),
		"a path of nginx":               works("slash-path", atSlash+"/tools", one("everything")),
		"a slash that is missing":       of((*company).wrongSlash),
		"a server that ends":            of((*company).serverEnds),
		"Claude Code": func(t *testing.T, c *company) {
			t.Helper()
			c.claudeWorks(t, "claude", mcpclient.Claude, atNginx+"/mcp", among("everything"))
		},
		"Claude Code, before": func(t *testing.T, c *company) {
			t.Helper()
			c.claudeWorks(t, "claude-before", mcpclient.ClaudeBefore, atHAProxy+"/mcp", among("everything"))
		},
		"mcp-remote": func(t *testing.T, c *company) {
			t.Helper()
			c.remoteWorks(t, "remote", atNginx+"/mcp", among("fast"))
		},
		"the inspector": func(t *testing.T, c *company) {
			t.Helper()
			c.commandWorks(t, "inspector", atHAProxy+one("everything").path, one("everything"), func(t *testing.T, at mcpclient.Place) mcpclient.Session {
				t.Helper()
				return c.kit().Inspect(t, at, mcpclient.WithSessions)
			})
		},
		"mcporter": func(t *testing.T, c *company) {
			t.Helper()
			c.commandWorks(t, "mcporter", atNginx+one("partner").path, one("partner"), func(t *testing.T, at mcpclient.Place) mcpclient.Session {
				t.Helper()
				return c.kit().Mcporter(t, at)
			})
		},
	})
}

// atOnce runs tests at the same time.
func (c *company) atOnce(t *testing.T, tests map[string]func(*testing.T, *company)) {
	t.Helper()
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, c.in(t))
		})
	}
}

// works is [company.works] as a test.
func works(client, edge string, to target) func(*testing.T, *company) {
	return func(t *testing.T, c *company) {
		t.Helper()
		c.works(t, client, edge, to)
	}
}

// of is a method as a test.
func of(method func(*company, *testing.T)) func(*testing.T, *company) {
	return func(t *testing.T, c *company) {
		t.Helper()
		method(c, t)
	}
}

// slash has the path end with one.
func slash(to target) target {
	to.path += "/"
	return to
}
