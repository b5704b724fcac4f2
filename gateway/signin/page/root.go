package page

import (
	"encoding/json"
	"net/http"
	"strings"
)

// RootData is the data of the page at the gateway's root. It has no names of servers and
// clients: anybody may read that page.
type RootData struct {
	PublicURL           string // without a slash at the end; empty where it is not known
	SignIn              bool   // people sign in at this gateway
	DynamicRegistration bool   // applications may register themselves
	MetadataDocuments   bool   // applications are known by their documents too
}

// Root answers with the page that describes the gateway and how to connect to it.
func Root(w http.ResponseWriter, d RootData) {
	v := rootView{RootData: d, Base: strings.TrimSuffix(d.PublicURL, "/")}
	if v.Base == "" {
		v.Base = "https://GATEWAY"
	}
	v.BySignIn, v.ByToken = bySignIn(v.Base+"/sign-in/mcp"), byToken(v.Base+"/mcp")
	render(w, http.StatusOK, "root", v)
}

type rootView struct {
	RootData

	Base     string
	BySignIn []program
	ByToken  []program
}

// Admitted says which applications may sign people in.
func (v rootView) Admitted() string {
	switch {
	case v.DynamicRegistration:
		return "Applications may register themselves, within the rules of the people who run this gateway. The page on which you decide marks such an application as unverified."
	case v.MetadataDocuments:
		return "The people who run this gateway have listed the makers of applications that may connect. Another application is refused: ask them to add it."
	default:
		return "The people who run this gateway have listed the applications that may connect. Another one is refused: ask them to add it."
	}
}

// program is the way to connect one MCP client. Sentences mark text to type with
// backquotes.
type program struct {
	Name   string
	Before string
	Code   string
	After  string
}

type object = map[string]any

// indented is JSON as people write it, and as `mcp-bootstrap export` does.
func indented(content object) string {
	var text strings.Builder
	encoder := json.NewEncoder(&text)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(content); err != nil {
		return "" // texts alone cannot fail
	}
	return strings.TrimSpace(text.String())
}

func servers(key string, entry object) string {
	return indented(object{key: object{"mcp": entry}})
}

// byToken are the configurations of docs/clients.md, which `mcp-bootstrap export` prints
// for one client.
func byToken(url string) []program {
	const bearer = "Bearer "
	remote := []string{"-y", "mcp-remote", url, "--transport", "http-only"}
	if strings.HasPrefix(url, "http://") {
		remote = append(remote, "--allow-http")
	}
	return []program{
		{
			Name:   "Claude Code",
			Before: "Set `MCP_TOKEN` to the token before you start `claude`. Keep the single quotes: they have Claude Code store the variable and not the token.",
			Code:   "claude mcp add --transport http --scope user mcp " + url + " --header 'Authorization: Bearer ${MCP_TOKEN}'",
		},
		{
			Name:   "Cursor",
			Before: "In `.cursor/mcp.json` or `~/.cursor/mcp.json`:",
			Code:   servers("mcpServers", object{"url": url, "headers": object{"Authorization": bearer + "${env:MCP_TOKEN}"}}),
			After:  "Start Cursor from an environment with `MCP_TOKEN`, such as a terminal.",
		},
		{
			Name:   "VS Code",
			Before: "In `.vscode/mcp.json`:",
			Code: indented(object{
				"inputs":  []object{{"type": "promptString", "id": "mcp-token", "description": "Token for MCP", "password": true}},
				"servers": object{"mcp": object{"type": "http", "url": url, "headers": object{"Authorization": bearer + "${input:mcp-token}"}}},
			}),
			After: "VS Code asks for the token once and keeps it in the system’s key store. “MCP: List Servers” starts the server.",
		},
		{
			Name:   "Claude Desktop",
			Before: "Needs Node.js. In `claude_desktop_config.json` (Settings, Developer, Edit Config):",
			Code: servers("mcpServers", object{
				"command": "npx",
				"args":    append(remote, "--header", "Authorization:${MCP_TOKEN}"),
			}),
			After: "Here `MCP_TOKEN` holds `Bearer` and the token, as one text with a space between them.",
		},
		{
			Name:   "Codex",
			Before: "In `~/.codex/config.toml`, with `MCP_TOKEN` in the environment:",
			Code:   "[mcp_servers.mcp]\nurl = \"" + url + "\"\nbearer_token_env_var = \"MCP_TOKEN\"",
		},
		{
			Name:   "Gemini CLI",
			Before: "In `~/.gemini/settings.json`, with `MCP_TOKEN` in the environment:",
			Code:   servers("mcpServers", object{"type": "http", "url": url, "headers": object{"Authorization": bearer + "${MCP_TOKEN}"}}),
		},
		{
			Name:   "Any other program",
			Before: "It needs the address as “streamable HTTP”, and this header:",
			Code:   "Authorization: Bearer TOKEN",
		},
	}
}

// bySignIn are the ways of the same programs to sign a person in.
func bySignIn(url string) []program {
	return []program{
		{
			Name:   "Claude (web and desktop)",
			Before: "Add a custom connector under Connectors, with this address, and connect it:",
			Code:   url,
			After:  "Claude connects from its maker’s network, so this gateway must be reachable from there.",
		},
		{
			Name:   "ChatGPT",
			Before: "In developer mode, create an app in the settings, with OAuth as authentication and this address:",
			Code:   url,
			After:  "ChatGPT connects from its maker’s network, so this gateway must be reachable from there.",
		},
		{
			Name:  "Claude Code",
			Code:  "claude mcp add --transport http --scope user mcp " + url,
			After: "Then type `/mcp` in Claude Code, choose `mcp`, and authenticate.",
		},
		{
			Name:   "Cursor",
			Before: "In `.cursor/mcp.json` or `~/.cursor/mcp.json`:",
			Code:   servers("mcpServers", object{"url": url}),
			After:  "Cursor offers to connect in its settings, at the entry of the server.",
		},
		{
			Name:   "VS Code",
			Before: "In `.vscode/mcp.json`:",
			Code:   servers("servers", object{"type": "http", "url": url}),
			After:  "“MCP: List Servers” starts the server, and VS Code asks you to sign in.",
		},
		{
			Name:   "Codex",
			Before: "In `~/.codex/config.toml`:",
			Code:   "[mcp_servers.mcp]\nurl = \"" + url + "\"",
			After:  "Then run `codex mcp login mcp`.",
		},
		{
			Name:   "Gemini CLI",
			Before: "In `~/.gemini/settings.json`:",
			Code:   servers("mcpServers", object{"type": "http", "url": url}),
			After:  "Then type `/mcp auth mcp` in it.",
		},
		{
			Name:   "Any other program",
			Before: "It needs the address as “streamable HTTP”, and OAuth for MCP: it finds the rest by itself. One that starts commands only can connect by mcp-remote:",
			Code:   "npx -y mcp-remote " + url,
		},
	}
}
