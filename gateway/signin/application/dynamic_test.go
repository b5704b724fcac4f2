package application

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/seal"
)

const smallest = `{"redirect_uris":["http://localhost:3000/cb"]}`

func withRegistration(t *testing.T) *bed {
	t.Helper()
	return newBed(t, config.SignIn{DynamicRegistration: true, RedirectHosts: []string{"vscode.dev", "app.example.com:8443"}, RedirectSchemes: []string{"cursor"}})
}

func TestWhatIsLeftOutHasTheDefaultsOfRFC7591(t *testing.T) {
	b := withRegistration(t)
	for name, metadata := range map[string]string{
		"left out": smallest,
		"null": `{"redirect_uris":["http://localhost:3000/cb"],"client_name":null,"grant_types":null,"response_types":null,"token_endpoint_auth_method":null,
			"client_uri":null,"logo_uri":null,"contacts":null,"jwks":null,"jwks_uri":null,"scope":null}`,
		"empty": `{"redirect_uris":["http://localhost:3000/cb"],"client_name":"","grant_types":[],"response_types":[],"token_endpoint_auth_method":"",
			"client_uri":"","logo_uri":"","contacts":[],"jwks_uri":"","scope":"","tos_uri":""}`,
		"unheard of": `{"redirect_uris":["http://localhost:3000/cb"],"application_type":"native","x":{"y":[1]},"software_statement":"a.b.c","default_max_age":5}`,
	} {
		t.Run(name, func(t *testing.T) {
			answer := b.register(t, metadata)
			require.Equal(t, MethodBasic, answer["token_endpoint_auth_method"])
			require.Equal(t, []any{"authorization_code", "refresh_token"}, answer["grant_types"])
			require.Equal(t, []any{"code"}, answer["response_types"])
			require.Equal(t, []any{"http://localhost:3000/cb"}, answer["redirect_uris"])
			require.EqualValues(t, 0, answer["client_secret_expires_at"])
			require.Len(t, answer["client_secret"], 43)
			require.NotContains(t, answer, "client_name")
			require.NotContains(t, answer, "client_uri")
			require.NotContains(t, answer, "scope")
			require.NotEmpty(t, b.find(t, answer["client_id"].(string)).Name)
		})
	}
}

func TestTheMethodThatIsReturnedIsTheOneThatIsEnforced(t *testing.T) {
	b := withRegistration(t)
	for _, method := range []string{MethodNone, MethodBasic, MethodPost} {
		answer := b.register(t, `{"redirect_uris":["http://localhost/cb"],"token_endpoint_auth_method":"`+method+`"}`)
		require.Equal(t, method, answer["token_endpoint_auth_method"])
		require.Equal(t, method, b.find(t, answer["client_id"].(string)).AuthMethod)
		_, secret := answer["client_secret"]
		require.Equal(t, method != MethodNone, secret)
		_, ends := answer["client_secret_expires_at"]
		require.Equal(t, method != MethodNone, ends)
	}
}

