package signin

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

const otherVerifier = "a-verifier-of-somebody-else-that-is-long-enough"

// TestACodeIsGoodForWhomItWasGivenAlone, and nobody who lacks something uses it up.
func TestACodeIsGoodForWhomItWasGivenAlone(t *testing.T) {
	for name, c := range map[string]struct {
		pairs []string
		code  string
	}{
		"another application has it":                 {[]string{"client_id", "house", "redirect_uri", deskRedirect}, codeInvalidGrant},
		"another redirect":                           {[]string{"redirect_uri", "https://desk.example.com/other"}, codeInvalidGrant},
		"a redirect with a slash more":               {[]string{"redirect_uri", deskRedirect + "/"}, codeInvalidGrant},
		"no redirect":                                {[]string{"redirect_uri", ""}, codeInvalidGrant},
		"no verifier":                                {[]string{"code_verifier", ""}, codeInvalidRequest},
		"somebody else's verifier":                   {[]string{"code_verifier", otherVerifier}, codeInvalidGrant},
		"the challenge in place of the verifier":     {[]string{"code_verifier", challenge}, codeInvalidGrant},
		"a verifier that is too short":               {[]string{"code_verifier", "short"}, codeInvalidGrant},
		"a verifier with a character of no verifier": {[]string{"code_verifier", verifier + "="}, codeInvalidGrant},
		"a verifier that is too long":                {[]string{"code_verifier", strings.Repeat("a", 129)}, codeInvalidGrant},
		"another service's resource":                 {[]string{"resource", "https://other.example.com/sign-in/mcp"}, codeInvalidTarget},
		"another resource of this gateway":           {[]string{"resource", publicURL + "/sign-in/servers/github/mcp"}, codeInvalidTarget},
		"the resource of tokens without sign-in":     {[]string{"resource", publicURL + "/mcp"}, codeInvalidTarget},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			code := s.code()
			s.calls()
			send(t, s.Handler, TokenPath, exchangeForm(code, c.pairs...)).is(t, 400, c.code)
			require.Empty(t, s.calls(), "Vault is not asked")
			send(t, s.Handler, TokenPath, exchangeForm(code)).ok(t, "the code is not used up")
		})
	}
}

func TestTheResourceOfACodeMayBeLeftOutOrHaveASlash(t *testing.T) {
	for _, resource := range []string{"", publicURL + "/sign-in/mcp", publicURL + "/sign-in/mcp/", publicURL, publicURL + "/"} {
		s := newStage(t)
		send(t, s.Handler, TokenPath, exchangeForm(s.code(), "resource", resource)).ok(t, resource)
		require.Equal(t, publicURL+"/sign-in/mcp", s.vault.leases[0].request.Resource)
	}
}

func TestAnAlteredCodeIsNotValid(t *testing.T) {
	s := newStage(t)
	code := s.code()
	s.calls()
	for i := range len(code) {
		other := "A"
		if code[i] == 'A' {
			other = "B"
		}
		send(t, s.gateway(), TokenPath, exchangeForm(code[:i]+other+code[i+1:])).is(t, 400, codeInvalidGrant)
	}
	for _, text := range []string{code + "A", code[:len(code)-1], code + "\n", "=" + code} {
		send(t, s.gateway(), TokenPath, exchangeForm(text)).is(t, 400, codeInvalidGrant)
	}
	require.Empty(t, s.calls())
	send(t, s.Handler, TokenPath, exchangeForm(code)).ok(t)
}

func TestACodeIsGoodOnce(t *testing.T) {
	s := newStage(t)
	code := s.code()
	send(t, s.Handler, TokenPath, exchangeForm(code)).ok(t)
	send(t, s.Handler, TokenPath, exchangeForm(code)).is(t, 400, codeInvalidGrant, "here")
	send(t, s.gateway(), TokenPath, exchangeForm(code)).is(t, 400, codeInvalidGrant, "nor at another gateway")
	require.Equal(t, 2, s.counted[eventReplayed])
	last := s.audit.written[len(s.audit.written)-1]
	require.Equal(t, eventReplayed, last.Event)
	require.Equal(t, "accessor-2", last.SignIn, "an administrator sees which sign-in to end")
}

