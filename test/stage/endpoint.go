package stage

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"vault-plugin-secrets-mcp/test/harness"
)

// Endpoint is one of the two ways through a gateway to a server. What is
// enforced is enforced on both.
type Endpoint int

const (
	// Single is the server's own: /servers/{name}/mcp.
	Single Endpoint = iota
	// Aggregate is the one of all servers: /mcp.
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

// Path is how a client gets to a server: in an era, at an endpoint.
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

// URL is where a client reaches the server.
func (e Endpoint) URL(g *harness.Gateway, server string) string {
	if e == Aggregate {
		return g.URL + "/mcp"
	}
	return g.ServerURL(server)
}

// Tool is what a client calls the server's tool, or prompt.
func (e Endpoint) Tool(server, name string) string {
	if e == Aggregate {
		return server + "__" + name
	}
	return name
}

// Resource is what a client calls the server's resource.
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

// URL is where the stage's clients reach the server.
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

// own are the methods by which the endpoint of all servers asks a server of its
// own accord, for what it has to say to every client.
var own = map[string]bool{
	"initialize": true, "notifications/initialized": true, "server/discover": true, "subscriptions/listen": true, "ping": true,
	"tools/list": true, "prompts/list": true, "resources/list": true, "resources/templates/list": true,
}

// isOwn reports whether the gateway may have sent the request unasked.
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

// Received returns what clients have sent to the calculator since Forget.
func (s *Stage) Received() []harness.Request {
	return slices.DeleteFunc(s.Allowed.Requests(), func(r harness.Request) bool { return s.isOwn(&r) || isTrial(&r) })
}