func TestTheSameMetadataGiveTheSameClientID(t *testing.T) {
	b := withRegistration(t)
	id := func(metadata string) string { return b.register(t, metadata)["client_id"].(string) }
	first := id(`{"client_name":"A","redirect_uris":["http://localhost:1/cb","cursor://x/y"],"token_endpoint_auth_method":"none"}`)
	for name, metadata := range map[string]string{
		"again":                 `{"client_name":"A","redirect_uris":["http://localhost:1/cb","cursor://x/y"],"token_endpoint_auth_method":"none"}`,
		"from another port":     `{"client_name":"A","redirect_uris":["http://localhost:59999/cb","cursor://x/y"],"token_endpoint_auth_method":"none"}`,
		"in another order":      `{"token_endpoint_auth_method":"none","redirect_uris":["cursor://x/y","http://localhost:1/cb"],"client_name":"A"}`,
		"with one twice":        `{"client_name":"A","redirect_uris":["http://localhost:1/cb","cursor://x/y","http://localhost:2/cb"],"token_endpoint_auth_method":"none"}`,
		"with what is not kept": `{"client_name":"A","redirect_uris":["http://localhost:1/cb","cursor://x/y"],"token_endpoint_auth_method":"none","client_uri":"https://x.example","scope":"a b"}`,
		"with a name to clean":  `{"client_name":" A\u202e ","redirect_uris":["http://localhost:1/cb","cursor://x/y"],"token_endpoint_auth_method":"none"}`,
	} {
		require.Equal(t, first, id(metadata), name)
	}
	seen := map[string]bool{first: true}
	for _, metadata := range []string{
		`{"client_name":"B","redirect_uris":["http://localhost:1/cb","cursor://x/y"],"token_endpoint_auth_method":"none"}`,
		`{"client_name":"A","redirect_uris":["http://localhost:1/cb"],"token_endpoint_auth_method":"none"}`,
		`{"client_name":"A","redirect_uris":["http://localhost:1/cb","cursor://x/z"],"token_endpoint_auth_method":"none"}`,
		`{"client_name":"A","redirect_uris":["http://localhost:1/cb","cursor://x/y"],"token_endpoint_auth_method":"client_secret_post"}`,
	} {
		other := id(metadata)
		require.False(t, seen[other], metadata)
		seen[other] = true
	}
	a := b.find(t, first)
	require.Regexp(t, `^dynamic:[a-z2-7]{32}$`, a.ID)
	require.Equal(t, a.ID, b.find(t, first).ID)
}

// TestARegistrationIsGoodAtEveryGatewayAndAfterARestart: it stands in no memory.
func TestARegistrationIsGoodAtEveryGatewayAndAfterARestart(t *testing.T) {
	one, other := withRegistration(t), withRegistration(t)
	answer := one.register(t, smallest)
	a := other.find(t, answer["client_id"].(string))
	require.True(t, a.hasSecret([]string{answer["client_secret"].(string)}))
	public := `{"redirect_uris":["http://localhost/cb"],"token_endpoint_auth_method":"none"}`
	require.Equal(t, one.register(t, public), other.register(t, public))
}

func TestRedirectsThatNobodyMayHaveRefuseTheRegistration(t *testing.T) {
	b := withRegistration(t)
	for _, text := range []string{
		"javascript:alert(1)", "data:text/html,x", "vbscript:x", "file:///x", "https://vscode.dev/x#y", "https://u@vscode.dev/x", "https://vscode.dev/a/../b",
		"https://vscode.dev/%2e%2e/x", "http://vscode.dev/redirect", "http://192.168.1.1/cb", "https://VSCODE.dev/redirect", "localhost:3000/cb", "/cb", "",
		"https://vscode.dev/x?code=y", "http://localhost:3000/cb?state=x", "urn:ietf:wg:oauth:2.0:oob", "cursor:x", "https://*.vscode.dev/", "http://localhost:*/cb",
	} {
		metadata, err := json.Marshal(map[string]any{"redirect_uris": []string{"http://localhost:3000/cb", text}})
		require.NoError(t, err)
		e := b.notRegistered(t, string(metadata))
		require.Equal(t, http.StatusBadRequest, e.Status, text)
		require.Equal(t, "invalid_redirect_uri", e.Code, text)
		require.Contains(t, e.Description, "entry 2", text)
	}
}

