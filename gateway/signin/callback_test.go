package signin

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

func TestTheConsentPageSaysWhoAsksForWhat(t *testing.T) {
	s := newStage(t)
	b := s.browser()
	w := b.comeBack(b.toProvider())
	require.Equal(t, http.StatusOK, w.Code)
	for _, text := range []string{"Desk", "desk.example.com", "ann@example.com", "Example Inc.", "engineering", "Engineers", "github", "oncall", publicURL + "/sign-in/consent"} {
		require.Contains(t, w.Body.String(), text)
	}
	require.NotContains(t, w.Body.String(), "finance", "Vault's ACL does not grant that client's path")
	require.NotContains(t, w.Body.String(), "hvs.", "the token is sealed")
}

func TestALoginThatNobodyFinishesLeavesNoTokenAfterTenMinutes(t *testing.T) {
	s := newStage(t)
	b := s.browser()
	for range 100 {
		b.toConsent()
		s.pass(4 * time.Second) // the limit of a source
		b.cookies = map[string]string{}
	}
	require.NotEmpty(t, s.vault.alive())
	s.pass(10*time.Minute + time.Second)
	require.Empty(t, s.vault.alive())
}

func TestACallbackThatIsOverSaysBeginAgainAndIsNoError(t *testing.T) {
	for name, c := range map[string]struct {
		before func(s *stage, b *browser)
		reason string
	}{
		"Vault was restarted": {func(s *stage, _ *browser) { clear(s.vault.states) }, reasonLost},
		"eleven minutes":      {func(s *stage, _ *browser) { s.pass(11 * time.Minute) }, reasonCookie},
		"the keys were dropped": {func(s *stage, _ *browser) {
			s.keys = &grants.SessionKeys{Current: 2, Keys: map[int][32]byte{2: {2}}, MountID: "mount"}
		}, reasonCookie},
		"the login left the file": {func(s *stage, _ *browser) { s.settings.Logins[0].Name = "others" }, reasonNoLogin},
		"twice": {func(s *stage, b *browser) {
			for state := range s.vault.states {
				require.Equal(s.t, http.StatusOK, b.comeBack(state).Code)
			}
		}, reasonLost},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			b := s.browser()
			state := b.toProvider()
			c.before(s, b)
			w := b.comeBack(state)
			s.isPage(w, http.StatusBadRequest, c.reason)
			require.Contains(t, w.Body.String(), "This sign-in has ended")
		})
	}
}

func TestACallbackThatComesTwiceDoesNotSpoilTheFirstForm(t *testing.T) {
	s := newStage(t)
	b := s.browser()
	state := b.toProvider()
	form := formOf(t, b.comeBack(state))
	require.Equal(t, http.StatusBadRequest, b.comeBack(state).Code)
	require.NotEmpty(t, location(t, b.decide(form, "allow", "engineering")).Query().Get("code"))
}

func TestTwoRequestsOfOneApplicationBothFinish(t *testing.T) {
	s := newStage(t)
	b := s.browser()
	first := b.toProvider("state", "one")
	second := b.toProvider("state", "two")
	formOfFirst := formOf(t, b.comeBack(first))
	formOfSecond := formOf(t, b.comeBack(second))
	require.Equal(t, "one", location(t, b.decide(formOfFirst, "allow", "engineering")).Query().Get("state"))
	require.Equal(t, "two", location(t, b.decide(formOfSecond, "allow", "oncall")).Query().Get("state"))
}

func TestThreeTabsFinishInAnyOrder(t *testing.T) {
	s := newStage(t)
	b := s.browser()
	states, forms := map[string]string{}, map[string]string{}
	for _, tab := range []string{"a", "b", "c"} {
		states[tab] = b.toProvider("state", tab)
	}
	for _, tab := range []string{"c", "a", "b"} {
		forms[tab] = formOf(t, b.comeBack(states[tab]))
	}
	for _, tab := range []string{"b", "c", "a"} {
		require.Equal(t, tab, location(t, b.decide(forms[tab], "allow", "engineering")).Query().Get("state"))
	}
}

