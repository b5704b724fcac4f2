package test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
)

// endpoint is one of the two ways through a gateway to a server. What is
// enforced is enforced on both.
type endpoint int

const (
	// single is the server's own: /servers/{name}/mcp.
	single endpoint = iota
	// aggregate is the one of all servers: /mcp.
	aggregate
)

var endpoints = [...]endpoint{single, aggregate}

func (e endpoint) String() string {
	if e == aggregate {
		return "at the endpoint of all servers"
	}
	return "at the server's own endpoint"
}

// path is how a client gets to a server: in an era, at an endpoint.
type path struct {
	era string
	at  endpoint
}

func (p path) String() string { return "in the era of " + p.era + ", " + p.at.String() }

var paths = [...]path{
	{harness.SessionEra, single},
	{harness.SessionEra, aggregate},
	{harness.StatelessEra, single},
	{harness.StatelessEra, aggregate},
}

// url is where a client reaches the server.
func (e endpoint) url(g *harness.Gateway, server string) string {
	if e == aggregate {
		return g.URL + "/mcp"
	}
	return g.ServerURL(server)
}

// tool is what a client calls the server's tool, or prompt.
func (e endpoint) tool(server, name string) string {
	if e == aggregate {
		return server + "__" + name
	}
	return name
}

// resource is what a client calls the server's resource.
func (e endpoint) resource(server, uri string) string {
	if e == aggregate {
		return "mcp://" + server + "/" + uri
	}
	return uri
}

// everywhere runs a test at both endpoints. Clients that it creates are gone
// before the next.
func (s *stage) everywhere(test func(s *stage)) {
	s.t.Helper()
	for _, at := range endpoints {
		s.t.Run(at.String(), func(t *testing.T) {
			view := s.in(t)
			view.at = at
			view.sessions, view.created = map[string]string{}, map[string]bool{}
			test(view)
			for name := range view.created {
				view.Delete("mcp/clients/" + name)
			}
		})
	}
}

func (s *stage) url(server string) string { return s.at.url(s.gateway, server) }

// named returns a message about the calculator's tools as a client sends it.
func (s *stage) named(message string) string {
	if s.at == single {
		return message
	}
	return strings.NewReplacer(
		`"add"`, `"calculator__add"`, `"\u0061dd"`, `"calculator__\u0061dd"`,
		"divide", "calculator__divide", `d\u0069vide`, `calculator__d\u0069vide`,
	).Replace(message)
}

// post sends one message of the session era. The endpoint of all servers takes
// such a message in a session only, so it is sent in one.
func (s *stage) post(t *testing.T, token, message string) harness.Response {
	t.Helper()
	if s.at == single {
		return s.Post(s.url(calculator), token, message)
	}
	if s.sessions[token] == "" {
		s.sessions[token] = openSession(t, s.Harness, s.url(calculator), token)
	}
	return s.Do(http.MethodPost, s.url(calculator), token, inSession(s.sessions[token]), s.named(message))
}

// openSession opens a session and returns its id.
func openSession(t *testing.T, h *harness.Harness, url, token string) string {
	t.Helper()
	opened := h.Post(url, token, `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"`+
		harness.SessionEra+`","capabilities":{},"clientInfo":{"name":"test","version":"1"}}}`)
	require.Equal(t, http.StatusOK, opened.Status, opened.Body)
	id := opened.Header.Get("Mcp-Session-Id")
	require.NotEmpty(t, id)
	h.Do(http.MethodPost, url, token, inSession(id), `{"jsonrpc":"2.0","method":"notifications/initialized"}`)
	return id
}

// inSession is the header of a message in a session.
func inSession(id string) http.Header {
	return http.Header{
		"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"},
		"Mcp-Session-Id": {id}, "Mcp-Protocol-Version": {harness.SessionEra},
	}
}

// own are the methods by which the endpoint of all servers asks a server of its
// own accord, for what it has to say to every client.
var own = map[string]bool{
	"initialize": true, "notifications/initialized": true, "server/discover": true, "subscriptions/listen": true, "ping": true,
	"tools/list": true, "prompts/list": true, "resources/list": true, "resources/templates/list": true,
}

// isOwn reports whether the gateway may have sent the request unasked.
func (s *stage) isOwn(r *harness.Request) bool {
	if s.at == single {
		return false
	}
	if r.Method != http.MethodPost {
		return true // for a stream, or for the end of a session
	}
	var message struct{ Method string }
	return json.Unmarshal(r.Body, &message) == nil && own[message.Method]
}

// received returns what clients have sent to the calculator since forget.
func (s *stage) received() []harness.Request {
	return slices.DeleteFunc(s.allowed.Requests(), func(r harness.Request) bool { return s.isOwn(&r) || isTrial(&r) })
}
