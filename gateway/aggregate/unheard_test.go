package aggregate

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/gatewaytest"
)

// Whoever writes a client's entry, its description say, takes nothing away from a client that
// is idle and has a token: the token's next use asks Vault.
func TestAnIdleSessionOutlivesAChangeOfItsClient(t *testing.T) {
	s := newStage(t, nil)
	mine := s.open(alice)
	s.open(bob)
	s.vault.WriteClient("alice")
	s.vault.Revoke(bob) // changes, and what they end, come in their order
	gatewaytest.Eventually(t, "the changes to be heard", func() bool { return s.handler.Sessions() < 2 })
	gatewaytest.Eventually(t, "the changes to be heard", func() bool { return s.ask(pingOnce, ":token", bob).status == http.StatusUnauthorized })
	require.Equal(t, http.StatusOK, s.ask(pingOnce, mine...).status)
}

// A person may have signed in twice with one application. What hangs on the one sign-in ends
// with it, whichever of its tokens was revoked.
func TestASessionEndsWithItsSignInThoughAnotherOneGoesOn(t *testing.T) {
	s, at := newStage(t, nil), endpoints["of all servers"]
	mine := s.begin(at, s.signIn("s1", "ann", "claude", at, time.Hour))
	phone := s.signIn("s2", "ann", "claude", at, time.Hour)
	theirs := s.begin(at, phone)
	next := s.signIn("s1", "ann", "claude", at, time.Hour)
	require.Equal(t, http.StatusOK, s.ask(initOnce, ":token", next, ":path", at.path).status)
	require.Equal(t, 3, s.handler.Sessions())
	s.vault.Revoke(next)
	gatewaytest.Eventually(t, "the sessions to end", func() bool { return s.handler.Sessions() == 1 })
	require.Equal(t, http.StatusOK, s.ask(pingOnce, theirs...).status)
	require.Equal(t, http.StatusNotFound, s.ask(pingOnce, with(mine, phone)...).status)
}

// A child that the next token has used is watched over by that one, once the first has expired.
func TestAnIdleChildOutlivesAChangeOfItsClientAndTheFirstToken(t *testing.T) {
	t.Parallel()
	s, at := newPeopleStage(t), endpoints["of one server"]
	first := s.signIn("s1", "ann", "claude", at, time.Hour)
	mine := s.begin(at, first)
	next := with(mine, s.signIn("s1", "ann", "claude", at, time.Hour))
	pid := s.child(at, next...)
	s.expire(at, first)
	s.open(bob)
	s.vault.WriteClient("engineering")
	s.vault.Revoke(bob) // changes, and what they end, come in their order
	gatewaytest.Eventually(t, "the changes to be heard", func() bool { return s.handler.Sessions() == 0 })
	require.Equal(t, pid, s.child(at, next...))
}