func TestAnotherGatewayOfTheMountFinishesASignIn(t *testing.T) {
	s := newStage(t)
	b := s.browser()
	state := b.toProvider()
	b.at = s.gateway()
	form := formOf(t, b.comeBack(state))
	b.at = s.gateway()
	require.NotEmpty(t, location(t, b.decide(form, "allow", "engineering")).Query().Get("code"))
}

func TestAGatewayAsksForKeysThatAnotherHasUsedFirst(t *testing.T) {
	s := newStage(t)
	b := s.browser()
	old := s.keys
	s.keys = &grants.SessionKeys{Current: 2, Keys: map[int][32]byte{1: {1}, 2: {2}}, MountID: "mount", Registration: old.Registration}
	state := b.toProvider()
	s.newer, s.keys = s.keys, old
	require.Equal(t, http.StatusOK, b.comeBack(state).Code)
}

func TestWithoutKeysThereIsNoSignInAndNoNo(t *testing.T) {
	s := newStage(t)
	b := s.browser()
	state := b.toProvider()
	s.keys = nil
	s.isPage(b.comeBack(state), http.StatusServiceUnavailable, reasonUnavailable)
}

func TestAnErrorOfTheIdentityProviderReachesWhoCanDoSomethingAboutIt(t *testing.T) {
	s := newStage(t)
	b := s.browser()
	fail := func(state, code string) *httptest.ResponseRecorder {
		return b.get(callbackPath + "?" + url.Values{"state": {state}, "error": {code}, "error_description": {"User \"ann\" said no"}}.Encode())
	}
	w := fail(b.toProvider(), "access_denied")
	s.isError(w, "access_denied")
	require.Contains(t, location(t, w).Query().Get("error_description"), "User 'ann' said no")
	w = fail(b.toProvider(), "AADSTS50105")
	s.isPage(w, http.StatusForbidden, reasonLogin)
	require.Contains(t, w.Body.String(), "AADSTS50105")
	s.isPage(fail(b.toProvider(), "<script>"), http.StatusForbidden, reasonLogin)

	stranger := s.register("http://localhost/callback")
	w = fail(b.toProvider("client_id", stranger, "redirect_uri", "http://localhost:1/callback"), "access_denied")
	s.isPage(w, http.StatusForbidden, reasonLogin)
	require.Contains(t, w.Body.String(), "said no")
	require.Empty(t, s.vault.alive())
}

func TestALoginThatVaultRefusesIsToldInVaultsWords(t *testing.T) {
	s := newStage(t)
	b := s.browser()
	state := b.toProvider()
	s.vault.fail["FinishOIDC"] = errRefused
	w := b.comeBack(state)
	s.isPage(w, http.StatusForbidden, reasonLogin)
	require.Contains(t, w.Body.String(), "claim &#34;groups&#34; is missing")
	require.Contains(t, w.Body.String(), "role mcp")
}

func TestACodeInVaultsWordsIsNotShown(t *testing.T) {
	s := newStage(t)
	b := s.browser()
	state := b.toProvider()
	s.vault.fail["FinishOIDC"] = &api.ResponseError{StatusCode: http.StatusBadRequest, Errors: []string{"the provider does not know idp-code of " + state}}
	w := b.comeBack(state)
	s.isPage(w, http.StatusForbidden, reasonLogin)
	require.NotContains(t, w.Body.String(), "idp-code")
	require.NotContains(t, w.Body.String(), state)
	require.Contains(t, w.Body.String(), "does not know ... of ...")
}

func TestACallbackByFormIsRefusedWithWords(t *testing.T) {
	s := newStage(t)
	b := s.browser()
	state := b.toProvider()
	w := b.post(callbackPath, url.Values{"state": {state}, "code": {"idp-code"}})
	require.Equal(t, http.StatusMethodNotAllowed, w.Code)
	require.Contains(t, w.Body.String(), "form_post")
	require.Contains(t, w.Body.String(), "oidc_response_mode")
}

