// Package clientfile reads MCP servers from the configuration files of MCP clients: mcp.json,
// .mcp.json, claude_desktop_config.json, .vscode/mcp.json, managed-mcp.json, settings.json of
// Gemini CLI, config.toml of Codex, and others like them.
//
// All of these have a map from names to servers, under one of a few keys. The entries look
// alike too, but each program has names of its own for some of the fields. So there is one
// reader for all programs: a name has the meaning that it has in the programs that know it.
// Settings of the program alone (approvals, timeouts), and settings without a counterpart in
// the registry, become notes, with the place in the file. A mistake that leaves no server to
// register is a problem.
//
// The file's secrets are in the result's servers and in no note or problem.
package clientfile

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Server is a server as the registry can have it.
type Server struct {
	Path      string // of its entry in the file
	Name      string
	Transport string
	URL       string
	Command   string
	Args      []string
	Env       map[string]string
	Headers   map[string]string

	Description string
	Disabled    bool

	// Shown has the texts to show in the place of a URL, a command or an argument that
	// holds a secret, or the value of a variable. All others can be shown.
	Shown map[string]string
}

// Finding is something to be told about one place in the file. The path is that of a key or of
// an element: "mcpServers.github.args[0]".
type Finding struct{ Path, Text string }

// File is the content of a file.
type File struct {
	Servers  []Server
	Notes    []Finding // about settings that were not taken over, or were changed
	Problems []Finding // for which a server cannot be registered
}

// The keys under which programs have their servers.
const (
	keyServers    = "mcpServers"  // Claude, Cursor, Windsurf, Gemini CLI and most others
	keyVSCode     = "servers"     // VS Code and Visual Studio
	keyCodex      = "mcp_servers" // Codex
	keyInSettings = "mcp"         // the settings of older releases of VS Code, which hold servers
	keyInputs     = "inputs"      // VS Code: values that it asks people for
	keyProjects   = "projects"    // ~/.claude.json: the servers of folders
)

// Holds reports whether a document, as encoding/json reads it, has MCP servers in one of the
// forms that this package reads.
func Holds(document map[string]any) bool { return len(find(document)) > 0 }

// find returns the document's servers by name, by their path: "" where the whole document is
// such a map, as in the plugins of Claude Code.
func find(document map[string]any) map[string]map[string]any {
	found := map[string]map[string]any{}
	for _, key := range []string{keyServers, keyCodex, keyVSCode} {
		if servers, ok := document[key].(map[string]any); ok && (key != keyVSCode || document["transport"] == nil) {
			found[key] = servers
		}
	}
	if settings, ok := document[keyInSettings].(map[string]any); ok {
		if servers, ok := settings[keyVSCode].(map[string]any); ok {
			found[join(keyInSettings, keyVSCode)] = servers
		}
	}
	if len(found) > 0 || len(document) == 0 {
		return found
	}
	for _, value := range document {
		entry, ok := value.(map[string]any)
		if !ok || entry["command"] == nil && entry["url"] == nil {
			return nil
		}
	}
	return map[string]map[string]any{"": document}
}

// Read reads the servers of a document. lookup is the environment, from which the values of
// variables and of inputs come.
func Read(document map[string]any, lookup func(name string) (string, bool)) *File {
	r := &reader{lookup: lookup, inputs: inputsOf(document)}
	found := find(document)
	r.settings(document, found)
	for _, path := range slices.Sorted(maps.Keys(found)) {
		servers := found[path]
		for _, name := range slices.Sorted(maps.Keys(servers)) {
			r.server(join(path, name), name, servers[name])
		}
		if len(servers) == 0 {
			r.note(path, "there is no server in it")
		}
	}
	return &r.file
}

type reader struct {
	file   File
	lookup func(name string) (string, bool)
	inputs map[string]input
}

func (r *reader) note(path, format string, args ...any) {
	r.file.Notes = append(r.file.Notes, Finding{path, fmt.Sprintf(format, args...)})
}

func (r *reader) problem(path, format string, args ...any) {
	r.file.Problems = append(r.file.Problems, Finding{path, fmt.Sprintf(format, args...)})
}

// settings adds notes about the parts of the document that are not servers.
func (r *reader) settings(document map[string]any, servers map[string]map[string]any) {
	roots := []string{keyInputs, "$schema"}
	for path := range servers {
		root, _, _ := strings.Cut(path, ".")
		roots = append(roots, root)
	}
	if slices.Contains(roots, "") { // nothing but servers
		return
	}
	var others []string
	for _, key := range slices.Sorted(maps.Keys(document)) {
		switch {
		case slices.Contains(roots, key):
		case key == keyProjects:
			r.note(key, `"projects" has the servers of single folders, which are not taken: give those in a file of their own`)
		default:
			others = append(others, key)
		}
	}
	const most = 5
	if len(others) > 0 {
		text := strings.Join(others[:min(most, len(others))], ", ")
		if more := len(others) - most; more > 0 {
			text += fmt.Sprintf(" and %d more", more)
		}
		r.note(others[0], "%s: settings of the program, which stay with it", text)
	}
}

// join is the path of a key in the thing at path.
func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
