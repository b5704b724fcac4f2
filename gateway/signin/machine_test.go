package signin

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

const (
	ciIssuer = "https://token.example.com"
	idp      = "https://idp.example.com"
)

// jwtVault is the model of Vault with an auth method that verifies signatures, and with an
// engine that remembers assertions.
type jwtVault struct {
	*fakeVault
	key    any
	logins []string // mount and role
	spent  map[string]bool
}

func (v *jwtVault) LoginJWT(ctx context.Context, mount, role, jwt string) (*vaultclient.PersonToken, error) {
	v.logins = append(v.logins, mount+" "+role)
	signed, err := jose.ParseSignedCompact(jwt, assertionAlgorithms)
	if err == nil {
		_, err = signed.Verify(v.key)
	}
	if err != nil {
		return nil, &api.ResponseError{StatusCode: http.StatusBadRequest, Errors: []string{"error validating token: error verifying token signature: no known key successfully validated the token signature"}}
	}
	return v.fakeVault.LoginJWT(ctx, mount, role, jwt)
}

func (v *jwtVault) Credentials(ctx context.Context, t *vaultclient.PersonToken, client string, r vaultclient.CredsRequest) (*vaultclient.Creds, error) {
	if r.AssertionID != "" {
		if v.spent[r.Login+" "+r.AssertionID] {
			return nil, &api.ResponseError{StatusCode: http.StatusBadRequest, Errors: []string{"the assertion was used before"}}
		}
		v.spent[r.Login+" "+r.AssertionID] = true
	}
	return v.fakeVault.Credentials(ctx, t, client, r)
}

// machines is a stage with two logins of machines, and their issuer.
type machines struct {
	*stage
	*issuer
	vault *jwtVault
}

func newMachines(t *testing.T, changes ...func(*config.SignIn)) *machines {
	t.Helper()
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte("a-secret-of-the-assistant-in-the-file\n"), 0o600))
	s := newStage(t, append([]func(*config.SignIn){func(c *config.SignIn) {
		c.Machines = []config.SignInMachine{
			{Name: "ci", Method: config.AuthJWT, Mount: "jwt-ci", Role: "mcp", Issuer: ciIssuer},
			{Name: "once", Method: config.AuthJWT, Mount: "jwt-once", Role: "mcp", Issuer: "https://once.example.com", SingleUse: true},
			{Name: "enterprise", Method: config.AuthJWT, Mount: "jwt-idp", Role: "jag", Issuer: idp, SingleUse: true, Profile: config.ProfileIDJAG},
		}
		c.Applications = append(c.Applications, config.SignInApplication{ID: "assistant", Name: "Assistant", SecretFile: secret})
	}}, changes...)...)
	i := newIssuer(t)
	v := &jwtVault{fakeVault: s.vault, key: &i.key.PublicKey, spent: map[string]bool{}}
	s.vault.may = []string{"engineering"}
	s.People = v
	return &machines{s, i, v}
}

// claims are those of a job; pairs change them.
func (m *machines) claims(pairs ...any) string {
	return m.changedClaims(map[string]any{
		"iss": ciIssuer, "sub": "repo:example/app:ref:refs/heads/main", "aud": publicURL + "/sign-in",
		"exp": m.now().Add(5 * time.Minute).Unix(), "iat": m.now().Unix(), "jti": "job-1",
	}, pairs)
}

// grant are the claims of an identity assertion authorization grant.
func (m *machines) grant(pairs ...any) string {
	return m.changedClaims(map[string]any{
		"iss": idp, "sub": "ann", "aud": publicURL + "/sign-in", "client_id": "assistant", "resource": publicURL + "/sign-in/mcp",
		"exp": m.now().Add(5 * time.Minute).Unix(), "iat": m.now().Unix(), "jti": "grant-1",
	}, pairs)
}

func (m *machines) changedClaims(claims map[string]any, pairs []any) string {
	for i := 0; i < len(pairs); i += 2 {
		claims[pairs[i].(string)] = pairs[i+1]
	}
	maps.DeleteFunc(claims, func(_ string, value any) bool { return value == nil })
	text, err := json.Marshal(claims)
	require.NoError(m.stage.t, err)
	return string(text)
}

