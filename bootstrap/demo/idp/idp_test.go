package idp_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/bootstrap/demo/idp"
)

const (
	redirect = "https://vault.example.com/callback"
	verifier = "a-verifier-of-forty-three-characters-or-more-"
)

// start starts a provider with alice and bob.
func start(t *testing.T) *idp.IdP {
	t.Helper()
	provider, err := idp.Start(t.Context(), "127.0.0.1:0", idp.Options{
		ClientID: "vault", ClientSecret: "the-secret", RedirectURIs: []string{redirect},
		People: []idp.Person{
			{Name: "alice", Password: "of-alice", Groups: []string{"engineering", "oncall"}, Claims: map[string]any{"department": "R&D"}},
			{Name: "bob", Password: "of-bob"},
		},
	})
	require.NoError(t, err)
	return provider
}

// browser follows redirects on the provider alone.
func browser(t *testing.T, provider *idp.IdP) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	return &http.Client{Jar: jar, Timeout: 10 * time.Second, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if "http://"+r.URL.Host != provider.Issuer() {
			return http.ErrUseLastResponse
		}
		return nil
	}}
}

func get(t *testing.T, client *http.Client, address string) (*http.Response, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, http.NoBody)
	require.NoError(t, err)
	return do(t, client, request)
}

func do(t *testing.T, client *http.Client, request *http.Request) (*http.Response, string) {
	t.Helper()
	response, err := client.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response, string(body)
}

func post(t *testing.T, client *http.Client, address string, form url.Values, header map[string]string) (*http.Response, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, strings.NewReader(form.Encode()))
	require.NoError(t, err)
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for name, value := range header {
		request.Header.Set(name, value)
	}
	return do(t, client, request)
}

// authorize is the request of Vault's oidc method, with changes.
func authorize(changes url.Values) string {
	sum := sha256.Sum256([]byte(verifier))
	query := url.Values{
		"client_id": {"vault"}, "redirect_uri": {redirect}, "response_type": {"code"}, "scope": {"openid"},
		"state": {"the-state"}, "nonce": {"the-nonce"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
	}
	maps.Copy(query, changes)
	return "/authorize?" + query.Encode()
}

// begin opens the login page and returns the id in its form.
func begin(t *testing.T, provider *idp.IdP, client *http.Client) string {
	t.Helper()
	response, page := get(t, client, provider.Issuer()+authorize(nil))
	require.Equal(t, http.StatusOK, response.StatusCode, page)
	_, after, found := strings.Cut(page, `name="id" value="`)
	require.True(t, found, page)
	id, _, _ := strings.Cut(after, `"`)
	return id
}

// login sends the form, and returns the parameters of the redirect.
func login(t *testing.T, provider *idp.IdP, name, password string) url.Values {
	t.Helper()
	client := browser(t, provider)
	id := begin(t, provider, client)
	response, page := post(t, client, provider.Issuer()+"/login", url.Values{"id": {id}, "name": {name}, "password": {password}}, nil)
	require.Equal(t, http.StatusFound, response.StatusCode, page)
	target, err := response.Location()
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(target.String(), redirect+"?"), target)
	return target.Query()
}

// redeem sends a code to the token endpoint.
func redeem(t *testing.T, provider *idp.IdP, code string, changes url.Values) (status int, answer map[string]any) {
	t.Helper()
	form := url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {redirect}, "code_verifier": {verifier}}
	secret := "the-secret"
	if changes.Has("client_secret") {
		secret = changes.Get("client_secret")
		changes.Del("client_secret")
	}
	maps.Copy(form, changes)
	request := &http.Request{Header: http.Header{}}
	request.SetBasicAuth("vault", secret)
	response, body := post(t, http.DefaultClient, provider.Issuer()+"/oauth/token", form, map[string]string{"Authorization": request.Header.Get("Authorization")})
	require.NoError(t, json.Unmarshal([]byte(body), &answer), body)
	return response.StatusCode, answer
}

