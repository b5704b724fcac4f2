package application

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/config"
)

// The redirects of applications as they are in the field: by their metadata documents, or as
// they register themselves. allowed are those that each uses, and others are not its own.
var knownDocuments = map[string]struct {
	id        string
	redirects []string
	method    string
	allowed   []string
	others    []string
}{
	"Claude": {
		"https://claude.ai/oauth/mcp-oauth-client-metadata",
		[]string{"https://claude.ai/api/mcp/auth_callback", "https://claude.com/api/mcp/auth_callback"},
		MethodNone,
		[]string{"https://claude.ai/api/mcp/auth_callback", "https://claude.com/api/mcp/auth_callback"},
		[]string{"https://claude.ai/api/mcp/auth_callback/", "https://claude.ai/api/mcp", "https://claude.ai.evil.example/api/mcp/auth_callback", "http://localhost/callback"},
	},
	"Claude Code": {
		"https://claude.ai/oauth/claude-code-client-metadata",
		[]string{"http://localhost/callback", "http://127.0.0.1/callback"},
		MethodNone,
		[]string{"http://localhost/callback", "http://localhost:58135/callback", "http://127.0.0.1:8080/callback"},
		[]string{"http://[::1]:8080/callback", "http://localhost:8080/", "https://localhost:8080/callback", "http://localhost.evil.example:8080/callback"},
	},
	"ChatGPT, a connector": {
		"https://chatgpt.com/oauth/kDmjx77UnKOM/client.json",
		[]string{"https://chatgpt.com/connector/oauth/kDmjx77UnKOM"},
		MethodSigned,
		[]string{"https://chatgpt.com/connector/oauth/kDmjx77UnKOM"},
		[]string{"https://chatgpt.com/connector/oauth/another", "https://chatgpt.com/connector_platform_oauth_redirect", "https://chatgpt.com/connector/oauth/"},
	},
	"ChatGPT": {
		"https://chatgpt.com/oauth/client.json",
		[]string{"https://chatgpt.com/connector_platform_oauth_redirect"},
		MethodSigned,
		[]string{"https://chatgpt.com/connector_platform_oauth_redirect"},
		[]string{"https://chatgpt.com/connector_platform_oauth_redirect?code=x", "https://chatgpt.com/connector_platform_oauth_redirect#x"},
	},
	"VS Code": {
		"https://vscode.dev/oauth/client-metadata.json",
		[]string{"http://127.0.0.1:33418/", "https://vscode.dev/redirect"},
		MethodNone,
		[]string{"http://127.0.0.1:33418/", "http://127.0.0.1:33418", "http://127.0.0.1:49152/", "https://vscode.dev/redirect"},
		[]string{"https://insiders.vscode.dev/redirect", "http://localhost:33418/"},
	},
	"Zed": {
		"https://zed.dev/oauth/client-metadata.json",
		[]string{"http://127.0.0.1/callback", "http://127.0.0.1:27523/callback"},
		MethodNone,
		[]string{"http://127.0.0.1:27523/callback", "http://127.0.0.1:50000/callback"},
		[]string{"http://localhost:27523/callback"},
	},
}

func TestKnownApplicationsAreFoundByTheirDocuments(t *testing.T) {
	b := newBed(t, config.SignIn{MetadataDocuments: []string{
		"https://claude.ai/oauth/", "https://chatgpt.com/oauth/", "https://vscode.dev/oauth/client-metadata.json", "https://zed.dev/oauth/client-metadata.json",
	}})
	for name, known := range knownDocuments {
		t.Run(name, func(t *testing.T) {
			more := map[string]any{
				"client_name": name, "redirect_uris": known.redirects, "token_endpoint_auth_method": known.method,
				"grant_types": []string{"authorization_code", "refresh_token"}, "response_types": []string{"code"}, "logo_uri": nil, "contacts": []string{},
			}
			if known.method == MethodSigned {
				more["token_endpoint_auth_methods_supported"] = []string{"none", "private_key_jwt"}
				more["token_endpoint_auth_signing_alg"] = "RS256"
				more["jwks_uri"] = "https://chatgpt.com/oauth/jwks.json"
			}
			b.JSON(known.id, document(known.id, more))
			a := b.find(t, known.id)
			require.Equal(t, known.id, a.ID)
			require.Equal(t, name, a.Name)
			require.Equal(t, VouchDocument, a.Vouch)
			require.Equal(t, known.method, a.AuthMethod)
			require.False(t, a.Trusted)
			checkRedirects(t, a, known.allowed, known.others)
		})
	}
}

func checkRedirects(t *testing.T, a *Application, allowed, others []string) {
	t.Helper()
	for _, text := range allowed {
		require.True(t, a.AllowsRedirect(text), text)
	}
	for _, text := range append(others, "", "https://evil.example/", "javascript:alert(1)", "data:text/html,x", "urn:ietf:wg:oauth:2.0:oob") {
		require.False(t, a.AllowsRedirect(text), text)
	}
}