func (m *machines) exchange(assertion string, pairs ...string) answered {
	m.stage.t.Helper()
	return send(m.stage.t, m.Handler, TokenPath, changed(url.Values{"grant_type": {grantMachine}, "assertion": {assertion}}, pairs))
}

// asAssistant authenticates the client of the file.
var asAssistant = []string{"client_id", "assistant", "client_secret", "a-secret-of-the-assistant-in-the-file"}

func TestAJobExchangesItsAssertionForAnAccessToken(t *testing.T) {
	m := newMachines(t)
	a := m.exchange(m.sign("JWT", m.claims("act", map[string]any{"sub": "runner"}))).ok(t)
	require.Empty(t, a.Refresh, "a machine has its next assertion")
	require.EqualValues(t, 900, a.ExpiresIn)
	require.Equal(t, []string{"jwt-ci mcp"}, m.vault.logins)
	lease := m.vault.leases[0]
	require.Equal(t, "engineering", lease.client, "the only one that it may have")
	require.Equal(t, vaultclient.CredsRequest{
		Resource: publicURL + "/sign-in/mcp", Application: "machine:ci", ApplicationName: "machine ci", Login: "ci", SignInEnds: m.now().Add(15 * time.Minute),
	}, lease.request)
	require.Equal(t, m.now().Add(15*time.Minute), m.vault.tokens[lease.secret].ends, "the login's token lives as long as the access token")

	line := m.audit.written[0]
	require.Equal(t, []string{eventMachine, "repo:example/app:ref:refs/heads/main", `{"sub":"runner","iss":""}`, "engineering", "machine:ci", "ci"},
		[]string{line.Event, line.Subject, line.Actor, line.Client, line.Application, line.Login})
	require.NotEmpty(t, line.SignIn)
	require.Equal(t, 1, m.counted[eventMachine])
	m.exchange(m.sign("JWT", m.claims())).ok(t, "it may come again while it is valid")
}

func TestAnEnterprisesGrantIsExchangedByTheClientThatItNames(t *testing.T) {
	m := newMachines(t)
	a := m.exchange(m.sign(typeIDJAG, m.grant()), asAssistant...).ok(t)
	require.Empty(t, a.Refresh)
	require.Equal(t, "assistant", m.vault.leases[0].request.Application)
	require.Equal(t, "grant-1", m.vault.leases[0].request.AssertionID)
	require.Equal(t, "ann", m.audit.written[0].Subject)

	const server = publicURL + "/sign-in/servers/github/mcp"
	m.exchange(m.sign(typeIDJAG, m.grant("jti", "2", "resource", server+"/")), asAssistant...).ok(t)
	require.Equal(t, server, m.vault.leases[1].request.Resource, "the assertion's resource")
	m.exchange(m.sign(typeIDJAG, m.grant("jti", "3", "resource", []string{publicURL + "/sign-in/mcp", server, "https://other.example.com"})), append(asAssistant, "resource", server)...).ok(t)
	require.Equal(t, server, m.vault.leases[2].request.Resource)
}

