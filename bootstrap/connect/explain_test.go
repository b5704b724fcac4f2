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
