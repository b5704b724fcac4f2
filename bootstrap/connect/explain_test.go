package connect

import (
	"io"
	"net/url"
	"testing"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"
)

// TestWhatVaultAnsweredIsNotToldAsSilence: an answer of 500 is one, and has the error.
func TestWhatVaultAnsweredIsNotToldAsSilence(t *testing.T) {
	for name, test := range map[string]struct {
		err  error
		want string
	}{
		"a failure of Vault's": {
			&api.ResponseError{StatusCode: 500, Errors: []string{"internal error"}},
			"500 internal error: Vault's own log says more",
		},
		"a folder behind a link": {
			&api.ResponseError{StatusCode: 500, Errors: []string{"1 error occurred:\n\t* cannot execute files outside of configured plugin directory\n\n"}},
			"500 cannot execute files outside of configured plugin directory: Vault follows no symbolic link here: write the real path of the folder " +
				"as plugin_directory into Vault's file, and put a copy of the program there",
		},
		"a quota": {
			&api.ResponseError{StatusCode: 429, Errors: []string{"request path \"mcp/config\": rate limit quota exceeded"}},
			"429 request path \"mcp/config\": rate limit quota exceeded: a quota of Vault's is reached: wait, or see `vault list sys/quotas/rate-limit`",
		},
		"no answer": {
			&url.Error{Op: "Put", URL: "http://vault/v1/x", Err: io.EOF},
			"EOF: the connection ended before an answer came",
		},
	} {
		t.Run(name, func(t *testing.T) {
			require.EqualError(t, Explain(test.err), test.want)
		})
	}
	require.True(t, NoAnswer(&api.ResponseError{StatusCode: 500}), "what was asked may still have been done")
}

// TestARefusalNamesThePolicyThatGrantsIt: who approves does not need the rights of who sets the
// broker up.
func TestARefusalNamesThePolicyThatGrantsIt(t *testing.T) {
	const (
		admin    = "mcp-admin does (bootstrap/policies/mcp-admin.hcl)"
		approver = "mcp-approver does (bootstrap/policies/mcp-approver.hcl)"
		reader   = approver + ", and mcp-auditor does (bootstrap/policies/mcp-auditor.hcl)"
		server   = admin + ", and with pin=enforce mcp-registrar does (bootstrap/policies/mcp-registrar.hcl)"
	)
	for name, test := range map[string]struct{ method, url, want string }{
		"an approval":                     {"PUT", "https://v:8200/v1/mcp/pins/notes", approver},
		"an approval at another mount":    {"PUT", "https://v:8200/v1/team/mcp/pins/notes", approver},
		"a read of pins":                  {"GET", "https://v:8200/v1/mcp/pins/notes?texts=true", reader},
		"the list of pins":                {"GET", "https://v:8200/v1/mcp/pins?list=true", reader},
		"a write of a server":             {"PUT", "https://v:8200/v1/mcp/servers/notes", server},
		"the removal of a server":         {"DELETE", "https://v:8200/v1/mcp/servers/notes", server},
		"a read of a server":              {"GET", "https://v:8200/v1/mcp/servers/notes", admin},
		"a gateway's read of pins":        {"GET", "https://v:8200/v1/mcp/gateway/pins/notes", admin},
		"a client that is called pins":    {"PUT", "https://v:8200/v1/mcp/clients/pins", admin},
		"a server that is called pins":    {"PUT", "https://v:8200/v1/mcp/servers/pins", server},
		"something that is not of a path": {"PUT", "", admin},
	} {
		t.Run(name, func(t *testing.T) {
			err := &api.ResponseError{StatusCode: 403, HTTPMethod: test.method, URL: test.url, Errors: []string{"permission denied"}}
			require.EqualError(t, Explain(err), "403 permission denied: the Vault token has no policy that grants this: "+test.want)
		})
	}
}