// TestAssertionsThatAreRefused: those for which Vault is not asked, since they are not meant
// for this gateway, or not for the caller.
func TestAssertionsThatAreRefused(t *testing.T) {
	public := []string{"client_id", desk}
	for name, c := range map[string]struct {
		make   func(m *machines) string
		pairs  []string
		status int
		code   string
	}{
		"of an issuer that the file does not name":       {func(m *machines) string { return m.sign("JWT", m.claims("iss", "https://evil.example.com")) }, nil, 400, codeInvalidGrant},
		"of an issuer with a slash more":                 {func(m *machines) string { return m.sign("JWT", m.claims("iss", ciIssuer+"/")) }, nil, 400, codeInvalidGrant},
		"without a subject":                              {func(m *machines) string { return m.sign("JWT", m.claims("sub", nil)) }, nil, 400, codeInvalidGrant},
		"without an audience":                            {func(m *machines) string { return m.sign("JWT", m.claims("aud", nil)) }, nil, 400, codeInvalidGrant},
		"for another service":                            {func(m *machines) string { return m.sign("JWT", m.claims("aud", "https://other.example.com")) }, nil, 400, codeInvalidGrant},
		"for the resource in place of the issuer":        {func(m *machines) string { return m.sign("JWT", m.claims("aud", publicURL+"/sign-in/mcp")) }, nil, 400, codeInvalidGrant},
		"without an expiry":                              {func(m *machines) string { return m.sign("JWT", m.claims("exp", nil)) }, nil, 400, codeInvalidGrant},
		"that has expired":                               {func(m *machines) string { return m.sign("JWT", m.claims("exp", m.now().Add(-2*skew).Unix())) }, nil, 400, codeInvalidGrant},
		"for another service's resource":                 {func(m *machines) string { return m.sign("JWT", m.claims()) }, []string{"resource", "https://other.example.com/mcp"}, 400, codeInvalidTarget},
		"of a client that is not known":                  {func(m *machines) string { return m.sign("JWT", m.claims()) }, []string{"client_id", "unknown"}, 401, codeInvalidClient},
		"a grant where the login takes plain assertions": {func(m *machines) string { return m.sign(typeIDJAG, m.grant("iss", ciIssuer)) }, asAssistant, 400, codeInvalidGrant},
		"an ID token in place of a grant":                {func(m *machines) string { return m.sign("JWT", m.grant()) }, asAssistant, 400, codeInvalidGrant},
		"a grant without a typ":                          {func(m *machines) string { return m.sign("", m.grant()) }, asAssistant, 400, codeInvalidGrant},
		"an access token in place of a grant":            {func(m *machines) string { return m.sign("at+jwt", m.grant()) }, asAssistant, 400, codeInvalidGrant},
		"another client's grant":                         {func(m *machines) string { return m.sign(typeIDJAG, m.grant("client_id", "other")) }, asAssistant, 400, codeInvalidGrant},
		"a grant that names no client":                   {func(m *machines) string { return m.sign(typeIDJAG, m.grant("client_id", nil)) }, asAssistant, 400, codeInvalidGrant},
		"a grant of a client that does not authenticate": {func(m *machines) string { return m.sign(typeIDJAG, m.grant()) }, nil, 401, codeInvalidClient},
		"a grant with a wrong secret":                    {func(m *machines) string { return m.sign(typeIDJAG, m.grant()) }, []string{"client_id", "assistant", "client_secret", "guess"}, 401, codeInvalidClient},
		"a grant of a public client":                     {func(m *machines) string { return m.sign(typeIDJAG, m.grant("client_id", desk)) }, public, 400, codeUnauthorizedClient},
		"a grant without a resource":                     {func(m *machines) string { return m.sign(typeIDJAG, m.grant("resource", nil)) }, asAssistant, 400, codeInvalidGrant},
		"a grant for another service's resource": {func(m *machines) string {
			return m.sign(typeIDJAG, m.grant("resource", "https://other.example.com/mcp"))
		}, asAssistant, 400, codeInvalidTarget},
		"a grant for another resource than is asked for": {func(m *machines) string { return m.sign(typeIDJAG, m.grant()) }, append([]string{"resource", publicURL + "/sign-in/servers/github/mcp"}, asAssistant...), 400, codeInvalidTarget},
		"a grant for two services": {func(m *machines) string {
			return m.sign(typeIDJAG, m.grant("aud", []string{publicURL + "/sign-in", "https://other.example.com"}))
		}, asAssistant, 400, codeInvalidGrant},
		"a grant without an id": {func(m *machines) string { return m.sign(typeIDJAG, m.grant("jti", nil)) }, asAssistant, 400, codeInvalidGrant},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachines(t)
			a := m.exchange(c.make(m), c.pairs...)
			if a.status == 400 && c.status == 401 {
				a.is(t, 400, codeInvalidRequest) // where the request does not say who asks
			} else {
				a.is(t, c.status, c.code)
			}
			require.Empty(t, m.vault.logins, "Vault is not asked")
			require.Empty(t, m.vault.leases)
		})
	}
}