// claims are those of an ID token, whose signature is checked with the provider's keys.
func claims(t *testing.T, provider *idp.IdP, token string) map[string]any {
	t.Helper()
	_, body := get(t, http.DefaultClient, provider.Issuer()+"/keys")
	var keys jose.JSONWebKeySet
	require.NoError(t, json.Unmarshal([]byte(body), &keys))
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.RS256})
	require.NoError(t, err)
	var found map[string]any
	require.NoError(t, parsed.Claims(keys, &found))
	return found
}

func TestAPersonSignsIn(t *testing.T) {
	provider := start(t)
	given := login(t, provider, "alice", "of-alice")
	assert.Equal(t, "the-state", given.Get("state"))

	status, answer := redeem(t, provider, given.Get("code"), nil)
	require.Equal(t, http.StatusOK, status, answer)
	found := claims(t, provider, answer["id_token"].(string))
	assert.Equal(t, provider.Issuer(), found["iss"])
	assert.Equal(t, "alice", found["sub"])
	assert.Equal(t, "the-nonce", found["nonce"])
	assert.Equal(t, []any{"vault"}, found["aud"])
	assert.Equal(t, []any{"engineering", "oncall"}, found[idp.GroupsClaim])
	assert.Equal(t, "R&D", found["department"])
	assert.Empty(t, answer["refresh_token"])

	status, answer = redeem(t, provider, given.Get("code"), nil)
	assert.Equal(t, http.StatusBadRequest, status)
	assert.Equal(t, "invalid_grant", answer["error"], "a code is good once")
}

func TestAPersonWithoutGroupsHasNoGroupsClaim(t *testing.T) {
	provider := start(t)
	_, answer := redeem(t, provider, login(t, provider, "bob", "of-bob").Get("code"), nil)
	assert.NotContains(t, claims(t, provider, answer["id_token"].(string)), idp.GroupsClaim)

	require.NoError(t, provider.SetGroups("bob", "oncall"))
	_, answer = redeem(t, provider, login(t, provider, "bob", "of-bob").Get("code"), nil)
	assert.Equal(t, []any{"oncall"}, claims(t, provider, answer["id_token"].(string))[idp.GroupsClaim])
}

func TestACodeIsGoodForItsClientAlone(t *testing.T) {
	provider := start(t)
	for name, changes := range map[string]url.Values{
		"with another verifier":     {"code_verifier": {strings.Repeat("x", 43)}},
		"without a verifier":        {"code_verifier": {""}},
		"with another redirect URI": {"redirect_uri": {"https://evil.example.com/"}},
		"with a wrong secret":       {"client_secret": {"guessed"}},
	} {
		t.Run(name, func(t *testing.T) {
			code := login(t, provider, "alice", "of-alice").Get("code")
			status, answer := redeem(t, provider, code, changes)
			assert.GreaterOrEqual(t, status, http.StatusBadRequest)
			assert.NotContains(t, answer, "id_token")
			status, answer = redeem(t, provider, code, nil)
			assert.Equal(t, http.StatusBadRequest, status, "whoever guesses spends the code")
			assert.NotContains(t, answer, "id_token")
		})
	}
}

func TestWhatIsNotTheCodeFlowWithPKCEIsRefused(t *testing.T) {
	provider := start(t)
	for name, test := range map[string]struct {
		changes   url.Values
		redirects bool
	}{
		"without a challenge":       {url.Values{"code_challenge": {""}, "code_challenge_method": {""}}, true},
		"with a plain challenge":    {url.Values{"code_challenge_method": {"plain"}}, true},
		"the implicit flow":         {url.Values{"response_type": {"id_token"}}, true},
		"without asking anybody":    {url.Values{"prompt": {"none"}}, true},
		"for an unknown client":     {url.Values{"client_id": {"other"}}, false},
		"with an unlisted redirect": {url.Values{"redirect_uri": {"https://evil.example.com/"}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			response, page := get(t, browser(t, provider), provider.Issuer()+authorize(test.changes))
			if !test.redirects {
				assert.Equal(t, http.StatusBadRequest, response.StatusCode, page)
				return
			}
			assert.Equal(t, http.StatusFound, response.StatusCode, page)
			assert.Contains(t, response.Header.Get("Location"), "error=")
			assert.NotContains(t, response.Header.Get("Location"), "code=")
		})
	}
}