func TestACallbackWithoutWhatItNeedsIsRefused(t *testing.T) {
	s := newStage(t)
	b := s.browser()
	state := b.toProvider()
	s.isPage(b.get(callbackPath), http.StatusBadRequest, reasonBadRequest)
	s.isPage(b.get(callbackPath+"?state="+state), http.StatusBadRequest, reasonBadRequest)
	s.isPage(b.get(callbackPath+"?code=idp-code&state="+state+"&state="+state), http.StatusBadRequest, reasonBadRequest)
	s.isPage(b.get(callbackPath+"?code=idp-code&state="+strings.Repeat("s", 2000)), http.StatusBadRequest, reasonBadRequest)
	require.Empty(t, s.vault.alive())
}

func TestATokenThatMayNotBeKeptIsRevoked(t *testing.T) {
	for name, c := range map[string]struct {
		change func(v *fakeVault)
		reason string
		words  string
	}{
		"an administrator's own policy":         {func(v *fakeVault) { v.person.Policies = []string{"default", "admin"} }, reasonPolicies, "admin"},
		"a policy of a group joined later":      {func(v *fakeVault) { v.person.IdentityPolicies = []string{"vault-operators"} }, reasonPolicies, "vault-operators"},
		"a policy in another namespace":         {func(v *fakeVault) { v.person.External = map[string][]string{"team/": {"writer"}} }, reasonPolicies, "team/writer"},
		"the root policy":                       {func(v *fakeVault) { v.person.Policies = []string{"root"} }, reasonPolicies, "root"},
		"a policy that begins like a good one":  {func(v *fakeVault) { v.person.Policies = []string{"default-admin"} }, reasonPolicies, "default-admin"},
		"a batch token":                         {func(v *fakeVault) { v.person.Batch, v.person.Renewable = true, false }, reasonTokenKind, "batch"},
		"a periodic token":                      {func(v *fakeVault) { v.person.Periodic = true }, reasonTokenKind, "periodic"},
		"a token for a number of uses":          {func(v *fakeVault) { v.person.Uses = 5 }, reasonTokenKind, "token_num_uses"},
		"a token that cannot be renewed":        {func(v *fakeVault) { v.person.Renewable = false }, reasonTokenKind, "renew"},
		"a token without an entity":             {func(v *fakeVault) { v.person.EntityID = "" }, reasonTokenKind, "entity"},
		"token_no_default_policy: no wrapping":  {func(v *fakeVault) { v.lacks = []string{"sys/wrapping/wrap"} }, reasonTokenKind, "sys/wrapping/wrap"},
		"token_no_default_policy: no cubbyhole": {func(v *fakeVault) { v.lacks = []string{"cubbyhole/mcp-sign-in/1"} }, reasonTokenKind, "cubbyhole/mcp-sign-in/1"},
		"token_no_default_policy: no list":      {func(v *fakeVault) { v.lacks = []string{"cubbyhole/mcp-sign-in/"} }, reasonTokenKind, "token_no_default_policy"},
		"token_no_default_policy: no renewal":   {func(v *fakeVault) { v.fail["Renew"] = errDenied }, reasonTokenKind, "renew-self"},
		"token_no_default_policy: no question":  {func(v *fakeVault) { v.fail["Capabilities"] = errDenied }, reasonTokenKind, "sys/capabilities-self"},
		"it may not look itself up":             {func(v *fakeVault) { v.fail["FinishOIDC"] = vaultclient.ErrNoLookup }, reasonTokenKind, "look itself up"},
		"Vault wants a second factor":           {func(v *fakeVault) { v.fail["FinishOIDC"] = vaultclient.ErrMFA }, reasonTokenKind, "second factor"},
		"Vault is gone before the renewal":      {func(v *fakeVault) { v.fail["Renew"] = errDown }, reasonUnavailable, ""},
		"Vault is gone before the question":     {func(v *fakeVault) { v.fail["Capabilities"] = errDown }, reasonUnavailable, ""},
		"the engine does not answer":            {func(v *fakeVault) { v.fail["SignIn"] = errDown }, reasonUnavailable, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			b := s.browser()
			state := b.toProvider()
			c.change(s.vault)
			w := b.comeBack(state)
			status := http.StatusForbidden
			if c.reason == reasonUnavailable {
				status = http.StatusServiceUnavailable
			}
			s.isPage(w, status, c.reason)
			require.Contains(t, w.Body.String(), c.words)
			require.Empty(t, s.vault.alive())
			require.NotContains(t, s.audit.events(), "login")
		})
	}
}

