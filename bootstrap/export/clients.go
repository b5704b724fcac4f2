package export

import (
	"fmt"
	"strconv"
	"strings"

	"vault-plugin-secrets-mcp/bootstrap/console"
)

// bearer is the Authorization header with a client's own form of a variable.
func bearer(reference string) object { return object{"Authorization": "Bearer " + reference} }

// claudeCode is .mcp.json: https://code.claude.com/docs/en/mcp.
func claudeCode(in Input) (File, error) {
	note := in.setVariable("claude")
	if in.TokenFile != "" {
		note = "install bootstrap/agent/mcp-headers.sh as " + in.Helper + ": it reads " + in.TokenFile + " for each connection"
	}
	return jsonFile(".mcp.json", object{"mcpServers": in.servers(in.claudeEntry)}, note)
}

// claudeEntry is a server as Claude Code knows it, in .mcp.json and managed-mcp.json.
func (in *Input) claudeEntry(url string) object {
	entry := object{"type": "http", "url": url}
	if in.TokenFile != "" {
		entry["headersHelper"] = in.Helper + " " + console.ShellQuoted(in.TokenFile)
	} else {
		entry["headers"] = bearer("${" + in.TokenEnv + "}")
	}
	return entry
}

// cursor is .cursor/mcp.json: https://cursor.com/docs/mcp.
func cursor(in Input) (File, error) {
	return jsonFile(".cursor/mcp.json", object{"mcpServers": in.servers(func(url string) object {
		return object{"url": url, "headers": bearer("${env:" + in.TokenEnv + "}")}
	})}, in.setVariable("Cursor"))
}

// vscode is .vscode/mcp.json: https://code.visualstudio.com/docs/copilot/reference/mcp-configuration.
func vscode(in Input) (File, error) {
	const input = "mcp-token"
	return jsonFile(".vscode/mcp.json", object{
		"inputs": []object{{
			"type": "promptString", "id": input, "description": "Token of the MCP client " + in.Client, "password": true,
		}},
		"servers": in.servers(func(url string) object {
			return object{"type": "http", "url": url, "headers": bearer("${input:" + input + "}")}
		}),
	}, "VS Code asks for the token once, and keeps it in the system's key store")
}

// claudeDesktop is claude_desktop_config.json. Claude Desktop starts commands only,
// so mcp-remote connects for it: https://github.com/geelen/mcp-remote.
func claudeDesktop(in Input) (File, error) {
	notes := []string{"Claude Desktop needs Node.js for the bridge mcp-remote"}
	if in.TokenFile == "" {
		notes = append(notes, fmt.Sprintf("set %s to \"Bearer \" and the token, as one text, in the environment that Claude Desktop starts from", in.TokenEnv))
	} else {
		notes = append(notes, "the file "+in.TokenFile+` holds one line: "Authorization: Bearer " and the token`)
	}
	return jsonFile("claude_desktop_config.json", object{"mcpServers": in.servers(func(url string) object {
		args := []string{"-y", "mcp-remote", url, "--transport", "http-only"}
		if strings.HasPrefix(url, "http://") {
			args = append(args, "--allow-http")
		}
		if in.TokenFile != "" {
			args = append(args, "--header-file", in.TokenFile)
		} else {
			// No space after the colon: some systems break arguments there.
			args = append(args, "--header", "Authorization:${"+in.TokenEnv+"}")
		}
		return object{"command": "npx", "args": args}
	})}, notes...)
}

// codex is ~/.codex/config.toml. A "headers" there is ignored without a word.
func codex(in Input) (File, error) {
	var text strings.Builder
	for i, e := range in.endpoints() {
		if i > 0 {
			text.WriteString("\n")
		}
		fmt.Fprintf(&text, "[mcp_servers.%s]\nurl = %s\nbearer_token_env_var = %s\n", e.name, strconv.Quote(e.url), strconv.Quote(in.TokenEnv))
	}
	return File{Name: "~/.codex/config.toml", Content: text.String(), Notes: []string{in.setVariable("codex")}}, nil
}

// gemini is ~/.gemini/settings.json.
func gemini(in Input) (File, error) {
	return jsonFile("~/.gemini/settings.json", object{"mcpServers": in.servers(func(url string) object {
		return object{"type": "http", "url": url, "headers": bearer("${" + in.TokenEnv + "}")}
	})}, in.setVariable("gemini"), "in a folder that is not trusted, the Gemini CLI starts no server at all")
}
