package test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
)

const addInSession = `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"add","arguments":{"a":40,"b":2}}}`

// inSessionOf sends a message in a session.
func (s *stage) inSessionOf(token, session, method, message string) harness.Response {
	header := inSession(session)
	if method == http.MethodGet {
		header.Set("Accept", "text/event-stream")
	}
	if method != http.MethodPost {
		header.Del("Content-Type")
	}
	return s.Do(method, s.url(calculator), token, header, s.named(message))
}

func TestSessionIsOfItsClientAlone(t *testing.T) {
	s := newStage(t, harness.GatewayOptions{})
	s.everywhere(func(s *stage) {
		t := s.t
		mine, other := s.client("mine", nil), s.client("other", nil)
		session := openSession(t, s.Harness, s.url(calculator), mine)
		s.works(t, other)
		r := s.inSessionOf(mine, session, http.MethodPost, addInSession)
		require.Equal(t, http.StatusOK, r.Status)
		require.Contains(t, r.Body, "42")

		for _, id := range []string{session, session + "x", strings.ToLower(session), "x"} {
			s.forget()
			for method, message := range map[string]string{http.MethodPost: addInSession, http.MethodGet: "", http.MethodDelete: ""} {
				r := s.inSessionOf(other, id, method, message)
				require.Equal(t, http.StatusNotFound, r.Status, "%s by another client: %s", method, r.Body)
				if method == http.MethodPost {
					require.Contains(t, r.Body, `"id":7`)
				}
			}
			s.untouched(t)
		}

		rotated := s.Token(s.Write("mcp/rotate-client/mine", harness.Map{"grace_period": "1h"}))
		for _, token := range []string{mine, rotated} {
			r = s.inSessionOf(token, session, http.MethodPost, addInSession)
			require.Equal(t, http.StatusOK, r.Status, r.Body)
			require.Contains(t, r.Body, "42")
		}
		r = s.inSessionOf(mine, session, http.MethodDelete, "")
		require.Equal(t, http.StatusNoContent, r.Status, r.Body)
		r = s.inSessionOf(mine, session, http.MethodPost, addInSession)
		require.Equal(t, http.StatusNotFound, r.Status, r.Body)
	})
}

// TestSessionEndsWithItsClient: what was opened with tokens that have all ended
// is not there for a client that comes back under the same name.
func TestSessionEndsWithItsClient(t *testing.T) {
	s := newStage(t, harness.GatewayOptions{})
	s.everywhere(func(s *stage) {
		t := s.t
		token := s.client("cursor", nil)
		session := openSession(t, s.Harness, s.url(calculator), token)
		s.Delete("mcp/clients/cursor")
		again := s.client("cursor", nil)
		s.refusedSoon(t, token)
		s.forget()
		for method, message := range map[string]string{http.MethodPost: addInSession, http.MethodGet: "", http.MethodDelete: ""} {
			r := s.inSessionOf(again, session, method, message)
			require.Equal(t, http.StatusNotFound, r.Status, "%s: %s", method, r.Body)
		}
		s.untouched(t)
	})
}

// TestSessionAtAnotherGateway: a server's own session is served by every
// gateway; one of all servers lives on the one that opened it, and a client
// starts anew elsewhere.
func TestSessionAtAnotherGateway(t *testing.T) {
	s := newStage(t, harness.GatewayOptions{})
	elsewhere := s.StartGateway(harness.GatewayOptions{})
	token := s.client("cursor", nil)
	want := map[endpoint]int{single: http.StatusOK, aggregate: http.StatusNotFound}
	for _, at := range endpoints {
		s.at = at
		session := openSession(t, s.Harness, s.url(calculator), token)
		r := s.Do(http.MethodPost, at.url(elsewhere, calculator), token, inSession(session), s.named(addInSession))
		require.Equal(t, want[at], r.Status, r.Body)
		openSession(t, s.Harness, at.url(elsewhere, calculator), token)
	}
}
