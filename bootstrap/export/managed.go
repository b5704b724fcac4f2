package export

// minimumVersion of Claude Code: older ones take a file with anything invalid in
// it for no file, and allow everything.
const minimumVersion = "2.1.282"

const place = "it belongs to /etc/claude-code/ on Linux, /Library/Application Support/ClaudeCode/ on macOS, C:\\Program Files\\ClaudeCode\\ on Windows"

// managedMCP is managed-mcp.json: these servers, and no other can be added.
func managedMCP(in Input) (File, error) {
	note := in.setVariable("claude")
	if in.TokenFile != "" {
		note = "install bootstrap/agent/mcp-headers.sh as " + in.Helper
	} else {
		note += "; and deploy managed-settings beside it, since a value with a variable must pass the allow-list, where there is one"
	}
	return jsonFile("managed-mcp.json", object{"mcpServers": in.servers(in.claudeEntry)}, note, place)
}

// managedSettings is managed-settings.json: users may add servers, as long as they are
// at the gateway. List and lock always go together: a lock without a list
// would allow everything.
func managedSettings(in Input) (File, error) {
	allowed := []object{}
	for _, e := range in.endpoints() {
		// An exact URL does not match one with a query or a slash behind it.
		for _, suffix := range []string{"", "/", "?*"} {
			allowed = append(allowed, object{"serverUrl": e.url + suffix})
		}
	}
	return jsonFile("managed-settings.json", object{
		"requiredMinimumVersion":     minimumVersion,
		"allowManagedMcpServersOnly": true,
		"allowedMcpServers":          allowed, // and so no command at all
	}, place,
		"merge it into the managed settings that are there: this one file must hold both list and lock")
}
