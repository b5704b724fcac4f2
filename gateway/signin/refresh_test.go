package signin

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

func TestARefreshTokenIsReplacedByEachUse(t *testing.T) {
	s := newStage(t)
	token, seen := s.tokens().Refresh, map[string]bool{}
	for range 5 {
		s.pass(10 * time.Minute)
		a := s.refresh(token).ok(t)
		require.NotEqual(t, token, a.Refresh)
		require.False(t, seen[a.Access])
		seen[a.Access], token = true, a.Refresh
	}
	require.Equal(t, 5, s.counted[eventRefreshed])
	require.EqualValues(t, 5, s.audit.written[len(s.audit.written)-1].Generation, "the one that was shown")
	require.Len(t, s.vault.alive(), 1)
}

func TestARefreshRightAfterTheSignInWorks(t *testing.T) {
	s := newStage(t)
	s.pass(time.Second)
	s.refresh(s.tokens().Refresh).ok(t)
}

// TestFiveProcessesRefreshAtOnce, at three gateways: all get tokens, and all the same next
// refresh token's generation, so that none of them ends the sign-in.
func TestFiveProcessesRefreshAtOnce(t *testing.T) {
	s := newStage(t)
	token := s.tokens().Refresh
	gateways := []*Handler{s.Handler, s.gateway(), s.gateway()}
	for range 3 {
		s.pass(10 * time.Minute)
		answers := make([]answered, 5)
		var done sync.WaitGroup
		for i := range answers {
			done.Go(func() { answers[i] = send(t, gateways[i%3], TokenPath, refreshForm(token)) })
		}
		done.Wait()
		for _, a := range answers {
			a.ok(t)
		}
		s.pass(grace / 2)
		token = answers[0].Refresh
		for i, a := range answers {
			send(t, gateways[i%3], TokenPath, refreshForm(a.Refresh)).ok(t, "each may go on with its own")
		}
		token = send(t, s.Handler, TokenPath, refreshForm(answers[4].Refresh)).ok(t).Refresh
	}
	require.Len(t, s.vault.alive(), 1)
}

func TestTheRefreshTokenBeforeIsGoodForAMinute(t *testing.T) {
	s := newStage(t)
	first := s.tokens().Refresh
	second := s.refresh(first).ok(t).Refresh
	s.pass(grace)
	again := s.refresh(first).ok(t)
	require.Equal(t, 1, s.counted[eventRepeated])
	require.Equal(t, eventRepeated, s.audit.written[len(s.audit.written)-1].Event, "each repetition has its line")
	third := s.refresh(again.Refresh).ok(t, "it has the present generation").Refresh
	s.refresh(second).ok(t, "within the grace of the third")
	s.refresh(third).ok(t)
}

// ended requires that the sign-in is over: no token of it works, and Vault has no token of the
// person.
func (s *stage) ended(tokens ...string) {
	s.t.Helper()
	require.Empty(s.t, s.vault.alive())
	for _, token := range tokens {
		s.refresh(token).is(s.t, 400, codeInvalidGrant)
	}
}

// TestTheClocksOfGatewaysMayDiffer by less than a minute: one that is ahead has noted when a
// generation began.
func TestTheClocksOfGatewaysMayDiffer(t *testing.T) {
	for ahead, served := range map[time.Duration]bool{30 * time.Second: true, 59 * time.Second: true, 61 * time.Second: false, time.Hour: false} {
		s := newStage(t)
		first := s.tokens().Refresh
		s.refresh(first).ok(t)
		s.vault.tokens["hvs.person-2"].generations[2] = s.now().Add(ahead)
		if served {
			s.refresh(first).ok(t, ahead)
		} else {
			s.refresh(first).is(t, 400, codeInvalidGrant, ahead)
		}
	}
}

// TestARefreshGivesNoTokenThatIsGoodNowhere: public_url was changed, so the sign-in's resource is not
// this gateway's any more. Applications sign in again for invalid_grant. Another gateway, which
// has not got the new file yet, serves the sign-in as before.
func TestARefreshGivesNoTokenThatIsGoodNowhere(t *testing.T) {
	s := newStage(t)
	refresh, code := s.tokens().Refresh, s.code()
	moved := s.gateway()
	moved.PublicURL = "https://mcp.new.example.com"
	s.calls()
	send(t, moved, TokenPath, refreshForm(refresh)).is(t, 400, codeInvalidGrant)
	send(t, moved, TokenPath, exchangeForm(code, "resource", "")).is(t, 400, codeInvalidGrant)
	require.Empty(t, s.calls())
	s.refresh(refresh).ok(t)
	send(t, s.Handler, TokenPath, exchangeForm(code)).ok(t)
}

