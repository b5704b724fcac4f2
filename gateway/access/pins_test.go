package access

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/pin"
)

// TestNobodyReachesAServerThatEnforcesPinsThatAreNotKnown: it is there, and not available. Those who
// may not reach it get the same answer as always.
func TestNobodyReachesAServerThatEnforcesPinsThatAreNotKnown(t *testing.T) {
	s := newStage(t, nil)
	for _, server := range []string{"files", "github"} {
		s.vault.FailPins(server, http.StatusInternalServerError)
		s.vault.Pin(server, pin.Enforce)
	}
	status := func(server string) int {
		response, _ := s.raw(post("/servers/"+server+"/mcp", goodToken, "x"))
		return response.StatusCode
	}
	s.vault.Await("the pins to be unknown", func() bool { return status("files") == http.StatusServiceUnavailable })
	require.Equal(t, http.StatusForbidden, status("github"))
	before := s.count()
	response, body := s.raw(post("/servers/files/mcp", goodToken, "x"))
	require.NotEmpty(t, response.Header.Get("Retry-After"))
	require.Contains(t, body, "cannot check this server")
	require.Equal(t, before, s.count())

	s.vault.FailPins("files", 0)
	s.vault.Await("the pins to be known", func() bool { return status("files") == http.StatusOK })
	for line := range strings.Lines(s.text()) {
		if strings.Contains(line, ReasonVaultUnavailable) {
			require.Contains(t, line, `"server":"files"`)
			require.Contains(t, line, "the pins of the server are not known")
		}
	}
	require.Contains(t, s.text(), ReasonVaultUnavailable)
}

func TestTheOutcomeSaysHowMuchWasNotApproved(t *testing.T) {
	s := newStage(t, nil)
	s.handle = func(w http.ResponseWriter, r *http.Request) {
		req := FromContext(r.Context())
		if f := req.Allow(); f != nil {
			Refuse(w, r, f)
			return
		}
		req.Unapproved(2)
		req.Unapproved(1)
		w.WriteHeader(http.StatusOK)
	}
	s.raw(post("/servers/files/mcp", goodToken, "x"))
	lines := s.lines(2)
	require.Equal(t, "outcome", lines[1]["type"])
	require.EqualValues(t, 3, lines[1]["unapproved"])
	require.NotContains(t, lines[0], "unapproved")
}
