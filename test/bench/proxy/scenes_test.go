package proxy

import (
	"fmt"
	"net/http"
	"slices"
	"testing"

	"vault-plugin-secrets-mcp/test/bench/measure"
	"vault-plugin-secrets-mcp/test/bench/report"
	"vault-plugin-secrets-mcp/test/harness"
)

// shape is what a request and its answer look like.
type shape struct {
	text int    // bytes of the tool's argument, and about those of its result
	era  string // of the protocol
}

var (
	small   = shape{200, harness.StatelessEra}
	large   = shape{64 << 10, harness.StatelessEra}
	session = shape{200, harness.SessionEra}
	huge    = shape{1 << 20, harness.StatelessEra}

	largeSession = shape{64 << 10, harness.SessionEra}
)

const huge1MB = "1 MB, JSON"

func (s shape) call(at measure.Place, token, sessionID string) []byte {
	return measure.Call(at, s.era, token, sessionID, s.text)
}

// answered is what a tool's answer has, and a refusal does not.
const answered = `"result":`

// builder makes the cells.
type builder struct {
	t     testing.TB
	s     *stage
	cells []*cell
}

// cells are all lines of the table, in its order.
func cells(t testing.TB, s *stage) []*cell {
	t.Helper()
	m := &builder{t: t, s: s}
	m.threeWays(report.Small, serverJSON, small)
	m.more(report.Small, small, session, s.session("small"), s.session("small-aggregate"))
	m.threeWays(report.Large, serverJSON, large)
	m.more(report.Large, large, largeSession, s.session("large"), s.session("large-aggregate"))
	m.throughTLS(report.SmallTLS, small)
	m.throughTLS(report.LargeTLS, large)
	m.lists(report.LongList)
	m.alone(report.Alone)
	m.threeWays("200 B, stream", serverSSE, small)
	m.threeWays("64 KB, stream", serverSSE, large)
	m.threeWays(huge1MB, serverJSON, huge)
	m.aggregate(huge1MB, huge)
	m.otherTokens()
	m.otherUpstreams()
	m.refusals()
	return m.cells
}

// add makes one cell for each number of connections. It is compared with the plain proxy of
// a scene.
func (m *builder) add(c cell, beside string, numbers ...int) {
	m.addBeside(c, beside, report.ReverseProxy, numbers...)
}

// addBeside is add for one that is compared with another target.
func (m *builder) addBeside(c cell, scene, target string, numbers ...int) {
	for _, n := range numbers {
		made := c
		made.Connections = n
		for _, other := range m.cells {
			if other.Scene == scene && other.Target == target && other.Connections == n {
				made.beside = other
			}
		}
		m.cells = append(m.cells, &made)
	}
}

// threeWays asks the upstream itself, through the plain proxy, and through the
// gateway.
func (m *builder) threeWays(scene, server string, is shape) {
	s := m.s
	for _, way := range []struct {
		target  string
		at      measure.Place
		pid     int
		gateway *harness.Gateway
	}{
		{report.Direct, measure.Place{Address: s.direct.Address, Path: "/" + server, Tool: measure.Tool}, s.direct.Pid, nil},
		{report.ReverseProxy, measure.Place{Address: s.proxy.Address, Path: "/" + server, Tool: measure.Tool}, s.proxy.Pid, nil},
		{report.Server, measure.At(s.warm, server), 0, s.warm},
	} {
		beside := scene
		if way.target != report.Server {
			beside = ""
		}
		m.add(cell{
			Scene: scene, Target: way.target, requests: [][]byte{is.call(way.at, s.token, "")},
			status: http.StatusOK, contains: answered, pid: way.pid, gateway: way.gateway,
		}, beside, report.Connections...)
	}
}