func TestOfTwoWhoUseACodeAtOnceOneGetsTokens(t *testing.T) {
	s := newStage(t)
	code := s.code()
	gateways := []*Handler{s.Handler, s.gateway(), s.gateway(), s.gateway()}
	answers := make([]answered, len(gateways))
	var done sync.WaitGroup
	for i, h := range gateways {
		done.Go(func() { answers[i] = send(t, h, TokenPath, exchangeForm(code)) })
	}
	done.Wait()
	served := 0
	for _, a := range answers {
		if a.status == http.StatusOK {
			served++
			continue
		}
		a.is(t, 400, codeInvalidGrant)
	}
	require.Equal(t, 1, served)
}

// TestACodeIsGoodAtAGatewayWhoseClockIsAhead: Vault's clock is the one that counts.
func TestACodeIsGoodAtAGatewayWhoseClockIsAhead(t *testing.T) {
	s := newStage(t)
	ahead := s.gateway()
	ahead.Now = func() time.Time { return s.now().Add(skew - time.Second) }
	code := s.code()
	s.pass(codeLife / 2)
	send(t, ahead, TokenPath, exchangeForm(code)).ok(t)

	code = s.code()
	s.pass(codeLife)
	send(t, s.Handler, TokenPath, exchangeForm(code)).is(t, 400, codeInvalidGrant, "its minute is over at Vault")
}

func TestACodeIsGoodAtEveryGateway(t *testing.T) {
	s := newStage(t)
	code := s.code()
	s.newer = &grants.SessionKeys{Current: 2, Keys: map[int][32]byte{1: {1}, 2: {2}}, MountID: "mount", Registration: s.keys.Registration}
	a := send(t, s.gateway(), TokenPath, exchangeForm(code)).ok(t)

	old := s.keys
	s.keys = s.newer
	successor := s.refresh(a.Refresh).ok(t).Refresh
	s.keys = old // a gateway that has not heard of the newer key
	s.refresh(successor).ok(t, "it asks for the key")
}

func TestACodeExpires(t *testing.T) {
	s := newStage(t)
	code := s.code()
	s.pass(codeLife + time.Second)
	send(t, s.Handler, TokenPath, exchangeForm(code)).is(t, 400, codeInvalidGrant)

	code = s.code()
	s.pass(codeLife + skew + time.Second)
	s.calls()
	send(t, s.Handler, TokenPath, exchangeForm(code)).is(t, 400, codeInvalidGrant)
	require.Empty(t, s.calls(), "no clock says that it may still be good")
}

// TestACodeOutlivesWhatDoesNotReachVault: a request that did not reach Vault is not a
// "no".
func TestACodeOutlivesWhatDoesNotReachVault(t *testing.T) {
	s := newStage(t)
	code := s.code()
	s.failing("Unwrap", errDown)
	send(t, s.Handler, TokenPath, exchangeForm(code)).is(t, 503, codeUnavailable)
	s.failing("Unwrap", nil)
	keys := s.keys
	s.keys = nil
	send(t, s.Handler, TokenPath, exchangeForm(code)).is(t, 503, codeUnavailable, "the gateway has no keys yet")
	s.keys = keys
	send(t, s.Handler, TokenPath, exchangeForm(code)).ok(t)
}