// TestAnAnswerThatIsLostWhileRefreshing hurts nobody who asks again within a minute.
func TestAnAnswerThatIsLostWhileRefreshing(t *testing.T) {
	for _, method := range []string{"Lookup", "Generation", "Credentials", "Renew", "SetGeneration"} {
		t.Run(method, func(t *testing.T) {
			s := newStage(t)
			token := s.tokens().Refresh
			link := &cutting{fakeVault: s.vault}
			s.People = link
			link.lose(method)
			s.pass(10 * time.Minute)
			s.refresh(token).is(t, 503, codeUnavailable)
			s.pass(grace)
			next := s.refresh(token).ok(t).Refresh
			s.pass(10 * time.Minute)
			s.refresh(next).ok(t)
			require.Len(t, s.vault.alive(), 1)
		})
	}
}

// TestTheGraceIsByVaultsClock: gateways whose clocks are wrong by minutes neither end a sign-in
// that is refreshed twice at once, nor serve a thief for longer.
func TestTheGraceIsByVaultsClock(t *testing.T) {
	for name, off := range map[string]time.Duration{"ahead": 5 * time.Minute, "behind": -5 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			wrong := s.gateway()
			wrong.Now = func() time.Time { return s.now().Add(off) }
			token := s.tokens().Refresh
			s.refresh(token).ok(t)
			send(t, wrong, TokenPath, refreshForm(token)).ok(t, "the same at once")
			token = send(t, wrong, TokenPath, refreshForm(s.refresh(token).ok(t).Refresh)).ok(t).Refresh
			next := s.refresh(token).ok(t).Refresh
			s.pass(grace + time.Second)
			send(t, wrong, TokenPath, refreshForm(token)).is(t, 400, codeInvalidGrant, "too late")
			s.ended(next)
		})
	}
}

// TestWhatCannotBeAskedEndsNothing: an application that was told invalid_grant throws its
// tokens away.
func TestWhatCannotBeAskedEndsNothing(t *testing.T) {
	for method, leases := range map[string]bool{"Lookup": false, "Generation": false, "Credentials": false, "Renew": true, "SetGeneration": true} {
		t.Run(method, func(t *testing.T) {
			s := newStage(t)
			token := s.tokens().Refresh
			s.failing(method, errDown)
			for range 3 * familyTokens {
				s.pass(time.Second)
				a := s.refresh(token)
				if !leases {
					require.Equal(t, 503, a.status, "what Vault has not given counts for nothing")
				}
				require.Contains(t, []int{503, 429}, a.status)
			}
			require.Len(t, s.vault.alive(), 1)
			s.failing(method, nil)
			if leases {
				s.pass(familyTime)
			}
			s.refresh(token).ok(t)
		})
	}
	t.Run("the audit log", func(t *testing.T) {
		s := newStage(t)
		token := s.tokens().Refresh
		s.audit.fail = errDown
		s.refresh(token).is(t, 503, codeUnavailable, "nothing is handed out")
		s.audit.fail = nil
		s.refresh(token).ok(t)
	})
	t.Run("the gateway's keys", func(t *testing.T) {
		s := newStage(t)
		token, keys := s.tokens().Refresh, s.keys
		s.keys = nil
		s.refresh(token).is(t, 503, codeUnavailable)
		s.keys = keys
		s.refresh(token).ok(t)
	})
}

func TestTheNoOfVaultEndsTheSignIn(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*stage)
		reason string
	}{
		"an administrator has revoked the person's token": {func(s *stage) {
			for _, token := range s.vault.tokens {
				token.revoked = true
			}
		}, reasonOver},
		"Vault's ACL does not grant the client any more": {func(s *stage) { s.vault.tokens["hvs.person-2"].may = nil }, reasonAccess},
		"nobody may sign in as the client any more":      {func(s *stage) { s.failing("Credentials", errRefused) }, reasonAccess},
		"the person has joined a group of administrators": {func(s *stage) {
			s.vault.tokens["hvs.person-2"].IdentityPolicies = []string{"mcp-person-engineering", "admins"}
		}, reasonPolicies},
		"the person has got a policy in another namespace": {func(s *stage) {
			s.vault.tokens["hvs.person-2"].External = map[string][]string{"team/": {"admins"}}
		}, reasonPolicies},
		"an administrator has deleted the role of the login": {func(s *stage) { s.failing("Renew", vaultclient.ErrNoRole) }, reasonOver},
		"the file lists fewer policies":                      {func(s *stage) { s.settings.PersonPolicies = []string{"default"} }, reasonPolicies},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			token := s.tokens().Refresh
			c.change(s)
			s.refresh(token).is(t, 400, codeInvalidGrant)
			require.Equal(t, 1, s.counted[eventEnded])
			line := s.audit.written[len(s.audit.written)-1]
			require.Equal(t, []string{eventEnded, c.reason, "accessor-2"}, []string{line.Event, line.Reason, line.SignIn})
			s.failing("Credentials", nil)
			s.ended(token)
		})
	}
}

