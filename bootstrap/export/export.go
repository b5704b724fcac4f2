// Package export writes configurations for MCP clients and administrators. A
// client's configuration says where its token is, in the environment or in a
// file, and never holds it: these files are copied, committed and backed up.
package export

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"vault-plugin-secrets-mcp/bootstrap/connect"
)

// Input is the data for a configuration.
type Input struct {
	// Client is the client's name in the engine.
	Client string
	// GatewayURL is where the gateway answers. The path of an endpoint behind it is
	// left out.
	GatewayURL string
	// Servers are the names of those that the client may reach, in order.
	Servers []string
	// PerServer writes one entry for each server, instead of one for all of them at
	// the gateway's /mcp.
	PerServer bool
	// TokenEnv is the variable that holds the token, TokenFile the file. With
	// TokenFile the client's own way to read a file is taken, where it has one.
	TokenEnv  string
	TokenFile string
	// Helper is the program that prints the headers for Claude Code.
	Helper string
}

// File is a configuration.
type File struct {
	// Name is where it belongs.
	Name    string
	Content string
	// Notes are further steps for the user.
	Notes []string
}

type format struct {
	name      string
	readsFile bool // or has no use for a token at all
	write     func(Input) (File, error)
}

var formats = []format{
	{"claude-code", true, claudeCode},
	{"cursor", false, cursor},
	{"vscode", false, vscode},
	{"claude-desktop", true, claudeDesktop},
	{"codex", false, codex},
	{"gemini", false, gemini},
	{"managed-mcp", true, managedMCP},
	{"managed-settings", true, managedSettings},
}

// Formats are the names of the formats.
func Formats() []string {
	names := make([]string, 0, len(formats))
	for _, f := range formats {
		names = append(names, f.name)
	}
	return names
}

// Write writes a client's configuration in a format.
func Write(name string, in Input) (File, error) {
	i := slices.IndexFunc(formats, func(f format) bool { return f.name == name })
	if i < 0 {
		return File{}, fmt.Errorf("there is no format %q: use one of %s", name, strings.Join(Formats(), ", "))
	}
	if err := in.check(); err != nil {
		return File{}, err
	}
	if in.TokenFile != "" && !formats[i].readsFile {
		return File{}, fmt.Errorf("-token-file: %s cannot read a token from a file: leave the flag out, and let the variable %s hold the token", name, in.TokenEnv)
	}
	return formats[i].write(in)
}

var errSentEmpty = errors.New("it is a credential of something else, and Claude Code sends it empty: choose another variable, such as MCP_TOKEN")

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// sentEmpty are the variables that Claude Code does not expand.
var sentEmpty = []string{"VAULT_TOKEN", "NPM_TOKEN", "ANTHROPIC_API_KEY", "AWS_SECRET_ACCESS_KEY"}

func (in *Input) check() error {
	base, err := connect.GatewayURL(in.GatewayURL)
	if err != nil {
		return fmt.Errorf("-gateway-url %w", err)
	}
	in.GatewayURL = base
	if len(in.Servers) == 0 {
		return fmt.Errorf("the client %q may reach no server that is registered: set its allowed_servers or its role, or ask mcp/evaluate which policy blocks them", in.Client)
	}
	if !variableName.MatchString(in.TokenEnv) {
		return fmt.Errorf("-token-env %q is not the name of a variable", in.TokenEnv)
	}
	if slices.Contains(sentEmpty, in.TokenEnv) {
		return fmt.Errorf("-token-env %s: %w", in.TokenEnv, errSentEmpty)
	}
	return nil
}

// endpoint is an entry of a configuration.
type endpoint struct{ name, url string }

// endpoints are one entry for all servers, or one for each.
func (in *Input) endpoints() []endpoint {
	if !in.PerServer {
		return []endpoint{{"mcp", in.GatewayURL + "/mcp"}}
	}
	list := make([]endpoint, 0, len(in.Servers))
	for _, name := range in.Servers {
		list = append(list, endpoint{name, in.GatewayURL + "/servers/" + name + "/mcp"})
	}
	return list
}

// object is a JSON object.
type object = map[string]any

// servers maps each endpoint's name to the entry for its URL.
func (in *Input) servers(entry func(url string) object) object {
	servers := object{}
	for _, e := range in.endpoints() {
		servers[e.name] = entry(e.url)
	}
	return servers
}

func jsonFile(name string, content object, notes ...string) (File, error) {
	var text strings.Builder
	encoder := json.NewEncoder(&text)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(content); err != nil {
		return File{}, err
	}
	return File{Name: name, Content: text.String(), Notes: notes}, nil
}

// setVariable is the note for clients that take the token from the environment.
func (in *Input) setVariable(program string) string {
	return fmt.Sprintf("set %s to the token in the environment that %s starts from", in.TokenEnv, program)
}
