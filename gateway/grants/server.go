package grants

// Transports of a registered server.
const (
	TransportHTTP  = "http"  // streamable HTTP
	TransportSSE   = "sse"   // HTTP+SSE of 2024-11-05
	TransportStdio = "stdio" // a child process of the gateway
)

// Server is one entry of the registry. It is immutable: a changed registration
// is another Server, so a pointer taken at a request's start stays valid, and
// tells the truth about that request, to its end.
//
// Env, Headers and the query of URL hold the upstream's own credentials. They
// must appear in no log line, no error and no answer.
type Server struct {
	Name string

	// ID identifies the registration. It changes when the server is re-pointed,
	// or deleted and created anew, and is what sessions are bound to.
	ID string

	Transport string // one of the constants above

	URL     string            // transports http and sse
	Headers map[string]string // transports http and sse: sent on every request

	Command string            // transport stdio: an absolute path, or the name of a program that the gateway's file allows
	Args    []string          // transport stdio
	Env     map[string]string // transport stdio: the child's whole environment

	// Shared allows one child process to serve all clients.
	Shared bool
}

// String names the server and keeps its credentials out of logs.
func (s *Server) String() string {
	if s == nil {
		return "<no server>"
	}
	return s.Name
}

// GoString does the same for %#v.
func (s *Server) GoString() string { return s.String() }