// longer is a Vault that renews for longer than it is asked to.
type longer struct{ *fakeVault }

func (v longer) Renew(ctx context.Context, t *vaultclient.PersonToken, increment time.Duration) (time.Duration, error) {
	return v.fakeVault.Renew(ctx, t, increment+time.Hour)
}

func TestATokenThatWouldOutliveItsSignInIsNotKept(t *testing.T) {
	s := newStage(t)
	token := s.tokens().Refresh
	s.People = longer{s.vault}
	s.refresh(token).is(t, 400, codeInvalidGrant)
	s.ended(token)
}

// TestASignInHasAnEnd: Vault's renewal asks nobody at the identity provider.
func TestASignInHasAnEnd(t *testing.T) {
	s := newStage(t, func(c *config.SignIn) { c.SessionMax = time.Hour })
	token := s.tokens().Refresh
	ends := s.vault.tokens["hvs.person-2"].Created.Add(time.Hour)
	for range 3 {
		s.pass(14 * time.Minute)
		token = s.refresh(token).ok(t).Refresh
		require.Equal(t, ends, s.vault.tokens["hvs.person-2"].ends, "it is never renewed past its end")
	}
	s.pass(13 * time.Minute)
	a := s.refresh(token).ok(t)
	require.EqualValues(t, 5*60, a.ExpiresIn, "an access token ends with the sign-in")
	s.settings.SessionMax = 24 * time.Hour // for sign-ins that begin later
	s.pass(5 * time.Minute)
	s.vault.tokens["hvs.person-2"].ends = s.now().Add(time.Hour) // whatever Vault has granted
	leases := len(s.vault.leases)
	s.refresh(a.Refresh).is(t, 400, codeInvalidGrant)
	require.Len(t, s.vault.leases, leases, "the engine is not asked")
	s.ended(a.Refresh)
}

func TestAShorterEndCountsAtOnce(t *testing.T) {
	s := newStage(t)
	token := s.tokens().Refresh
	s.pass(time.Hour)
	s.settings.SessionMax = 30 * time.Minute
	s.refresh(token).is(t, 400, codeInvalidGrant)
	s.ended(token)
}

func TestARefreshNeverWidens(t *testing.T) {
	const server = publicURL + "/sign-in/servers/github/mcp"
	s := newStage(t)
	a := send(t, s.Handler, TokenPath, exchangeForm(s.code("resource", server))).ok(t)
	s.calls()
	for _, resource := range []string{publicURL + "/sign-in/mcp", publicURL, "https://other.example.com/", publicURL + "/sign-in/servers/files/mcp", "x"} {
		s.refresh(a.Refresh, "resource", resource).is(t, 400, codeInvalidTarget, resource)
	}
	require.Empty(t, s.calls(), "before anything else")
	token := a.Refresh
	for _, pairs := range [][]string{{}, {"resource", server}, {"resource", server + "/"}, {"scope", "mcp admin openid"}, {"scope", " claudeai"}} {
		a := s.refresh(token, pairs...).ok(t, pairs)
		require.Equal(t, "mcp", a.Scope, "what is granted")
		token = a.Refresh
	}
	for _, lease := range s.vault.leases {
		require.Equal(t, server, lease.request.Resource)
		require.Equal(t, "engineering", lease.client)
	}
}

func TestARefreshTokenIsGoodForItsApplicationAlone(t *testing.T) {
	s := newStage(t)
	token := s.tokens().Refresh
	stranger := s.register("http://localhost/callback")
	s.calls()
	for _, client := range []string{"house", stranger} {
		s.refresh(token, "client_id", client).is(t, 400, codeInvalidGrant)
	}
	s.refresh(token, "client_id", "unknown").is(t, 401, codeInvalidClient)
	require.Empty(t, s.calls(), "and nothing ends")
	s.refresh(token).ok(t)
}