// more asks at `/mcp` as well, and both with a session for each connection. Each of the tokens
// is of a client of its own, which has as many sessions as it may.
func (m *builder) more(scene string, stateless, session shape, server, aggregate string) {
	m.sessions(scene, report.ServerSessions, measure.At(m.s.warm, serverJSON), session, server)
	m.aggregate(scene, stateless)
	m.sessions(scene, report.AggregateSessions, m.all(), session, aggregate)
}

func (m *builder) sessions(scene, target string, at measure.Place, of shape, token string) {
	m.add(cell{
		Scene: scene, Target: target, requests: m.eachSession(at, of, token), own: true,
		status: http.StatusOK, contains: answered, gateway: m.s.warm,
	}, scene, report.Connections...)
}

func (m *builder) aggregate(scene string, of shape) {
	m.add(cell{
		Scene: scene, Target: report.Aggregate, requests: [][]byte{of.call(m.all(), m.s.token, "")},
		status: http.StatusOK, contains: answered, gateway: m.s.warm,
	}, scene, report.Connections...)
}

// all is all servers as one.
func (m *builder) all() measure.Place {
	return measure.Place{Address: measure.Host(m.s.warm), Path: "/mcp", Tool: serverJSON + "__" + measure.Tool}
}

// alone has the memory of a gateway that answers nothing but this.
func (m *builder) alone(scene string) {
	s := m.s
	m.add(cell{Scene: scene, Target: report.AtRest, gateway: s.alone}, "", 0)
	m.add(cell{
		Scene: scene, Target: report.Server, requests: [][]byte{small.call(measure.At(s.alone, serverJSON), s.token, "")},
		status: http.StatusOK, contains: answered, gateway: s.alone,
	}, "", 64)
}

// throughTLS is threeWays with TLS between the clients and what is measured, and
// between that and the upstream.
func (m *builder) throughTLS(scene string, is shape) {
	s := m.s
	for _, way := range []cell{
		{Target: report.Direct, at: s.directTLS.Address, pid: s.directTLS.Pid},
		{Target: report.ReverseProxy, at: s.proxyTLS.Address, pid: s.proxyTLS.Pid},
		{Target: report.Server, gateway: s.warmTLS},
	} {
		place, beside := measure.Place{Address: way.at, Path: "/json", Tool: measure.Tool}, scene
		if way.gateway != nil {
			place = measure.At(s.warmTLS, serverTLS)
		}
		if way.gateway == nil {
			beside = ""
		}
		way.Scene, way.requests, way.tls = scene, [][]byte{is.call(place, s.token, "")}, s.secure.Files
		way.status, way.contains = http.StatusOK, answered
		m.add(way, beside, report.Connections...)
	}
}

// lists asks for a long list, which the gateway answers at /mcp with every name
// changed.
func (m *builder) lists(scene string) {
	s := m.s
	for _, way := range []cell{
		{Target: report.ReverseProxy, at: s.proxy.Address, pid: s.proxy.Pid},
		{Target: report.Server, gateway: s.warm},
		{Target: report.Aggregate, gateway: s.warm},
	} {
		place := measure.Place{Address: way.at, Path: "/" + serverList}
		switch {
		case way.Target == report.Server:
			place = measure.At(s.warm, serverList)
		case way.gateway != nil:
			place = measure.Place{Address: measure.Host(s.warm), Path: "/mcp"}
		}
		way.Scene, way.requests = scene, [][]byte{measure.List(place, s.lister)}
		way.status, way.contains = http.StatusOK, `tool_99"`
		beside := scene
		if way.Target == report.ReverseProxy {
			beside = ""
		}
		m.add(way, beside, report.Connections...)
	}
}

// eachToken is one call for each of the many tokens.
func (m *builder) eachToken(g *harness.Gateway) [][]byte {
	calls := make([][]byte, 0, len(m.s.tokens))
	for _, token := range m.s.tokens {
		calls = append(calls, small.call(measure.At(g, serverJSON), token, ""))
	}
	return calls
}

