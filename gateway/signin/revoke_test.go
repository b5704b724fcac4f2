package signin

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func (s *stage) revokeToken(token string, pairs ...string) answered {
	s.t.Helper()
	return send(s.t, s.Handler, revokePath, changed(map[string][]string{"token": {token}, "client_id": {desk}}, pairs))
}

// TestARefreshTokenOfAnyGenerationEndsItsSignIn, for public applications, too.
func TestARefreshTokenOfAnyGenerationEndsItsSignIn(t *testing.T) {
	for _, hint := range []string{"", "refresh_token", "access_token", "something"} {
		for generation := range 3 {
			s := newStage(t)
			used := []string{s.tokens().Refresh}
			for range 2 {
				used = append(used, s.refresh(used[len(used)-1]).ok(t).Refresh)
			}
			s.pass(time.Hour)
			require.Equal(t, http.StatusOK, s.revokeToken(used[generation], "token_type_hint", hint).status)
			require.Equal(t, 1, s.counted[eventEnded])
			line := s.audit.written[len(s.audit.written)-1]
			require.Equal(t, []string{eventEnded, "accessor-2", desk, ""}, []string{line.Event, line.SignIn, line.Application, line.Reason})
			s.ended(used...)
			require.Equal(t, http.StatusOK, s.revokeToken(used[generation]).status, "and again: it is not known any more")
		}
	}
}

func TestATokenThatIsNotKnownNeedsNoRevocation(t *testing.T) {
	s := newStage(t)
	s.tokens()
	s.calls()
	for _, token := range []string{"x", refreshPrefix, refreshPrefix + "AQAAAAE", s.code(), strings.Repeat("a", 2000)} {
		s.calls()
		require.Equal(t, http.StatusOK, s.revokeToken(token).status)
		require.Empty(t, s.calls(), "Vault is not asked")
	}
	require.Len(t, s.vault.alive(), 2, "nothing has ended")
}

func TestWhatTheRevocationEndpointRefuses(t *testing.T) {
	s := newStage(t)
	a := s.tokens()
	s.revokeToken("").is(t, 400, codeInvalidRequest)
	s.revokeToken(a.Refresh, "client_id", "unknown").is(t, 401, codeInvalidClient)
	s.revokeToken(a.Refresh, "client_id", "house").is(t, 400, codeInvalidGrant)
	require.Len(t, s.vault.alive(), 1)
	s.refresh(a.Refresh).ok(t)
}

// TestAnAccessTokenAloneEndsNothing, and the answer says so: RFC 7009, section 2.2.1.
func TestAnAccessTokenAloneEndsNothing(t *testing.T) {
	s := newStage(t)
	a := s.tokens()
	for _, token := range []string{a.Access, "mcpk_x"} {
		refused := s.revokeToken(token, "token_type_hint", "access_token")
		refused.is(t, 400, codeUnsupportedToken)
		require.Contains(t, refused.Description, "send the refresh token")
	}
	s.refresh(a.Refresh).ok(t)
}

func TestARevocationThatDoesNotReachVaultIsToBeTriedAgain(t *testing.T) {
	s := newStage(t)
	token := s.tokens().Refresh
	s.failing("Revoke", errDown)
	s.revokeToken(token).is(t, 503, codeUnavailable)
	s.failing("Revoke", nil)
	link := &cutting{fakeVault: s.vault}
	s.People = link
	link.lose("Revoke")
	s.revokeToken(token).is(t, 503, codeUnavailable)
	require.Equal(t, http.StatusOK, s.revokeToken(token).status)
	s.ended(token)
}

// TestADisabledPersonMayHangUp: Vault denies such a person's token everything, its own end
// included, and gives it nothing any more.
func TestADisabledPersonMayHangUp(t *testing.T) {
	s := newStage(t)
	token := s.tokens().Refresh
	s.failing("Revoke", errDenied)
	require.Equal(t, http.StatusOK, s.revokeToken(token).status)
	require.Contains(t, s.audit.written[len(s.audit.written)-1].Detail, "its entity is disabled")
}