// TestASetOfRedirectsIsNotRefusedForOneThatTheFileDoesNotName: Cursor sends three. Where none
// is left, the error names the setting that is missing.
func TestASetOfRedirectsIsNotRefusedForOneThatTheFileDoesNotName(t *testing.T) {
	b := withRegistration(t)
	metadata := `{"redirect_uris":["cursor://a/b","https://www.cursor.com/agents/mcp/oauth/callback","http://localhost:8787/callback"],"token_endpoint_auth_method":"none"}`
	answer := b.register(t, metadata)
	require.Equal(t, []any{"cursor://a/b", "http://localhost:8787/callback"}, answer["redirect_uris"], "the answer says what counts")
	id := answer["client_id"].(string)
	require.False(t, b.find(t, id).AllowsRedirect("https://www.cursor.com/agents/mcp/oauth/callback"))
	b.settings.RedirectHosts = append(b.settings.RedirectHosts, "www.cursor.com")
	require.NoError(t, b.Configure(b.settings))
	require.True(t, b.find(t, id).AllowsRedirect("https://www.cursor.com/agents/mcp/oauth/callback"), "nobody need register again")

	for redirect, want := range map[string]string{
		"other://x/y":                              "the scheme other is not in redirect_schemes",
		"https://app.example.com/cb":               "the host app.example.com is not in redirect_hosts",
		"https://app.example.com:8444/cb":          "the host app.example.com:8444 is not in redirect_hosts",
		"https://chatgpt.com/connector/oauth/abc":  "not below one of redirect_prefixes",
		"https://vscode.dev.evil.example/redirect": "the host vscode.dev.evil.example is not",
	} {
		e := b.notRegistered(t, `{"redirect_uris":["`+redirect+`"]}`)
		require.Equal(t, http.StatusBadRequest, e.Status)
		require.Equal(t, "invalid_redirect_uri", e.Code)
		require.Contains(t, e.Description, want)
	}
}

// TestNobodyGetsAnothersSecretByRegisteringTheSame: metadata are known to everybody.
func TestNobodyGetsAnothersSecretByRegisteringTheSame(t *testing.T) {
	b := withRegistration(t)
	for _, method := range []string{MethodBasic, MethodPost} {
		metadata := `{"client_name":"A","redirect_uris":["http://localhost/cb"],"token_endpoint_auth_method":"` + method + `"}`
		owner, stranger := b.register(t, metadata), b.register(t, metadata)
		require.NotEqual(t, owner["client_secret"], stranger["client_secret"])
		require.NotEqual(t, owner["client_id"], stranger["client_id"])
		a := b.find(t, owner["client_id"].(string))
		require.True(t, a.hasSecret([]string{owner["client_secret"].(string)}))
		require.False(t, a.hasSecret([]string{stranger["client_secret"].(string)}))
		require.NotEqual(t, a.ID, b.find(t, stranger["client_id"].(string)).ID)
	}
}

// TestThePresentFileJudgesOldRegistrations: at every Find.
func TestThePresentFileJudgesOldRegistrations(t *testing.T) {
	b := withRegistration(t)
	private := b.register(t, `{"redirect_uris":["cursor://a/b"]}`)["client_id"].(string)
	mixed := b.register(t, `{"redirect_uris":["cursor://a/b","http://127.0.0.1/cb","https://app.example.com:8443/cb"]}`)["client_id"].(string)
	checkRedirects(t, b.find(t, mixed), []string{"cursor://a/b", "http://127.0.0.1:9/cb", "https://app.example.com:8443/cb"}, nil)

	require.NoError(t, b.Configure(&config.SignIn{DynamicRegistration: true}))
	e := b.refused(t, private)
	require.Equal(t, Refused, e.Kind)
	require.Contains(t, e.Advice, "redirect_schemes")
	checkRedirects(t, b.find(t, mixed), []string{"http://127.0.0.1:9/cb"}, []string{"cursor://a/b", "https://app.example.com:8443/cb"})

	require.NoError(t, b.Configure(&config.SignIn{}))
	e = b.refused(t, mixed)
	require.Equal(t, Refused, e.Kind)
	require.Contains(t, e.Advice, "dynamic_registration")
	status, code := e.OAuth()
	require.Equal(t, http.StatusUnauthorized, status)
	require.Equal(t, "invalid_client", code)
	refusal := b.notRegistered(t, smallest)
	require.Equal(t, http.StatusForbidden, refusal.Status)
	require.Contains(t, refusal.Description, "dynamic_registration")
}

