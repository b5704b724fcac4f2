package backend

import "github.com/hashicorp/vault/sdk/framework"

// serverWords are words in other programs' files that a registration has under another name,
// or does not have.
var serverWords = map[string]string{ //nolint:gosec // names of fields
	"type":                 "write transport=http, transport=sse or transport=stdio",
	"bearer_token":         `write headers=Authorization="Bearer …"`,
	"bearerToken":          `write headers=Authorization="Bearer …"`,
	"bearer_token_env_var": `the gateway expands no variables: write headers=Authorization="Bearer …"`,
	"authorization":        `write headers=Authorization="…"`,
	"Authorization":        `write headers=Authorization="…"`,
	"auth":                 `write headers=Authorization="…"`,
	"http_headers":         "write headers",
	"env_http_headers":     "the gateway expands no variables: write headers with the values",
	"header":               "write headers",
	"headersHelper":        "no program is run for headers: write headers with the values",
	"serverUrl":            "write url",
	"httpUrl":              "write url",
	"http_url":             "write url",
	"endpoint":             "write url",
	"uri":                  "write url",
	"arguments":            "write args",
	"environment":          "write env",
	"env_vars":             "the gateway passes none of its own variables on: write env with the values",
	"envFile":              "no file is read: write env with the values",
	"cwd":                  "the directory of a server's process cannot be set: leave it out",
	"session_mode":         "sessions are each client's own: leave it out",
	"oauth":                "the gateway signs in nowhere: write headers with a token of its own",
	"oauth_client_id":      "the gateway signs in nowhere: write headers with a token of its own",
	"oauth_client_secret":  "the gateway signs in nowhere: write headers with a token of its own",
	"oauth_redirect_uri":   "the gateway signs in nowhere: write headers with a token of its own",
	"oauth_scopes":         "the gateway signs in nowhere: write headers with a token of its own",
	"timeout":              "time limits stand in the gateway's file: leave it out",
	"startup_timeout_sec":  "time limits stand in the gateway's file: leave it out",
	"tool_timeout_sec":     "time limits stand in the gateway's file: leave it out",
	"disabled":             "a policy that denies the server keeps clients away from it: leave it out",
	"enabled":              "a policy that denies the server keeps clients away from it: leave it out",
	"mcpServers":           "write each server to a servers/NAME of its own",
	"alwaysAllow":          "which tools a client may call is the client's allowed_tools: leave it out",
	"autoApprove":          "which tools a client may call is the client's allowed_tools: leave it out",
	"includeTools":         "which tools a client may call is the client's allowed_tools: leave it out",
	"excludeTools":         "which tools a client may not call is the client's denied_tools: leave it out",
	"enabled_tools":        "which tools a client may call is the client's allowed_tools: leave it out",
	"disabled_tools":       "which tools a client may not call is the client's denied_tools: leave it out",
}

// hint says what to write instead of a field that a path does not have, or nothing.
func hint(name string, schema map[string]*framework.FieldSchema) string {
	words, ok := serverWords[name]
	if !ok || schema["transport"] == nil {
		return ""
	}
	return words + "; "
}
