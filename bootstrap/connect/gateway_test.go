package connect

import "testing"

func TestTheGatewaysURLHasNoEndpointBehindIt(t *testing.T) {
	for text, want := range map[string]string{
		"https://mcp.example.com":                        "https://mcp.example.com",
		"https://mcp.example.com/":                       "https://mcp.example.com",
		"https://mcp.example.com/mcp":                    "https://mcp.example.com",
		"https://mcp.example.com/mcp/":                   "https://mcp.example.com",
		"https://mcp.example.com/mcp//":                  "https://mcp.example.com",
		"https://mcp.example.com/servers/github/mcp":     "https://mcp.example.com",
		"https://mcp.example.com/gateway":                "https://mcp.example.com/gateway",
		"https://mcp.example.com/gateway/mcp":            "https://mcp.example.com/gateway",
		"https://mcp.example.com/gateway/servers/a/mcp/": "https://mcp.example.com/gateway",
		"https://mcp.example.com/tmcp":                   "https://mcp.example.com/tmcp",
		"http://127.0.0.1:8080/mcp":                      "http://127.0.0.1:8080",
	} {
		if got, err := GatewayURL(text); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", text, got, err, want)
		}
	}
	for _, text := range []string{"", "mcp.example.com", "mcp.example.com/mcp", "ftp://h/mcp", "https://u@h", "https://h/?a", "https://h/#a", "https:///mcp"} {
		if got, err := GatewayURL(text); err == nil {
			t.Errorf("%s: %q", text, got)
		}
	}
}
