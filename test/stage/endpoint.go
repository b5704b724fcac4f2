package stage

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"vault-plugin-secrets-mcp/test/harness"
)

// Endpoint is one of the two endpoints of a gateway for a server. Both enforce the same
// rules.
type Endpoint int

const (
	// Single is the server's own endpoint: /servers/{name}/mcp.
	Single Endpoint = iota
	// Aggregate is the endpoint of all servers: /mcp.
	Aggregate
)

// Endpoints are both.
var Endpoints = [...]Endpoint{Single, Aggregate}

func (e Endpoint) String() string {
	if e == Aggregate {
		return "at the endpoint of all servers"
	}
	return "at the server's own endpoint"
}

// Path is a client's path to a server: an era and an endpoint.
type Path struct {
	Era string // harness.SessionEra or StatelessEra
	At  Endpoint
}

func (p Path) String() string { return "in the era of " + p.Era + ", " + p.At.String() }

// Paths are all four.
var Paths = [...]Path{
	{harness.SessionEra, Single},
	{harness.SessionEra, Aggregate},
	{harness.StatelessEra, Single},
	{harness.StatelessEra, Aggregate},
}

// URL is the server's URL for a client.
func (e Endpoint) URL(g *harness.Gateway, server string) string {
	if e == Aggregate {
		return g.URL + "/mcp"
	}
	return g.ServerURL(server)
}

// Tool is the client's name for the server's tool or prompt.
func (e Endpoint) Tool(server, name string) string {
	if e == Aggregate {
		return server + "__" + name
	}
	return name
}

// Resource is the client's URI for the server's resource.
func (e Endpoint) Resource(server, uri string) string {
	if e == Aggregate {
		return "mcp://" + server + "/" + uri
	}
	return uri
}

// Everywhere runs a test at both endpoints. Clients that it creates are gone
// before the next.
func (s *Stage) Everywhere(test func(s *Stage)) {
	s.T.Helper()
	for _, at := range Endpoints {
		s.T.Run(at.String(), func(t *testing.T) {
			view := s.In(t)
			view.At = at
			view.sessions, view.created = map[string]string{}, map[string]bool{}
			test(view)
			for name := range view.created {
				view.Delete("mcp/clients/" + name)
			}
		})
	}
}

// URL is the server's URL for the stage's clients.
func (s *Stage) URL(server string) string { return s.At.URL(s.Gateway, server) }

// Named returns a message about the calculator's tools as a client sends it.
func (s *Stage) Named(message string) string {
	if s.At == Single {
		return message
	}
	return strings.NewReplacer(
		`"add"`, `"calculator__add"`, `"\u0061dd"`, `"calculator__\u0061dd"`,
		"divide", "calculator__divide", `d\u0069vide`, `calculator__d\u0069vide`,
	).Replace(message)
}

// PostMessage sends one message of the session era. The endpoint of all servers takes
// such a message in a session only, so it is sent in one.
func (s *Stage) PostMessage(t *testing.T, token, message string) harness.Response {
	t.Helper()
	if s.At == Single {
		return s.Post(s.URL(Calculator), token, message)
	}
	if s.sessions[token] == "" {
		s.sessions[token] = OpenSession(t, s.Harness, s.URL(Calculator), token)
	}
	return s.Do(http.MethodPost, s.URL(Calculator), token, InSession(s.sessions[token]), s.Named(message))
}

// own are the methods of the gateway's own requests to a server, at the endpoint of all
// servers.
var own = map[string]bool{
	"initialize": true, "notifications/initialized": true, "server/discover": true, "subscriptions/listen": true, "ping": true,
	"tools/list": true, "prompts/list": true, "resources/list": true, "resources/templates/list": true,
}

// isOwn reports whether the request may be one of the gateway's own.
func (s *Stage) isOwn(r *harness.Request) bool {
	if s.At == Single {
		return false
	}
	if r.Method != http.MethodPost {
		return true // for a stream, or for the end of a session
	}
	var message struct{ Method string }
	return json.Unmarshal(r.Body, &message) == nil && own[message.Method]
}

// Received returns the clients' requests to the calculator since Forget.
func (s *Stage) Received() []harness.Request {
	return slices.DeleteFunc(s.Allowed.Requests(), func(r harness.Request) bool { return s.isOwn(&r) || isTrial(&r) })
}