func TestMetadataThatCannotBeServedAreRefusedWithWords(t *testing.T) {
	b := withRegistration(t)
	many := strings.Repeat(`"http://localhost/cb",`, maxRedirects) + `"http://localhost/cb"`
	long := make([]string, 20)
	for i := range long {
		long[i] = fmt.Sprintf(`"http://localhost/%d/%s"`, i, strings.Repeat("a", 300))
	}
	tests := map[string]struct{ metadata, code, want string }{
		"no JSON":                 {"x", "invalid_client_metadata", "not a JSON object"},
		"nothing":                 {"", "invalid_client_metadata", "not a JSON object"},
		"a list":                  {"[]", "invalid_client_metadata", "not a JSON object"},
		"a null":                  {"null", "invalid_client_metadata", "not a JSON object"},
		"trailing data":           {smallest + "{}", "invalid_client_metadata", "not a JSON object"},
		"no redirects":            {"{}", "invalid_redirect_uri", "redirect_uris is empty"},
		"empty redirects":         {`{"redirect_uris":[]}`, "invalid_redirect_uri", "redirect_uris is empty"},
		"redirects in other case": {`{"Redirect_URIs":["http://localhost/cb"]}`, "invalid_redirect_uri", "redirect_uris is empty"},
		"a redirect and no list":  {`{"redirect_uris":"http://localhost/cb"}`, "invalid_redirect_uri", "another type"},
		"many redirects":          {`{"redirect_uris":[` + many + `]}`, "invalid_redirect_uri", "at most 30"},
		"more than fits":          {`{"redirect_uris":[` + strings.Join(long, ",") + `]}`, "invalid_client_metadata", "do not fit into a client_id"},
		"an absurd size":          {`{"redirect_uris":["http://localhost/cb"],"x":"` + strings.Repeat("x", 40<<10) + `"}`, "invalid_client_metadata", "larger than 32 KB"},
		"a name of another type":  {`{"redirect_uris":["http://localhost/cb"],"client_name":{"a":"b"}}`, "invalid_client_metadata", "client_name has another type"},
		"keys of its own":         {`{"redirect_uris":["http://localhost/cb"],"token_endpoint_auth_method":"private_key_jwt","jwks_uri":"https://evil.example/k"}`, "invalid_client_metadata", "private_key_jwt needs a metadata document"},
		"another method":          {`{"redirect_uris":["http://localhost/cb"],"token_endpoint_auth_method":"client_secret_jwt"}`, "invalid_client_metadata", "not one of none, client_secret_basic"},
		"a method in other case":  {`{"redirect_uris":["http://localhost/cb"],"token_endpoint_auth_method":"NONE"}`, "invalid_client_metadata", "not one of none"},
		"another grant":           {`{"redirect_uris":["http://localhost/cb"],"grant_types":["client_credentials"]}`, "invalid_client_metadata", "authorization_code"},
		"the implicit grant":      {`{"redirect_uris":["http://localhost/cb"],"grant_types":["implicit"],"response_types":["token"]}`, "invalid_client_metadata", "authorization_code"},
		"another response type":   {`{"redirect_uris":["http://localhost/cb"],"response_types":["code id_token"]}`, "invalid_client_metadata", "does not have code"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			e := b.notRegistered(t, test.metadata)
			require.Equal(t, http.StatusBadRequest, e.Status)
			require.Equal(t, test.code, e.Code)
			require.Contains(t, e.Description, test.want)
		})
	}
}

func TestAClientIDFitsIntoAURL(t *testing.T) {
	b := withRegistration(t)
	redirects := make([]string, 15)
	for i := range redirects {
		redirects[i] = fmt.Sprintf("http://localhost/a/long/path/of/a/callback/%d", i)
	}
	metadata, err := json.Marshal(map[string]any{"client_name": strings.Repeat("ü", 500), "redirect_uris": redirects})
	require.NoError(t, err)
	answer := b.register(t, string(metadata))
	id := answer["client_id"].(string)
	require.LessOrEqual(t, len(id), maxClientID)
	require.Equal(t, url.QueryEscape(id), id, "and needs no escapes")
	require.Equal(t, strings.Repeat("ü", 200), answer["client_name"])
	checkRedirects(t, b.find(t, id), redirects, nil)
}