func TestALoginIsRefusedInWords(t *testing.T) {
	provider := start(t)
	require.NoError(t, provider.Close("bob"))
	for name, test := range map[string]struct{ person, password, want string }{
		"with a wrong password":      {"alice", "guessed", "do not belong together"},
		"of somebody unknown":        {"eve", "of-eve", "do not belong together"},
		"of a closed account":        {"bob", "of-bob", "This account is closed"},
		"of one with wrong password": {"bob", "guessed", "do not belong together"},
	} {
		t.Run(name, func(t *testing.T) {
			client := browser(t, provider)
			id := begin(t, provider, client)
			response, page := post(t, client, provider.Issuer()+"/login", url.Values{"id": {id}, "name": {test.person}, "password": {test.password}}, nil)
			assert.Equal(t, http.StatusForbidden, response.StatusCode)
			assert.Contains(t, page, test.want)
			assert.NotContains(t, page, "of-alice", "passwords are shown where that is wanted alone")
		})
	}
}

func TestAClosedAccountEndsWhatWasGivenBefore(t *testing.T) {
	provider := start(t)
	code := login(t, provider, "alice", "of-alice").Get("code")
	_, answer := redeem(t, provider, login(t, provider, "alice", "of-alice").Get("code"), nil)
	access, _ := answer["access_token"].(string)
	userinfo := func() int {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, provider.Issuer()+"/userinfo", http.NoBody)
		require.NoError(t, err)
		request.Header.Set("Authorization", "Bearer "+access)
		response, _ := do(t, http.DefaultClient, request)
		return response.StatusCode
	}
	require.Equal(t, http.StatusOK, userinfo())

	require.NoError(t, provider.Close("alice"))
	assert.Equal(t, http.StatusForbidden, userinfo())
	status, answer := redeem(t, provider, code, nil)
	assert.Equal(t, http.StatusBadRequest, status)
	assert.Equal(t, "invalid_grant", answer["error"])

	require.NoError(t, provider.Reopen("alice"))
	login(t, provider, "alice", "of-alice")
	assert.Error(t, provider.Close("eve"), "there is no such person")
}

func TestACancelledLoginIsAnError(t *testing.T) {
	provider := start(t)
	client := browser(t, provider)
	id := begin(t, provider, client)
	response, _ := post(t, client, provider.Issuer()+"/login", url.Values{"id": {id}, "decision": {"cancel"}}, nil)
	require.Equal(t, http.StatusFound, response.StatusCode)
	assert.Contains(t, response.Header.Get("Location"), "error=access_denied")
	assert.Contains(t, response.Header.Get("Location"), "state=the-state")

	response, _ = post(t, client, provider.Issuer()+"/login", url.Values{"id": {id}, "name": {"alice"}, "password": {"of-alice"}}, nil)
	assert.Equal(t, http.StatusBadRequest, response.StatusCode, "a request that was cancelled is over")
}