func (m *builder) otherTokens() {
	s := m.s
	ok := cell{Scene: "tokens", status: http.StatusOK, contains: answered}

	many := ok
	many.Target, many.requests, many.gateway = fmt.Sprintf("%d tokens in turn", len(s.tokens)), m.eachToken(s.warm), s.warm
	m.add(many, report.Small, report.Connections...)

	sealed := ok
	sealed.Target, sealed.gateway = "a token sealed under KMS", s.warm
	sealed.requests = [][]byte{small.call(measure.At(s.warm, serverJSON), s.sealed, "")}
	m.add(sealed, report.Small, report.Connections...)

	cold := ok
	cold.Target, cold.requests, cold.gateway = report.Cold, m.eachToken(s.cold), s.cold
	cold.count = len(s.tokens)
	cold.before = func() {
		s.cold.Kill()
		s.cold.Restart()
	}
	m.add(cold, report.Small, 1, 8)

	uncached := ok
	uncached.Target, uncached.requests, uncached.gateway = "no room in the cache: Vault is asked each time", m.eachToken(s.uncached), s.uncached
	m.add(uncached, report.Small, report.Connections...)
}

// credentials compares a server whose credentials are leased with one that has the same
// header in its registration. The difference is small, so both take many turns.
func credentials(t testing.TB, s *stage) []*cell {
	t.Helper()
	m := &builder{t: t, s: s}
	const scene, static = "credentials of the server", "static headers"
	for _, n := range report.Connections {
		is := cell{Scene: scene, status: http.StatusOK, contains: answered, gateway: s.warm}
		is.Target, is.requests = static, [][]byte{small.call(measure.At(s.warm, serverStatic), s.lessee, "")}
		m.add(is, "", n)
		is.Target, is.requests = "leased from Vault", [][]byte{small.call(measure.At(s.warm, serverLeased), s.lessee, "")}
		is.turns = 2
		m.addBeside(is, scene, static, n)
	}
	return m.cells
}

func (m *builder) otherUpstreams() {
	s := m.s
	m.add(cell{
		Scene: "upstreams", Target: "a child process (stdio)", requests: [][]byte{small.call(measure.At(s.warm, serverStdio), s.token, "")},
		status: http.StatusOK, contains: answered, gateway: s.warm,
	}, report.Small, report.Connections...)
}

// eachSession is a call in one session for each of as many connections as there may be.
func (m *builder) eachSession(at measure.Place, of shape, token string) [][]byte {
	calls := make([][]byte, 0, slices.Max(report.Connections))
	for range cap(calls) {
		calls = append(calls, of.call(at, token, m.s.open(m.t, at, token)))
	}
	return calls
}

func (m *builder) refusals() {
	s := m.s
	unknown := "mcpt_" + "this-is-no-token-but-has-the-length-of-one-000"
	at := measure.At(s.warm, serverJSON)
	for _, refused := range []struct {
		target   string
		at       measure.Place
		token    string
		status   int
		contains string
	}{
		{"no token", at, "", http.StatusUnauthorized, "access token"},
		{"a malformed token", at, unknown, http.StatusUnauthorized, "not valid"},
		{"a token that Vault does not know", at, "custom-token-of-nobody-at-all-0001", http.StatusUnauthorized, "not valid"},
		{"a server that is not allowed", measure.At(s.warm, forbidden), s.token, http.StatusForbidden, "may not reach"},
		{"a tool that is not allowed", at, s.tamed, http.StatusOK, `"error":`},
	} {
		m.add(cell{
			Scene: "refusals", Target: refused.target, requests: [][]byte{small.call(refused.at, refused.token, "")},
			status: refused.status, contains: refused.contains, refused: true, gateway: s.warm,
		}, report.Small, 8)
	}
}

// address is where the cell's requests go.
func (c *cell) address(s *stage) string {
	switch {
	case c.gateway != nil:
		return measure.Host(c.gateway)
	case c.at != "":
		return c.at
	case c.Target == report.ReverseProxy:
		return s.proxy.Address
	}
	return s.direct.Address
}