func TestALoginIsRevokedWhenItsAuditLineCannotBeWritten(t *testing.T) {
	s := newStage(t)
	b := s.browser()
	state := b.toProvider()
	s.audit.fail = errDown
	w := b.comeBack(state)
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.Empty(t, s.vault.alive())
}

func TestAPersonWithoutAnIdentityIsToldWhomToAsk(t *testing.T) {
	s := newStage(t)
	s.vault.may = []string{"finance-reports"} // not a client of the engine
	b := s.browser()
	w := b.comeBack(b.toProvider())
	s.isPage(w, http.StatusForbidden, reasonNoIdentity)
	require.Empty(t, s.vault.alive(), "the token is revoked")
	answer := b.decide(formOf(t, w), "deny", "")
	s.isError(answer, "access_denied")
	require.Equal(t, "application-state", location(t, answer).Query().Get("state"))
	require.Empty(t, b.cookies)
}

func TestTheFormOfThatPageAllowsNothing(t *testing.T) {
	s := newStage(t)
	s.vault.may = nil
	b := s.browser()
	form := formOf(t, b.comeBack(b.toProvider()))
	w := b.decide(form, "allow", "engineering")
	require.Equal(t, http.StatusForbidden, w.Code)
	require.NotContains(t, s.audit.events(), "code")
}

func TestATrustedApplicationSkipsTheConsentPageOfAPersonWithOneIdentity(t *testing.T) {
	house := []string{"client_id", "house", "redirect_uri", "https://house.example.com/callback"}
	s := newStage(t)
	s.vault.may = []string{"engineering"}
	b := s.browser()
	w := b.comeBack(b.toProvider(house...))
	require.Equal(t, http.StatusFound, w.Code, w.Body.String())
	require.NotEmpty(t, location(t, w).Query().Get("code"))
	require.Equal(t, []string{"begun", "login", "code"}, s.audit.events())
	require.Empty(t, b.cookies)

	state := b.toProvider(house...)
	s.vault.fail["Wrap"] = errDown
	s.isPage(b.comeBack(state), http.StatusServiceUnavailable, reasonUnavailable)
	require.Len(t, s.vault.alive(), 1, "only the token of the first one is left: there is no form to come back with")
	delete(s.vault.fail, "Wrap")

	s.vault.may = []string{"engineering", "oncall"}
	require.Equal(t, http.StatusOK, b.comeBack(b.toProvider(house...)).Code, "there is something to choose")
}

func TestOneIdentityIsStillAskedForOfEveryOtherApplication(t *testing.T) {
	s := newStage(t)
	s.vault.may = []string{"engineering"}
	b := s.browser()
	for range 3 { // nothing is remembered
		w := b.comeBack(b.toProvider())
		require.Equal(t, http.StatusOK, w.Code)
		require.Equal(t, http.StatusSeeOther, b.decide(formOf(t, w), "allow", "engineering").Code)
	}
}

func TestPoliciesOfTheFileMayBeNamesAndBeginnings(t *testing.T) {
	s := newStage(t, func(c *config.SignIn) { c.PersonPolicies = []string{"default", "mcp-person*", "wiki"} })
	s.vault.person.IdentityPolicies = []string{"mcp-person-a", "wiki"}
	require.NotEmpty(t, s.browser().signIn().Get("code"))
}