func TestClientIDsThatThisMountDidNotMakeAreUnknown(t *testing.T) {
	b := withRegistration(t)
	id := b.register(t, smallest)["client_id"].(string)
	otherMount := keysOf(1)
	otherMount.MountID = "another"
	foreign, err := seal.New(func() *grants.SessionKeys { return otherMount }).SealLasting(seal.Registration, []byte(`{"r":["http://localhost/cb"],"m":"none"}`))
	require.NoError(t, err)
	otherPurpose, err := seal.New(b.keys.Load).SealLasting(seal.Secret, []byte(`{"r":["http://localhost/cb"],"m":"none"}`))
	require.NoError(t, err)
	expiring, err := seal.New(b.keys.Load).Seal(seal.Registration, nil, []byte(`{"r":["http://localhost/cb"],"m":"none"}`))
	require.NoError(t, err)
	for name, other := range map[string]string{
		"nothing": "", "the prefix": dynamicPrefix, "no prefix": strings.TrimPrefix(id, dynamicPrefix), "twice the prefix": dynamicPrefix + id,
		"a character more": id + "A", "a character less": id[:len(id)-1], "a space": id + " ", "upper case": strings.ToUpper(id),
		"another mount": dynamicPrefix + foreign, "another purpose": dynamicPrefix + otherPurpose, "what expires": dynamicPrefix + expiring,
		"an absurd length": dynamicPrefix + strings.Repeat("A", 1<<20), "a word": "cursor", "a path": "../../etc", "NUL": "\x00", "its own id": b.find(t, id).ID,
	} {
		e := b.refused(t, other)
		require.Equal(t, Unknown, e.Kind, name)
		status, code := e.OAuth()
		require.Equal(t, http.StatusUnauthorized, status, name)
		require.Equal(t, "invalid_client", code, name)
	}
}

// TestAfterDropOldRegistrationsAreUnknown: and only Vault's word counts for that. A gateway
// that has not heard of the new key asks for it.
func TestAfterDropOldRegistrationsAreUnknown(t *testing.T) {
	b := withRegistration(t)
	old := b.register(t, smallest)["client_id"].(string)
	b.keys.Store(keysOf(2))
	fresh := b.register(t, smallest)
	require.NotEqual(t, old, fresh["client_id"])

	b.failed.Store(true)
	e := b.refused(t, old)
	require.Equal(t, Unavailable, e.Kind, "Vault may have another key")
	status, code := e.OAuth()
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Equal(t, "temporarily_unavailable", code)

	b.failed.Store(false)
	require.Equal(t, Unknown, b.refused(t, old).Kind)

	b.keys.Store(keysOf(1)) // a gateway that is late
	b.fresh.Store(keysOf(2))
	a := b.find(t, fresh["client_id"].(string))
	require.True(t, a.hasSecret([]string{fresh["client_secret"].(string)}))
}

// TestWhatIsNoRegistrationCostsVaultNothing: strangers choose client_ids.
func TestWhatIsNoRegistrationCostsVaultNothing(t *testing.T) {
	b := withRegistration(t)
	id := b.register(t, smallest)["client_id"].(string)
	for _, other := range []string{"", "x", dynamicPrefix, dynamicPrefix + "AAAA", id + "A", id[:len(id)-2] + "AA", "https://evil.example/x"} {
		require.Contains(t, []Kind{Unknown, Refused}, b.refused(t, other).Kind)
	}
	require.Zero(t, b.refresh.Load())
}

func TestWithoutKeysNothingIsSaidOfRegistrations(t *testing.T) {
	b := withRegistration(t)
	id := b.register(t, smallest)["client_id"].(string)
	for name, keys := range map[string]*grants.SessionKeys{"no keys": nil, "no registration key": {MountID: "mount", Current: 1, Keys: map[int][32]byte{1: {1}}}} {
		b.keys.Store(keys)
		require.Equal(t, Unavailable, b.refused(t, id).Kind, name)
		e := b.notRegistered(t, smallest)
		require.Equal(t, http.StatusServiceUnavailable, e.Status, name)
		require.Equal(t, "temporarily_unavailable", e.Code, name)
	}
}