// TestAnExchangeThatFailsLeavesNoTokenOfThePerson: the code is used up by then, so that nobody
// could end it.
func TestAnExchangeThatFailsLeavesNoTokenOfThePerson(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*stage)
		status int
		reason string
	}{
		"Vault cannot be asked about the token": {func(s *stage) { s.failing("Lookup", errDown) }, 503, reasonUnavailable},
		"the engine cannot be asked":            {func(s *stage) { s.failing("Credentials", errDown) }, 503, reasonUnavailable},
		"Vault does not grant the client":       {func(s *stage) { s.failing("Credentials", errDenied) }, 400, reasonAccess},
		"the engine refuses the client":         {func(s *stage) { s.failing("Credentials", errRefused) }, 400, reasonAccess},
		"the token cannot be renewed":           {func(s *stage) { s.failing("Renew", errDown) }, 503, reasonUnavailable},
		"Vault denies the renewal":              {func(s *stage) { s.failing("Renew", errDenied) }, 400, reasonOver},
		"the generation cannot be written":      {func(s *stage) { s.failing("SetGeneration", errDown) }, 503, reasonUnavailable},
		"the audit log cannot be written":       {func(s *stage) { s.audit.fail = errDown }, 503, ""},
		"the person has become an administrator": {func(s *stage) {
			for _, token := range s.vault.tokens {
				token.IdentityPolicies = append(token.IdentityPolicies, "admins")
			}
		}, 400, reasonPolicies},
		"the token has ended": {func(s *stage) {
			for _, token := range s.vault.tokens {
				token.revoked = true
			}
		}, 400, reasonOver},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			code := s.code()
			require.Len(t, s.vault.alive(), 1)
			c.change(s)
			a := send(t, s.Handler, TokenPath, exchangeForm(code))
			require.Equal(t, c.status, a.status, a.Description)
			require.Empty(t, a.Access)
			require.Empty(t, a.Refresh)
			require.Empty(t, s.vault.alive())
			if c.reason != "" {
				require.Contains(t, s.audit.refusals(), c.reason)
			}
		})
	}
}

// TestASignInThatBegins: the person's token lives to the end of the sign-in and no longer, and
// the audit line is written before anything is handed out.
func TestASignInThatBegins(t *testing.T) {
	s := newStage(t, func(c *config.SignIn) { c.SessionMax = time.Hour })
	code := s.code()
	s.pass(30 * time.Second)
	send(t, s.Handler, TokenPath, exchangeForm(code)).ok(t)
	token := s.vault.tokens["hvs.person-2"]
	require.Equal(t, token.Created.Add(time.Hour), token.ends, "counted from the login")
	lease := s.vault.leases[0]
	require.Equal(t, vaultclient.CredsRequest{
		Resource: publicURL + "/sign-in/mcp", Application: desk, ApplicationName: "Desk", Login: "employees", SignInEnds: token.Created.Add(time.Hour),
	}, lease.request)
	require.Equal(t, "engineering", lease.client)

	last := s.audit.written[len(s.audit.written)-1]
	require.Equal(t, eventToken, last.Event)
	require.Equal(t, []string{"request-1", "engineering", "c1", "ann", "entity-ann", desk, "accessor-2", "employees", publicURL + "/sign-in/mcp"},
		[]string{last.RequestID, last.Client, last.ClientID, last.Person, last.EntityID, last.Application, last.SignIn, last.Login, last.Resource})
	require.EqualValues(t, 1, last.Generation)
	require.NotEmpty(t, last.Accessor)
	require.Equal(t, 1, s.counted[eventToken])
}

// TestAnAnswerThatIsLostWhileACodeIsExchanged costs the person another sign-in, and leaves
// nothing behind.
func TestAnAnswerThatIsLostWhileACodeIsExchanged(t *testing.T) {
	for _, method := range []string{"Unwrap", "Lookup", "Credentials", "Renew", "SetGeneration"} {
		t.Run(method, func(t *testing.T) {
			s := newStage(t)
			code := s.code()
			link := &cutting{fakeVault: s.vault}
			s.People = link
			link.lose(method)
			send(t, s.Handler, TokenPath, exchangeForm(code)).is(t, 503, codeUnavailable)
			send(t, s.Handler, TokenPath, exchangeForm(code)).is(t, 400, codeInvalidGrant)
			if method == "Unwrap" { // nobody has the token: it has its ten minutes
				s.pass(transactionLife)
			}
			require.Empty(t, s.vault.alive())
		})
	}
}

func TestVerifiersOfPKCE(t *testing.T) {
	require.True(t, verifies(verifier, challenge), "those of RFC 7636, appendix B")
	require.False(t, verifies(verifier, ""))
	require.False(t, verifies("", challenge))
	require.False(t, verifies(strings.ToUpper(verifier), challenge))
	for length, good := range map[int]bool{0: false, 1: false, 42: false, 43: true, 128: true, 129: false} {
		text := strings.Repeat("a", length)
		sum := sha256.Sum256([]byte(text))
		require.Equal(t, good, verifies(text, base64.RawURLEncoding.EncodeToString(sum[:])), "RFC 7636, section 4.1: %d characters", length)
	}
}