func TestKnownApplicationsRegisterThemselvesWithAllTheirRedirects(t *testing.T) {
	b := newBed(t, config.SignIn{
		DynamicRegistration: true,
		RedirectHosts:       []string{"claude.ai", "claude.com", "vscode.dev", "insiders.vscode.dev", "www.cursor.com"},
		RedirectSchemes:     []string{"cursor"},
		RedirectPrefixes:    []string{"https://chatgpt.com/connector/oauth/"},
	})
	tests := map[string]struct {
		metadata string
		allowed  []string
		others   []string
	}{
		"Cursor": {
			`{"client_name":"Cursor","redirect_uris":["cursor://anysphere.cursor-mcp/oauth/callback","https://www.cursor.com/agents/mcp/oauth/callback",
			"http://localhost:8787/callback"],"grant_types":["authorization_code","refresh_token"],"response_types":["code"],"token_endpoint_auth_method":"none"}`,
			[]string{"cursor://anysphere.cursor-mcp/oauth/callback", "https://www.cursor.com/agents/mcp/oauth/callback", "http://localhost:8787/callback", "http://localhost:9999/callback"},
			[]string{"cursor://evil/oauth/callback", "cursor://anysphere.cursor-mcp/oauth/callback/x", "https://www.cursor.com/agents/mcp/oauth"},
		},
		"VS Code": {
			`{"client_name":"Visual Studio Code","client_uri":"https://code.visualstudio.com","grant_types":["authorization_code","refresh_token",
			"urn:ietf:params:oauth:grant-type:device_code"],"response_types":["code"],"redirect_uris":["https://insiders.vscode.dev/redirect",
			"https://vscode.dev/redirect","http://127.0.0.1/","http://127.0.0.1:33418/","http://localhost/","http://localhost:33418/"],
			"token_endpoint_auth_method":"none","application_type":"native"}`,
			[]string{"https://insiders.vscode.dev/redirect", "https://vscode.dev/redirect", "http://127.0.0.1:33418/", "http://127.0.0.1:60000", "http://localhost:60000/"},
			[]string{"http://127.0.0.1:33418/callback"},
		},
		"ChatGPT": {
			`{"client_name":"ChatGPT","redirect_uris":["https://chatgpt.com/connector/oauth/kDmjx77UnKOM"],"token_endpoint_auth_method":"client_secret_post",
			"grant_types":["authorization_code","refresh_token"],"response_types":["code"]}`,
			[]string{"https://chatgpt.com/connector/oauth/kDmjx77UnKOM"},
			[]string{"https://chatgpt.com/connector/oauth/another", "https://chatgpt.com/connector/oauth/kDmjx77UnKOM/x", "http://localhost/callback"},
		},
		"Claude": {
			`{"client_name":"Claude","grant_types":["authorization_code","refresh_token"],"response_types":["code"],"token_endpoint_auth_method":"client_secret_post",
			"scope":"claudeai","redirect_uris":["https://claude.ai/api/mcp/auth_callback","https://claude.com/api/mcp/auth_callback"]}`,
			[]string{"https://claude.ai/api/mcp/auth_callback", "https://claude.com/api/mcp/auth_callback"},
			[]string{"https://claude.ai/"},
		},
		"Claude Code": {
			`{"client_name":"Claude Code (orders)","redirect_uris":["http://localhost:58135/callback"],"grant_types":["authorization_code","refresh_token"],
			"response_types":["code"],"token_endpoint_auth_method":"none"}`,
			[]string{"http://localhost:58135/callback", "http://localhost:3118/callback"},
			[]string{"http://127.0.0.1:58135/callback"},
		},
		"mcp-remote": {
			`{"redirect_uris":["http://localhost:14331/oauth/callback"],"token_endpoint_auth_method":"none","grant_types":["authorization_code","refresh_token"],
			"response_types":["code"],"client_name":"MCP CLI Proxy","client_uri":"https://github.com/modelcontextprotocol/mcp-cli","software_id":"2e6d","software_version":"0.1.0"}`,
			[]string{"http://localhost:14331/oauth/callback", "http://localhost:3334/oauth/callback"},
			[]string{"http://localhost:3334/callback"},
		},
		"Zed": {
			`{"client_name":"Zed","redirect_uris":["http://127.0.0.1:27523/callback"],"token_endpoint_auth_method":"none"}`,
			[]string{"http://127.0.0.1:27523/callback", "http://127.0.0.1:40000/callback"},
			[]string{"http://localhost:27523/callback"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			answer := b.register(t, test.metadata)
			var asked map[string]any
			require.NoError(t, json.Unmarshal([]byte(test.metadata), &asked))
			require.Equal(t, asked["redirect_uris"], answer["redirect_uris"], "as they were sent")
			require.Equal(t, asked["token_endpoint_auth_method"], answer["token_endpoint_auth_method"])
			require.Equal(t, asked["client_name"], answer["client_name"])
			a := b.find(t, answer["client_id"].(string))
			require.Equal(t, VouchNone, a.Vouch)
			require.Equal(t, asked["client_name"], a.Name)
			require.Equal(t, asked["token_endpoint_auth_method"], a.AuthMethod)
			checkRedirects(t, a, test.allowed, test.others)
		})
	}
}
