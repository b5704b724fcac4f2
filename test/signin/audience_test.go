package signin

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/signin/bed"
)

// TestATokenIsGoodAtItsOwnResourceAlone takes every kind of token to every endpoint.
func TestATokenIsGoodAtItsOwnResourceAlone(t *testing.T) {
	t.Parallel()
	b := bed.New(t, bed.Options{})
	calculator, notes, all := b.ServerURL(bed.Calculator), b.ServerURL(bed.Notes), b.AllURL()
	signIn := func(resource string) *bed.Session {
		return b.SignIn(t, bed.Alice, b.Application(bed.Editor, resource), bed.Engineering)
	}
	onCalculator, onNotes, onAll := signIn(calculator), signIn(notes), signIn(all)
	browser := b.Browser(bed.Alice)
	try := b.Application(bed.Editor, calculator).Begin(nil)
	code, err := try.Code(bed.Approve(browser.Open(try.URL()), bed.Engineering))
	require.NoError(t, err)

	static := b.Token(b.Write("mcp/rotate-client/"+bed.Engineering, nil))
	ofClients := []string{b.OfClients(calculator), b.OfClients(notes), b.OfClients(all)}
	app := onAll.Application
	for name, row := range map[string]struct {
		token string
		good  []string // where it is accepted
	}{
		"a person's for a server":             {onCalculator.AccessToken, []string{calculator}},
		"a person's for a server on stdio":    {onNotes.AccessToken, []string{notes}},
		"a person's for all servers":          {onAll.AccessToken, []string{all}},
		"a client's own":                      {static, ofClients},
		"a client's leased, without resource": {b.Token(b.Read("mcp/creds/" + bed.Engineering)), ofClients},
		"a refresh token":                     {onAll.RefreshToken, nil},
		"a code":                              {code, nil},
		"one that nobody has issued":          {harness.UnissuedToken(t), nil},
		"no token's form":                     {"not-a-token", nil},
		"none":                                {"", nil},
	} {
		t.Run(name, func(t *testing.T) {
			for _, endpoint := range append(ofClients, calculator, notes, all) {
				good := false
				for _, at := range row.good {
					good = good || at == endpoint
				}
				for _, at := range []string{endpoint, endpoint + "/"} {
					if at != endpoint && !strings.Contains(at, "/sign-in/") {
						continue
					}
					got, err := app.Do(bed.Request{
						Method: http.MethodPost, URL: at, Token: row.token, Body: ping,
						Header: http.Header{"Mcp-Protocol-Version": {harness.SessionEra}},
					})
					require.NoError(t, err)
					if good {
						require.NotEqual(t, http.StatusUnauthorized, got.Status, "%s: %s", at, got.Body)
						require.NotEqual(t, http.StatusForbidden, got.Status, "%s: %s", at, got.Body)
						continue
					}
					require.Equal(t, http.StatusUnauthorized, got.Status, "%s: %s", at, got.Body)
					wantChallenge(t, b, at, got.Header, row.token != "")
				}
			}
		})
	}
}

const ping = `{"jsonrpc":"2.0","id":1,"method":"ping"}`

// wantChallenge wants the one challenge of an endpoint.
func wantChallenge(t *testing.T, b *bed.Bed, at string, header http.Header, withToken bool) {
	t.Helper()
	challenges := header.Values("WWW-Authenticate")
	require.Len(t, challenges, 1, at)
	challenge := challenges[0]
	require.True(t, strings.HasPrefix(challenge, "Bearer "), challenge)
	require.Equal(t, withToken, strings.Contains(challenge, `error="invalid_token"`), challenge)
	for _, name := range []string{"error=", "resource_metadata=", "scope=", "realm="} {
		require.LessOrEqual(t, strings.Count(challenge, name), 1, challenge)
	}
	if !strings.Contains(at, "/sign-in/") {
		require.NotContains(t, challenge, "resource_metadata", "clients with a header must never meet a sign-in")
		return
	}
	public, err := url.Parse(at)
	require.NoError(t, err)
	require.Contains(t, challenge, `resource_metadata="`+b.Door.URL+"/.well-known/oauth-protected-resource"+public.Path+`"`)
	require.Contains(t, challenge, `scope="mcp"`)
}

// TestARefreshNeverWidens: neither the resource, nor the identity, nor the scope.
func TestARefreshNeverWidens(t *testing.T) {
	t.Parallel()
	b := bed.New(t, bed.Options{})
	s := b.SignIn(t, bed.Alice, b.Application(bed.Editor, b.ServerURL(bed.Calculator)), bed.Oncall)
	for name, row := range map[string]struct {
		more url.Values
		err  string // "": it is answered with the same
	}{
		"another server's resource":      {url.Values{"resource": {b.ServerURL(bed.Notes)}}, "invalid_target"},
		"the resource of all servers":    {url.Values{"resource": {b.AllURL()}}, "invalid_target"},
		"somebody else's resource":       {url.Values{"resource": {"https://mcp.example.com/mcp"}}, "invalid_target"},
		"the resource with a slash":      {url.Values{"resource": {b.ServerURL(bed.Calculator) + "/"}}, ""},
		"no resource":                    {url.Values{"resource": nil}, ""},
		"another scope":                  {url.Values{"scope": {"mcp admin openid"}}, ""},
		"another identity":               {url.Values{"identity": {bed.Engineering}, "client": {bed.Engineering}, "scope": {"client:" + bed.Engineering}}, ""},
		"another person":                 {url.Values{"person": {bed.Bob}, "entity_id": {"x"}, "login": {"x"}}, ""},
		"more parameters than there are": {url.Values{"audience": {b.AllURL()}, "ttl": {"24h"}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := s.Application.Refresh(s.RefreshToken, row.more)
			require.NoError(t, err)
			if row.err != "" {
				require.Equal(t, http.StatusBadRequest, got.Status, got.Body)
				require.Equal(t, row.err, got.Error)
				return
			}
			require.NoError(t, got.Tokens())
			for _, wider := range []string{b.ServerURL(bed.Notes), b.AllURL(), b.OfClients(b.ServerURL(bed.Calculator))} {
				refused, err := s.Application.Try(wider, got.AccessToken)
				require.NoError(t, err)
				require.Equal(t, http.StatusUnauthorized, refused.Status, "%s: %s", wider, refused.Body)
			}
			s.AccessToken, s.RefreshToken = got.AccessToken, got.RefreshToken
			s.Works(t)
		})
	}
	require.Equal(t, bed.Oncall, introspect(t, b, s.AccessToken)["client"])
}

// introspect returns the engine's answer about a token.
func introspect(t *testing.T, b *bed.Bed, token string) harness.Map {
	t.Helper()
	got := b.In(t).Write("mcp/lookup", harness.Map{"token": token})
	require.Equal(t, true, got["active"], got)
	return got
}