func TestAnAssertionThatSomebodyElseHasSigned(t *testing.T) {
	m := newMachines(t)
	m.exchange(newIssuer(t).sign("JWT", m.claims())).is(t, 400, codeInvalidGrant)
	m.exchange(newIssuer(t).sign(typeIDJAG, m.grant()), asAssistant...).is(t, 400, codeInvalidGrant)
	require.Len(t, m.vault.logins, 2, "Vault has judged them")
	require.Empty(t, m.vault.leases)
	for _, e := range m.audit.counted {
		require.Empty(t, e.Subject, "what nobody has verified is not in the audit log")
	}
}

func TestAnAssertionThatCountsOnce(t *testing.T) {
	m := newMachines(t)
	text := m.sign("JWT", m.claims("iss", "https://once.example.com"))
	m.exchange(text).ok(t)
	m.exchange(text).is(t, 400, codeInvalidGrant)
	require.Equal(t, 1, m.counted[eventReplayed])
	grant := m.sign(typeIDJAG, m.grant())
	m.exchange(grant, asAssistant...).ok(t)
	m.exchange(grant, asAssistant...).is(t, 400, codeInvalidGrant)

	once := m.vault.leases[0].request
	require.Equal(t, "job-1", once.AssertionID)
	require.Equal(t, m.now().Add(5*time.Minute), once.AssertionExpires.UTC())
	for name, claims := range map[string]string{
		"no id":        m.claims("iss", "https://once.example.com", "jti", nil),
		"a long id":    m.claims("iss", "https://once.example.com", "jti", strings.Repeat("x", 257)),
		"a long life":  m.claims("iss", "https://once.example.com", "jti", "long", "exp", m.now().Add(24*time.Hour).Unix()),
		"an empty id":  m.claims("iss", "https://once.example.com", "jti", ""),
		"of a century": m.claims("iss", "https://once.example.com", "jti", "long", "exp", 4951706434),
	} {
		m.exchange(m.sign("JWT", claims)).is(t, 400, codeInvalidGrant, name)
	}
	require.Len(t, m.vault.leases, 2)
	require.Len(t, m.vault.alive(), 2, "the logins that came to nothing have ended")
}

func TestWhichClientAMachineActsAs(t *testing.T) {
	for name, c := range map[string]struct {
		may    []string
		scope  string
		claim  any
		client string // "": refused
	}{
		"the only one":                                         {[]string{"oncall"}, "", nil, "oncall"},
		"the only one, with the usual scopes":                  {[]string{"oncall"}, "mcp offline_access", nil, "oncall"},
		"one of several, by its name":                          {[]string{"engineering", "oncall"}, "mcp client:oncall", nil, "oncall"},
		"several, and none is named":                           {[]string{"engineering", "oncall"}, "", nil, ""},
		"several are named":                                    {[]string{"engineering", "oncall"}, "client:oncall client:engineering", nil, ""},
		"one that Vault does not grant":                        {[]string{"engineering"}, "client:oncall", nil, ""},
		"one that nobody may sign in as":                       {[]string{"engineering", "root"}, "client:root", nil, ""},
		"one that leaves the path":                             {[]string{"engineering", "../x"}, "client:../x", nil, ""},
		"one without a name":                                   {[]string{"engineering"}, "client:", nil, ""},
		"none":                                                 {nil, "", nil, ""},
		"one that the assertion names":                         {[]string{"engineering", "oncall"}, "", "mcp client:oncall", "oncall"},
		"one of two that the assertion names":                  {[]string{"engineering", "oncall"}, "client:engineering", "client:oncall client:engineering", "engineering"},
		"one that the assertion does not name":                 {[]string{"engineering", "oncall"}, "client:engineering", "client:oncall", ""},
		"the assertion has other scopes, and bounds no client": {[]string{"engineering", "oncall"}, "client:engineering", "mcp read", "engineering"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachines(t)
			m.stage.vault.may = c.may
			a := m.exchange(m.sign("JWT", m.claims("scope", c.claim)), "scope", c.scope)
			if c.client == "" {
				a.is(t, 400, codeInvalidScope)
				require.Empty(t, m.vault.alive(), "the login has ended")
				require.Empty(t, m.vault.leases)
				return
			}
			a.ok(t)
			require.Equal(t, c.client, m.vault.leases[0].client)
		})
	}
}

