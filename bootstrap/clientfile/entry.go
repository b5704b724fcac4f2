package clientfile

import (
	"maps"
	"slices"
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

// flatten moves the members of an object "transport", which some files have, to the place where
// all others have them. It removes members that are null, which programs write for absent ones.
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
