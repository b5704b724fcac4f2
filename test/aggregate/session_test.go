package aggregate

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/stage"
)

const addInSession = `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"add","arguments":{"a":40,"b":2}}}`

// inSessionOf sends a message in a session.
func inSessionOf(s *stage.Stage, token, session, method, message string) harness.Response {
	header := stage.InSession(session)
	if method == http.MethodGet {
		header.Set("Accept", "text/event-stream")
	}
	if method != http.MethodPost {
		header.Del("Content-Type")
	}
	return s.Do(method, s.URL(stage.Calculator), token, header, s.Named(message))
}

func TestSessionIsOfItsClientAlone(t *testing.T) {
	s := stage.New(t, harness.GatewayOptions{})
	s.Everywhere(func(s *stage.Stage) {
		t := s.T
		mine, other := s.Client("mine", nil), s.Client("other", nil)
		session := stage.OpenSession(t, s.Harness, s.URL(stage.Calculator), mine)
		s.Works(t, other)
		r := inSessionOf(s, mine, session, http.MethodPost, addInSession)
		require.Equal(t, http.StatusOK, r.Status)
		require.Contains(t, r.Body, "42")

		for _, id := range []string{session, session + "x", strings.ToLower(session), "x"} {
			s.Forget()
			for method, message := range map[string]string{http.MethodPost: addInSession, http.MethodGet: "", http.MethodDelete: ""} {
				r := inSessionOf(s, other, id, method, message)
				require.Equal(t, http.StatusNotFound, r.Status, "%s by another client: %s", method, r.Body)
				if method == http.MethodPost {
					require.Contains(t, r.Body, `"id":7`)
				}
			}
			s.Untouched(t)
		}

		rotated := s.Token(s.Write("mcp/rotate-client/mine", harness.Map{"grace_period": "1h"}))
		for _, token := range []string{mine, rotated} {
			r = inSessionOf(s, token, session, http.MethodPost, addInSession)
			require.Equal(t, http.StatusOK, r.Status, r.Body)
			require.Contains(t, r.Body, "42")
		}
		r = inSessionOf(s, mine, session, http.MethodDelete, "")
		require.Equal(t, http.StatusNoContent, r.Status, r.Body)
		r = inSessionOf(s, mine, session, http.MethodPost, addInSession)
		require.Equal(t, http.StatusNotFound, r.Status, r.Body)
	})
}

// TestSessionEndsWithItsClient: when all tokens of a client have ended, its sessions
// are gone, also for a client that is created again under the same name.
func TestSessionEndsWithItsClient(t *testing.T) {
	s := stage.New(t, harness.GatewayOptions{})
	s.Everywhere(func(s *stage.Stage) {
		t := s.T
		token := s.Client("cursor", nil)
		session := stage.OpenSession(t, s.Harness, s.URL(stage.Calculator), token)
		s.Delete("mcp/clients/cursor")
		again := s.Client("cursor", nil)
		s.RefusedSoon(t, token)
		s.Forget()
		for method, message := range map[string]string{http.MethodPost: addInSession, http.MethodGet: "", http.MethodDelete: ""} {
			r := inSessionOf(s, again, session, method, message)
			require.Equal(t, http.StatusNotFound, r.Status, "%s: %s", method, r.Body)
		}
		s.Untouched(t)
	})
}

// TestSessionAtAnotherGateway: a server's own session is served by every
// gateway; one of all servers lives on the one that opened it, and a client
// starts again elsewhere.
func TestSessionAtAnotherGateway(t *testing.T) {
	s := stage.New(t, harness.GatewayOptions{})
	elsewhere := s.StartGateway(harness.GatewayOptions{})
	token := s.Client("cursor", nil)
	want := map[stage.Endpoint]int{stage.Single: http.StatusOK, stage.Aggregate: http.StatusNotFound}
	for _, at := range stage.Endpoints {
		s.At = at
		session := stage.OpenSession(t, s.Harness, s.URL(stage.Calculator), token)
		r := s.Do(http.MethodPost, at.URL(elsewhere, stage.Calculator), token, stage.InSession(session), s.Named(addInSession))
		require.Equal(t, want[at], r.Status, r.Body)
		stage.OpenSession(t, s.Harness, at.URL(elsewhere, stage.Calculator), token)
	}
}
