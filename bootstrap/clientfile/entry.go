package clientfile

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"vault-plugin-secrets-mcp/backend/check"
)

// entry is a server's object in the file.
type entry struct {
	*reader
	path   string
	object map[string]any
	server Server
}

// server reads one entry. Where a problem is found, the server is not in the result.
func (r *reader) server(path, name string, value any) {
	object, ok := value.(map[string]any)
	if !ok {
		r.problem(path, "server %q: it is not an object", name)
		return
	}
	before := len(r.file.Problems)
	e := &entry{reader: r, path: path, object: object, server: Server{
		Path: path, Name: validName(name), Env: map[string]string{}, Headers: map[string]string{}, Shown: map[string]string{},
	}}
	switch e.server.Name {
	case "":
		r.problem(path, "server %q: give it a name with letters or digits", name)
	case name:
	default:
		r.note(path, "server %q: it becomes %q, since names have letters, digits, - and _", name, e.server.Name)
	}
	e.flatten()
	if e.onlySwitches() {
		return
	}
	for _, key := range slices.Sorted(maps.Keys(e.object)) {
		e.field(key)
	}
	e.transport()
	e.unwrapShell()
	e.oneProgram()
	e.noteSecrets()
	e.noteBridge()
	e.notePaths()
	if len(r.file.Problems) == before {
		r.file.Servers = append(r.file.Servers, e.server)
	}
}

// flatten brings what some files have in an object "transport" to where all others have it, and
// leaves out what is null, which programs write for what is not there.
func (e *entry) flatten() {
	flat := maps.Clone(e.object)
	if inner, ok := flat["transport"].(map[string]any); ok {
		delete(flat, "transport")
		for key, value := range inner {
			if flat[key] == nil {
				flat[key] = value
			}
		}
	}
	maps.DeleteFunc(flat, func(_ string, value any) bool { return value == nil })
	e.object = flat
}

// onlySwitches reports whether the entry has nothing but a switch, as in a project's file that
// turns off a server of the user's.
func (e *entry) onlySwitches() bool {
	for key := range e.object {
		if key != "enabled" && key != "disabled" {
			return false
		}
	}
	if len(e.object) == 0 {
		return false
	}
	e.note(e.path, "server %q: it is left out, since this only switches a server of another file", e.server.Name)
	return true
}

// Keys of entries, by the programs that have them.
var (
	// urlKeys has Windsurf's and Gemini CLI's names besides the one of all others.
	urlKeys = []string{"url", "serverUrl", "httpUrl"}
	typed   = []string{"type", "transport"}
	// toolLists limit the tools of a server: Codex, Gemini CLI, VS Code and others.
	toolLists = []string{"enabled_tools", "disabled_tools", "includeTools", "excludeTools", "allowedTools", "disabledTools", "tools"}
)

// field takes one key of the entry, or notes that it is not taken.
func (e *entry) field(key string) {
	s := &e.server
	switch {
	case slices.Contains(urlKeys, key):
		if s.URL != "" {
			e.problem(join(e.path, key), "server %q: it has two URLs: take one of them out", s.Name)
		}
		s.URL = e.shown(key)
	case key == "command":
		e.command()
	case key == "args":
		s.Args = append(s.Args, e.texts(key)...)
	case key == "env":
		maps.Copy(s.Env, e.pairs(key, e.expand))
	case key == "env_vars":
		e.passed(key)
	case key == "headers", key == "http_headers":
		maps.Copy(s.Headers, e.pairs(key, e.expand))
	case key == "env_http_headers":
		maps.Copy(s.Headers, e.pairs(key, e.variable))
	case key == "bearer_token_env_var":
		s.Headers["Authorization"] = "Bearer " + e.variable(join(e.path, key), e.text(key))
	case key == "description":
		s.Description = e.text(key)
	case key == "disabled", key == "enabled":
		e.switched(key)
	case slices.Contains(typed, key): // see transport
	case key == "name": // of lists, and of programs that repeat it
	case slices.Contains(toolLists, key):
		e.note(join(e.path, key), "server %q: %q is not taken, so all its tools are: write the rules into allowed_tools or denied_tools of the clients", s.Name, key)
	default:
		e.untaken(key)
	}
}

// Reasons that several keys share.
const (
	noSignIn   = "the gateway does not sign in at servers: give the server headers, or credentials that are leased from Vault"
	credential = "write it into headers, as the server wants it"
)