func TestALoginOfAMachineThatCannotBeKept(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*vaultclient.PersonToken)
		reason string
	}{
		"with the rights of an administrator": {func(t *vaultclient.PersonToken) { t.IdentityPolicies = []string{"admins"} }, reasonPolicies},
		"with a batch token":                  {func(t *vaultclient.PersonToken) { t.Batch = true }, reasonTokenKind},
		"with a periodic token":               {func(t *vaultclient.PersonToken) { t.Periodic = true }, reasonTokenKind},
		"with a token that is not renewable":  {func(t *vaultclient.PersonToken) { t.Renewable = false }, reasonTokenKind},
		"with a token for a number of uses":   {func(t *vaultclient.PersonToken) { t.Uses = 5 }, reasonTokenKind},
		"without an entity":                   {func(t *vaultclient.PersonToken) { t.EntityID = "" }, reasonTokenKind},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachines(t)
			c.change(&m.stage.vault.person)
			m.exchange(m.sign("JWT", m.claims())).is(t, 400, codeInvalidGrant)
			require.Empty(t, m.vault.alive())
			require.Empty(t, m.vault.leases)
			require.Contains(t, m.audit.refusals(), c.reason)
		})
	}
}

func TestAMachineTriesAgainWhatCannotBeAsked(t *testing.T) {
	for method, err := range map[string]error{
		"LoginJWT": errDown, "SignIn": errDown, "Capabilities": errDown, "Credentials": errDown, "Renew": errDown,
	} {
		m := newMachines(t)
		m.failing(method, err)
		m.exchange(m.sign("JWT", m.claims())).is(t, 503, codeUnavailable, method)
		m.failing(method, nil)
		require.Empty(t, m.vault.alive(), method)
		m.exchange(m.sign("JWT", m.claims())).ok(t, method)
	}
	m := newMachines(t)
	m.failing("LoginJWT", &api.ResponseError{StatusCode: 400, Errors: []string{"error validating token: error verifying token signature: fetching keys oidc: get keys failed: connection refused"}})
	m.exchange(m.sign("JWT", m.claims())).is(t, 503, codeUnavailable, "the issuer's keys cannot be had")
	m.failing("LoginJWT", nil)
	m.audit.fail = errDown
	m.exchange(m.sign("JWT", m.claims())).is(t, 503, codeUnavailable, "nothing is handed out without its line")
	require.Empty(t, m.vault.alive())
}

func TestASubjectGetsSoManyAccessTokensInATime(t *testing.T) {
	m := newMachines(t)
	for range familyTokens {
		m.exchange(m.sign("JWT", m.claims())).ok(t)
	}
	logins := len(m.vault.logins)
	m.exchange(m.sign("JWT", m.claims())).is(t, 429, codeUnavailable)
	require.Len(t, m.vault.logins, logins, "Vault is not asked")
	m.exchange(m.sign("JWT", m.claims("sub", "another"))).ok(t)
}

// TestNobodyUsesUpTheAllowanceOfAnother: a forged assertion names whom it likes.
func TestNobodyUsesUpTheAllowanceOfAnother(t *testing.T) {
	m := newMachines(t)
	forger := newIssuer(t)
	for range 2 * familyTokens {
		m.exchange(forger.sign("JWT", m.claims())).is(t, 400, codeInvalidGrant)
	}
	m.exchange(m.sign("JWT", m.claims())).ok(t)
}

// TestWhoForgesAssertionsHasToWait, and nobody else does: each costs Vault a login.
func TestWhoForgesAssertionsHasToWait(t *testing.T) {
	m := newMachines(t)
	forged := newIssuer(t).sign("JWT", m.claims())
	for range pageBurst {
		m.exchange(forged).is(t, 400, codeInvalidGrant)
	}
	m.vault.logins = nil
	m.exchange(forged).is(t, 429, codeUnavailable)
	require.Empty(t, m.vault.logins, "Vault is not asked")
	r := formRequest(TokenPath, url.Values{"grant_type": {grantMachine}, "assertion": {m.sign("JWT", m.claims())}})
	require.Equal(t, http.StatusOK, ask(m.Handler, r, "203.0.113.10").Code, "from another address")
	m.pass(time.Second)
	m.exchange(m.sign("JWT", m.claims())).ok(t)
}