func TestAnAlteredRefreshTokenIsNotValid(t *testing.T) {
	s := newStage(t)
	token := s.tokens().Refresh
	s.calls()
	for i := range len(token) {
		other := "A"
		if token[i] == 'A' {
			other = "B"
		}
		send(t, s.gateway(), TokenPath, refreshForm(token[:i]+other+token[i+1:])).is(t, 400, codeInvalidGrant)
	}
	require.Empty(t, s.calls(), "Vault is not asked")
	s.keys.Keys[1] = [32]byte{7} // gateway/keys/rotate drop_old=true
	s.refresh(token).is(t, 400, codeInvalidGrant, "the step after a leak ends all of them")
}

func TestASignInGetsSoManyAccessTokensInATime(t *testing.T) {
	s := newStage(t)
	token := s.tokens().Refresh // the first one
	for range familyTokens - 1 {
		token = s.refresh(token).ok(t).Refresh
	}
	s.calls()
	s.refresh(token).is(t, 429, codeUnavailable)
	require.Empty(t, s.calls(), "Vault is not asked")
	require.Equal(t, reasonRateLimited, s.audit.counted[len(s.audit.counted)-1].Reason, "counted, and not a line each")
	other := s.tokens().Refresh
	s.refresh(other).ok(t, "another sign-in has its own")
	s.pass(familyTime / familyTokens)
	s.refresh(token).ok(t)
}

// TestAnApplicationThatIsNotAllowedAnyMore is out at its next refresh, which ends nothing: it
// may be allowed again.
func TestAnApplicationThatIsNotAllowedAnyMore(t *testing.T) {
	s := newStage(t)
	id := s.register("http://localhost/callback")
	code := s.code("client_id", id, "redirect_uri", "http://localhost:5555/callback")
	a := send(t, s.Handler, TokenPath, exchangeForm(code, "client_id", id, "redirect_uri", "http://localhost:5555/callback")).ok(t)
	settings := *s.settings
	settings.DynamicRegistration = false
	require.NoError(t, s.Applications.Configure(&settings))
	s.refresh(a.Refresh, "client_id", id).is(t, 401, codeInvalidClient)
	require.NoError(t, s.Applications.Configure(s.settings))
	s.refresh(a.Refresh, "client_id", id).ok(t)
}

// TestWhatTheApplicationIsToldHasNoSecret, nor the audit lines, whatever it sends.
func TestWhatIsSaidOfARefreshHasNoSecret(t *testing.T) {
	s := newStage(t)
	token := s.tokens().Refresh
	second := s.refresh(token).ok(t)
	s.pass(2 * grace)
	for _, form := range []url.Values{refreshForm(token), refreshForm(token, "client_id", "house"), exchangeForm("mcpt_secret"), refreshForm("mcpt_secret")} {
		a := send(t, s.Handler, TokenPath, form)
		require.NotEqual(t, http.StatusOK, a.status)
		for _, secret := range []string{token, second.Access, "hvs.", "mcpt_"} {
			require.NotContains(t, a.Description, secret)
		}
	}
	for _, e := range append(s.audit.written, s.audit.counted...) {
		line := strings.Join([]string{e.Event, e.Reason, e.Detail, e.Client, e.Person, e.Application, e.SignIn, e.Login, e.Resource, e.Accessor}, " ")
		for _, secret := range []string{token, second.Access, "hvs.", "mcpt_", "mcpr_"} {
			require.NotContains(t, line, secret)
		}
	}
}

func FuzzARefreshTokenThatNobodyHasSealed(f *testing.F) {
	for _, text := range []string{"", "mcpr_", "mcpr_AQ", "mcpr_AQAAAAE", "mcpt_x", "mcpr_\x00", refreshPrefix + strings.Repeat("A", 100)} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s := newStage(t)
		a := s.refresh(text)
		require.Equal(t, http.StatusBadRequest, a.status)
		require.Contains(t, []string{codeInvalidGrant, codeInvalidRequest}, a.Error)
		send(t, s.Handler, TokenPath, exchangeForm(text)).is(t, 400, map[bool]string{true: codeInvalidRequest, false: codeInvalidGrant}[text == ""])
		require.Empty(t, s.calls())
	})
}