func TestTheCodeGoesToTheBrowserThatSentThePassword(t *testing.T) {
	provider := start(t)
	client := browser(t, provider)
	id := begin(t, provider, client)
	form := url.Values{"id": {id}, "name": {"alice"}, "password": {"of-alice"}}

	response, _ := post(t, client, provider.Issuer()+"/login", form, map[string]string{"Origin": "https://evil.example.com"})
	assert.Equal(t, http.StatusForbidden, response.StatusCode, "another site's form")
	response, _ = post(t, client, provider.Issuer()+"/login", form, nil)
	require.Equal(t, http.StatusFound, response.StatusCode)
	response, _ = post(t, client, provider.Issuer()+"/login", form, nil)
	assert.Equal(t, http.StatusBadRequest, response.StatusCode, "a second time")
	response, _ = get(t, client, provider.Issuer()+"/authorize/callback?id="+id)
	assert.Equal(t, http.StatusNotFound, response.StatusCode, "by the id alone")
}

func TestTheLoginPageHasNoScript(t *testing.T) {
	provider, err := idp.Start(t.Context(), "127.0.0.1:0", idp.Options{
		ClientID: "vault", ClientSecret: "the-secret", ShowPasswords: true,
		People: []idp.Person{{Name: "<script>", Password: "shown-here"}},
	})
	require.NoError(t, err)
	response, page := get(t, http.DefaultClient, provider.Issuer()+"/login?id=%22%3E%3Cscript%3E")
	assert.Contains(t, response.Header.Get("Content-Security-Policy"), "default-src 'none'")
	assert.Contains(t, page, "shown-here")
	assert.NotContains(t, page, "<script")
}

func TestItListensOnTheLoopbackAlone(t *testing.T) {
	_, err := idp.Start(t.Context(), "0.0.0.0:0", idp.Options{ClientID: "vault", ClientSecret: "the-secret"})
	require.ErrorContains(t, err, "loopback")
	ctx, stop := context.WithCancel(t.Context())
	provider, err := idp.Start(ctx, "127.0.0.1:0", idp.Options{ClientID: "vault", ClientSecret: "the-secret"})
	require.NoError(t, err)
	stop()
	require.Eventually(t, func() bool {
		connection, err := net.Dial("tcp", strings.TrimPrefix(provider.Issuer(), "http://"))
		if err == nil {
			_ = connection.Close()
		}
		return err != nil
	}, 5*time.Second, 5*time.Millisecond, "it serves after its end")
}

func TestOptionsThatAreNotWholeAreRefused(t *testing.T) {
	whole := idp.Options{Issuer: "http://127.0.0.1:1", ClientID: "vault", ClientSecret: "the-secret"}
	for name, test := range map[string]struct {
		change func(*idp.Options)
		want   string
	}{
		"without an issuer":           {func(o *idp.Options) { o.Issuer = "" }, "an issuer"},
		"with an issuer with a path":  {func(o *idp.Options) { o.Issuer += "/x" }, "without a path"},
		"without a secret":            {func(o *idp.Options) { o.ClientSecret = "" }, "its secret"},
		"with somebody with no name":  {func(o *idp.Options) { o.People = []idp.Person{{Password: "x"}} }, "needs a name"},
		"with somebody without a key": {func(o *idp.Options) { o.People = []idp.Person{{Name: "x"}} }, "and a password"},
	} {
		t.Run(name, func(t *testing.T) {
			options := whole
			test.change(&options)
			_, err := idp.New(options)
			assert.ErrorContains(t, err, test.want)
		})
	}
}

func TestTheDemoPrintsWhatNobodyHasGivenIt(t *testing.T) {
	t.Setenv(idp.PasswordVariable+"ALICE", "given-to-alice")
	t.Setenv(idp.SecretVariable, "given-to-vault")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	reader, writer := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- idp.RunDemo(ctx, "127.0.0.1:0", []string{redirect}, writer)
		_ = writer.Close()
	}()
	printed, said := "", bufio.NewScanner(reader)
	for said.Scan() {
		printed += said.Text() + "\n"
		if strings.HasPrefix(said.Text(), idp.Listening) {
			stop()
		}
	}
	require.NoError(t, <-ended)
	assert.Regexp(t, `^password of bob: [a-z2-7]{12}\nlistening on http://127\.0\.0\.1:\d+\n$`, printed)
}