// reasons say why a key has no counterpart, for those whose absence the server may notice.
var reasons = map[string]string{
	"cwd":           "the gateway starts each server in a folder of its own: write absolute paths into args",
	"envFile":       "the registry has no files of the program's machine: write its variables into env",
	"headersHelper": "a program of the user's machine, which no gateway runs: give the server headers, or credentials that are leased from Vault",
	"oauth":         noSignIn,
	"auth":          noSignIn,
	"authorization": noSignIn,
	"bearer_token":  credential,
	"bearerToken":   credential,
	"apiKey":        credential,
	"token":         credential,
}

func (e *entry) untaken(key string) {
	reason, known := reasons[key]
	if !known {
		reason = "a setting of the program, which stays with it"
	}
	e.note(join(e.path, key), "server %q: %q is not taken: %s", e.server.Name, key, reason)
}

// switched takes a server that is off. One that is on says nothing: an administrator may have
// stopped it in the registry.
func (e *entry) switched(key string) {
	on, ok := e.object[key].(bool)
	if !ok {
		e.mistyped(join(e.path, key), "true or false")
		return
	}
	if on == (key == "disabled") {
		e.server.Disabled = true
	}
}

// command takes a program, alone or as a list with its arguments.
func (e *entry) command() {
	if _, ok := e.object["command"].([]any); !ok {
		e.server.Command = e.shown("command")
		return
	}
	if words := e.texts("command"); len(words) > 0 {
		e.server.Command, e.server.Args = words[0], words[1:]
	}
}

// passed takes Codex's list of variables that the server gets from the environment.
func (e *entry) passed(key string) {
	list, ok := e.object[key].([]any)
	if !ok {
		e.mistyped(join(e.path, key), "a list of names of variables")
	}
	for i, element := range list {
		if object, ok := element.(map[string]any); ok {
			element = object["name"]
		}
		path := fmt.Sprintf("%s[%d]", join(e.path, key), i)
		name, ok := element.(string)
		if !ok {
			e.mistyped(path, "the name of a variable")
			continue
		}
		e.server.Env[name] = e.variable(path, name)
	}
}

// variable is the value of the environment variable with that name.
func (e *entry) variable(path, name string) string { return e.expand(path, "${"+name+"}") }

func (e *entry) mistyped(path, want string) {
	e.problem(path, "server %q: write %s here", e.server.Name, want)
}

// text is a field with one text.
func (e *entry) text(key string) string {
	path := join(e.path, key)
	text, ok := scalar(e.object[key])
	if !ok {
		e.mistyped(path, "a text")
		return ""
	}
	return e.expand(path, text)
}

// shown is a text that the registry shows to those who read it, a URL without its query.
func (e *entry) shown(key string) string {
	text := e.text(key)
	if written, ok := e.object[key].(string); ok && text != written {
		expanded, _, _ := strings.Cut(text, "?")
		written, _, _ = strings.Cut(unexpanded(written), "?")
		e.server.Shown[expanded] = written
	}
	return text
}

// texts is a field with a list of texts, which the registry shows.
func (e *entry) texts(key string) []string {
	path := join(e.path, key)
	list, ok := e.object[key].([]any)
	if !ok {
		e.mistyped(path, "a list of texts")
		return nil
	}
	all := make([]string, 0, len(list))
	for i, element := range list {
		at := fmt.Sprintf("%s[%d]", path, i)
		text, ok := scalar(element)
		if !ok {
			e.mistyped(at, "a text")
			continue
		}
		value := e.expand(at, text)
		if value != text {
			e.server.Shown[value] = unexpanded(text)
		}
		all = append(all, value)
	}
	return all
}

// pairs is a field with texts by name. value makes the value of what stands in the file.
func (e *entry) pairs(key string, value func(path, text string) string) map[string]string {
	path := join(e.path, key)
	object, ok := e.object[key].(map[string]any)
	if !ok {
		e.mistyped(path, "an object of texts")
		return nil
	}
	all := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(object)) {
		at := join(path, name)
		if object[name] == nil { // VS Code: the program does not get the variable
			continue
		}
		text, ok := scalar(object[name])
		if !ok {
			e.mistyped(at, "a text")
			continue
		}
		all[name] = value(at, text)
		if placeholder.MatchString(all[name]) {
			e.note(at, "server %q: the value of %s looks like an example's: the server will want a real one", e.server.Name, name)
		}
	}
	return all
}

// scalar is a text, or a number or a truth value in the place of one: programs take those, too.
func scalar(value any) (text string, ok bool) {
	switch v := value.(type) {
	case string:
		return v, true
	case bool, json.Number, int64: // of JSON, and of TOML
		return fmt.Sprint(v), true
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), true
	}
	return "", false
}

// transport decides how the server is reached: by what the entry says, else by what it has.
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
