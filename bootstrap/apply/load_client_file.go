package apply

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tailscale/hujson"

	"vault-plugin-secrets-mcp/bootstrap/clientfile"
)

// clientFiles are the files of MCP clients that are read although their names, or those of their
// folders, begin with a dot.
var clientFiles = []string{".mcp.json", ".vscode/mcp.json", ".cursor/mcp.json", ".gemini/settings.json", ".codex/config.toml"}

// hidden reports whether a path in a folder is passed over: it has a part that begins with a
// dot, and is neither one of clientFiles nor a folder of one.
func hidden(path string, folder bool) bool {
	path = "/" + filepath.ToSlash(path)
	return strings.Contains(path, "/.") && !slices.ContainsFunc(clientFiles, func(name string) bool {
		if folder {
			name = filepath.ToSlash(filepath.Dir(name))
		}
		return strings.HasSuffix(path, "/"+name)
	})
}

// openLenient is openJSON for a file in which the program allows comments and commas at the
// end, as VS Code does. Only MCP clients' files may have them: in all others they are mistakes.
func openLenient(path string, content []byte) (*jsonFile, error) {
	content = withoutMark(content)
	f, err := openJSON(path, content)
	if err == nil {
		return f, nil
	}
	plain, lenient := hujson.Standardize(content) // of the same length, so the places stay
	var document map[string]any
	if lenient != nil || json.Unmarshal(plain, &document) != nil || !clientfile.Holds(document) {
		return nil, err
	}
	return openJSON(path, plain)
}

var errNotCodex = errors.New("it has no table mcp_servers, so it is not a file of Codex: take it out of the folder")

// loadTOML reads a file of Codex.
func (d *desired) loadTOML(path string, content []byte) {
	document, lines, err := clientfile.ParseTOML(content)
	if err != nil {
		d.mistake(path, err)
		return
	}
	if !clientfile.Holds(document) {
		d.mistake(path, errNotCodex)
		return
	}
	positions := map[string]position{}
	for key, line := range lines {
		positions[key] = position{line: line}
	}
	d.loadClientFile(place{file: path, fields: positions}, document)
}

// loadClientFile takes the servers of an MCP client's file.
func (d *desired) loadClientFile(at place, document map[string]any) {
	read := clientfile.Read(document, os.LookupEnv)
	for _, note := range read.Notes {
		d.notes = append(d.notes, fmt.Sprintf("%s: %s", at.nearest(note.Path), note.Text))
	}
	for _, problem := range read.Problems {
		d.mistakes = append(d.mistakes, fmt.Errorf("%s: %s", at.nearest(problem.Path), problem.Text)) //nolint:err113 // it is a text for people
	}
	for i := range read.Servers {
		s := &read.Servers[i]
		added := server{
			at: at.within(s.Path), name: s.Name, transport: s.Transport, url: s.URL, command: s.Command, args: s.Args,
			env: s.Env, headers: s.Headers, description: s.Description, concealed: s.Shown,
		}
		if s.Disabled {
			added.disabled = &s.Disabled
		}
		d.servers = append(d.servers, added)
	}
}

// nearest is the place of a key, or else of the key around it.
func (p place) nearest(path string) string {
	for path != "" {
		if _, ok := p.fields[path]; ok {
			break
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return p.of(path)
}

// within is the place of the thing at the path, with the places of its fields.
func (p place) within(path string) place {
	inner := place{file: p.file, element: p.element, position: p.fields[path], fields: map[string]position{}}
	for field, at := range p.fields {
		if field, ok := strings.CutPrefix(field, path+"."); ok {
			inner.fields[field] = at
		}
	}
	return inner
}
