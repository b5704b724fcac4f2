package access

import (
	"io"
	"net/http"
	"strconv"
	"strings"
)

// aggregatePath is the endpoint of all servers of a client, and ends the path of a single one.
const aggregatePath = "/mcp"

// route returns the handler for the request's path, the server that the path names, if it
// names one, and the resource, if it is one; nil where there is none. A slash at the end
// changes nothing: many clients and proxies add one.
func (g *Gate) route(r *http.Request) (next http.Handler, server, resource string) {
	if r.URL.RawPath != "" {
		return nil, "", ""
	}
	path := strings.TrimSuffix(r.URL.Path, "/")
	if rest, ok := strings.CutPrefix(path, SignInPath); ok && g.base != "" {
		if next, server = g.endpoint(rest); next != nil {
			resource = g.base + path
		}
		return next, server, resource
	}
	next, server = g.endpoint(path)
	return next, server, ""
}

// endpoint returns the handler of an MCP endpoint, and the server that the path names.
func (g *Gate) endpoint(path string) (next http.Handler, server string) {
	server, ok := endpointOf(path)
	switch {
	case !ok:
		return nil, ""
	case server == "":
		return g.options.Aggregate, ""
	}
	return g.options.Next, server
}

// serversPath is the prefix of single servers' paths.
const serversPath = "/servers/"

// endpointOf reads the path of an MCP endpoint, without a slash at its end. The server that it
// names need not be registered; it is "" at the endpoint of all servers.
func endpointOf(path string) (server string, ok bool) {
	if path == aggregatePath {
		return "", true
	}
	if server, ok = strings.CutPrefix(path, serversPath); !ok {
		return "", false
	}
	server, ok = strings.CutSuffix(server, aggregatePath)
	return server, ok && validName(server)
}

// IsResource reports whether a path, without a slash at its end, is that of an MCP endpoint
// under [SignInPath]. The server that it names need not be registered.
func IsResource(path string) bool {
	rest, under := strings.CutPrefix(path, SignInPath)
	_, ok := endpointOf(rest)
	return under && ok
}

// validName bounds the names that the gateway looks up and writes to the audit log. The
// engine's names are of this form.
func validName(name string) bool {
	const most = 128
	if name == "" || len(name) > most {
		return false
	}
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

// notFound answers all other paths, without a token. After a 401, clients ask for a dozen
// well-known documents that this gateway does not have for these endpoints: where it is an
// OAuth server, it is one for those of sign-in alone. In the end they try to register, and some
// of them show their user that answer alone. For a wrong URL, the answer has the right ones.
func (g *Gate) notFound(w http.ResponseWriter, path string) {
	text := nothingHere
	if g.base != "" {
		text = signInElsewhere
	}
	if strings.HasPrefix(path+"/", serversPath) && !strings.Contains(path, "/.well-known/") {
		text = noSuchServerURL
	}
	header := w.Header()
	header.Set("Content-Type", "text/plain; charset=utf-8")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(http.StatusNotFound)
	_, _ = io.WriteString(w, text)
}

const (
	urls = "The gateway's URLs end in /mcp, for all servers that a client may reach, or in /servers/NAME/mcp, for the server that is registered as NAME.\n"

	nothingHere     = "Not found. There is no sign-in at this gateway: a request needs a valid token, in the header \"Authorization: Bearer ...\". " + urls
	noSuchServerURL = "Not found. " + urls

	signInElsewhere = "Not found. People sign in at the URLs that end in " + SignInPath + "/mcp, for all servers that they may reach, " +
		"or in " + SignInPath + "/servers/NAME/mcp, for the server that is registered as NAME. " +
		"At the others a request needs a valid token, in the header \"Authorization: Bearer ...\". " + urls
)
