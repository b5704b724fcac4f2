package clientfile

import (
	"net/url"
	"regexp"
	"strings"

	"vault-plugin-secrets-mcp/backend/check"
)

// transport decides how the server is reached: by the entry's own word, or else by its
// fields.
func (e *entry) transport() {
	s := &e.server
	said := ""
	for _, key := range typed {
		if text, ok := e.object[key].(string); ok {
			said = strings.ToLower(check.Transport(text))
		} else if e.object[key] != nil {
			e.mistyped(join(e.path, key), "a text")
			return
		}
	}
	switch {
	case s.Command == "" && s.URL == "":
		e.problem(e.path, "server %q: it has neither a command nor a URL", s.Name)
	case s.Command != "" && s.URL != "":
		e.problem(e.path, "server %q: it has a command and a URL: take one of them out", s.Name)
	case s.Command != "" && (said == "" || said == check.TransportStdio || said == "local"):
		s.Transport = check.TransportStdio
	case s.Command != "":
		e.problem(e.path, "server %q: it has a command, which transport %q does not use", s.Name, said)
	case said == check.TransportHTTP, said == check.TransportSSE:
		s.Transport = said
	case said == "" || said == "remote" || said == "url":
		s.Transport = transportOf(s.URL)
	case said == check.TransportStdio, said == "local":
		e.problem(e.path, "server %q: it has a URL, which transport %q does not use", s.Name, said)
	default:
		e.problem(e.path, "server %q: there is no transport %q here: use http, sse or stdio", s.Name, said)
	}
}

// transportOf guesses as programs do that are not told: by the usual end of an SSE endpoint.
func transportOf(address string) string {
	if parsed, err := url.Parse(address); err == nil && strings.HasSuffix(strings.TrimSuffix(parsed.Path, "/"), "/sse") {
		return check.TransportSSE
	}
	return check.TransportHTTP
}

// unwrapShell takes the program out of "cmd /c", with which Windows starts npx.
func (e *entry) unwrapShell() {
	s := &e.server
	name := strings.TrimSuffix(strings.ToLower(s.Command), ".exe")
	if name != "cmd" || len(s.Args) < 2 || !strings.EqualFold(s.Args[0], "/c") {
		return
	}
	s.Command, s.Args = s.Args[1], s.Args[2:]
	e.note(join(e.path, "command"), `server %q: "cmd /c" is for Windows, so the command is the argument after it`, s.Name)
}

// absolute is a path, which may have spaces.
var absolute = regexp.MustCompile(`^(/|~|[A-Za-z]:)`)

// oneProgram refuses a whole line as the command: no shell would take it apart.
func (e *entry) oneProgram() {
	if strings.ContainsAny(e.server.Command, " \t\n") && !absolute.MatchString(e.server.Command) {
		e.problem(join(e.path, "command"), "server %q: the command has a space: write the program alone, and its arguments into args", e.server.Name)
	}
}

// relative is an argument that is a file beside the project.
var relative = regexp.MustCompile(`^(\.{1,2}/\S*|[^\s@/:\\$=-][^\s/:\\$=]*(/[^\s:=]*)?\.(js|mjs|cjs|ts|py|rb|php|sh|jar|cs))$`)

// notePaths says which paths do not lead to anything on the gateway's machine.
func (e *entry) notePaths() {
	if strings.HasPrefix(e.server.Command, "~") {
		e.problem(join(e.path, "command"), "server %q: no shell reads the command, so ~ stands for nothing: write the absolute path", e.server.Name)
	}
	for i, arg := range e.server.Args {
		if relative.MatchString(arg) {
			e.note(e.path, "server %q: argument %d is a path in the project's folder: write the absolute path on the gateway's machine", e.server.Name, i+1)
			return
		}
	}
}

// noteBridge says that a bridge to a remote server is not needed.
func (e *entry) noteBridge() {
	for _, arg := range e.server.Args {
		if arg == "mcp-remote" || strings.HasPrefix(arg, "mcp-remote@") {
			e.note(e.path, `server %q: it runs mcp-remote, which needs a person's browser: "url" with the server's address reaches it without`, e.server.Name)
			return
		}
	}
}
