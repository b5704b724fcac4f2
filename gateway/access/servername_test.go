package access

import (
	"strings"
	"testing"

	"vault-plugin-secrets-mcp/gateway/grants"
)

func TestAuditedServerIsANameAndNeverAToken(t *testing.T) {
	registered := &grants.Server{Name: "github"}
	tests := []struct {
		name string
		req  *Request
		want string
	}{
		{"a registered server", &Request{serverName: "github", Server: registered}, "github"},
		{"a server that is not registered", &Request{serverName: "git_hub-2"}, "git_hub-2"},
		{"no server", &Request{}, ""},
		{"a token", &Request{serverName: "mcpt_0000000000000000000000000000000000000000000"}, ""},
		{"a sealed token", &Request{serverName: "mcpk_00000000"}, ""},
		{"a token of one's own", &Request{serverName: "my.token~0123456789"}, ""},
		{"a path", &Request{serverName: "../x"}, ""},
		{"a line end", &Request{serverName: "a\nb"}, ""},
		{"a name without end", &Request{serverName: strings.Repeat("a", 65)}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := test.req.auditedServer(); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}
