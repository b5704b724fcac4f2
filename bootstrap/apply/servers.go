package apply

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"vault-plugin-secrets-mcp/backend/pin"
)

// Server is one entry of the registry, as a file describes it.
type Server struct {
	Name string
	// Command is the program of a stdio server, else empty.
	Command string
	// Data are the fields of the write to servers/NAME, secrets included.
	Data map[string]any
}

var errNoServers = errors.New("there is no server in it")

var errServersAlone = errors.New("it holds more than servers: this takes servers alone, and `mcp-bootstrap apply -f DIR` the rest")

// LoadServers reads servers from one file, in any form that a folder's files may
// have. The notes are for the author of the file.
func LoadServers(path string) (servers []Server, notes []string, err error) {
	content, err := readFile(path)
	if err != nil {
		return nil, nil, err
	}
	d := &desired{config: map[string]any{}}
	switch filepath.Ext(path) {
	case ".hcl":
		d.loadHCL(path, content, map[string]bool{})
	case ".json":
		d.loadJSON(path, content)
	case ".toml":
		d.loadTOML(path, content)
	default:
		return nil, nil, fmt.Errorf("%s: %w", path, errNoFiles)
	}
	switch {
	case len(d.mistakes) > 0:
		return nil, nil, d.listed("the file has")
	case len(d.clients) > 0 || len(d.policies) > 0 || len(d.roles) > 0 || len(d.config) > 0 || d.kms != nil:
		return nil, nil, fmt.Errorf("%s: %w", path, errServersAlone)
	case len(d.servers) == 0:
		return nil, nil, fmt.Errorf("%s: %w", path, errNoServers)
	}
	if d.check(); len(d.mistakes) > 0 {
		return nil, nil, d.listed("the file has")
	}
	for i := range d.servers {
		s := &d.servers[i]
		servers = append(servers, Server{Name: s.name, Command: s.command, Data: s.data()})
	}
	return servers, d.notes, nil
}

// data returns the fields of the write to the registry.
func (s *server) data() map[string]any {
	data := map[string]any{
		"transport": s.transport, "url": s.url, "command": s.command, "args": append([]string{}, s.args...),
		"env": orNone(s.env), "headers": orNone(s.headers), "shared": s.shared, "description": s.description,
		fieldCredentials: s.credentialData(), "files": orNone(s.files), "vault_policies": unique(s.vaultPolicies),
	}
	if s.disabled != nil {
		data["disabled"] = *s.disabled
	}
	if s.pin != nil {
		data["pin"] = *s.pin
	}
	if s.pinKinds != nil {
		data["pin_kinds"] = unique(*s.pinKinds)
	}
	return data
}

// differences are the lines of a plan. They do not have the secrets in a url, a command or in
// args: the registry shows these only to people who may read it, but a log of a run has other
// readers.
func (s *server) differences(have map[string]any) []string {
	shown := s.shown()
	lines := differences(shown, have)
	for field, value := range map[string]any{"url": s.conceal(shown["url"].(string)), "command": s.conceal(s.command), "args": s.concealAll()} { //nolint:forcetypeassert // see shown
		if canonical(value) == canonical(shown[field]) {
			continue
		}
		for i, line := range lines {
			if strings.HasPrefix(line[2:], field+" = ") {
				lines[i] = line[:2] + field + " = " + canonical(value)
			}
		}
	}
	return append(lines, s.left(have, lines)...)
}

// left adds the lines about the values that are dropped when a server is pointed
// elsewhere.
func (s *server) left(have map[string]any, lines []string) []string {
	moves := slices.ContainsFunc(lines, func(line string) bool {
		field, _, _ := strings.Cut(strings.TrimPrefix(line, "~ "), " = ")
		return slices.Contains([]string{"transport", "url", "command", "args"}, field)
	})
	if have == nil || !moves {
		return nil
	}
	var left []string
	if kinds := canonical(have["pin_kinds"]); s.pinKinds == nil && !empty(kinds) {
		left = append(left, fmt.Sprintf("~ pin_kinds = [] (was %s)", kinds))
	}
	if mode := have["pin"]; mode == string(pin.Observe) || mode == string(pin.Enforce) {
		left = append(left, "- its approvals (pins/"+s.name+"), which are for the place where it led before")
	}
	return left
}

// conceal returns the text to show in the place of one that may hold a secret.
func (s *server) conceal(text string) string {
	if shown, found := s.concealed[text]; found {
		return shown
	}
	return text
}

func (s *server) concealAll() []string {
	shown := make([]string, 0, len(s.args))
	for _, arg := range s.args {
		shown = append(shown, s.conceal(arg))
	}
	return shown
}

// shown is data as it is read back: of secrets only the names.
func (s *server) shown() map[string]any {
	data := maps.Clone(s.data())
	bare, _, _ := strings.Cut(s.url, "?")
	data["url"], data["url_query"] = bare, parameters(s.url)
	data["env"], data["headers"], data["files"] = names(s.env), names(s.headers), names(s.files)
	data[fieldCredentials] = s.credentialsShown()
	return data
}
